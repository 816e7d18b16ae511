"""Publishes the journal: rounds in a thread of its own, and receipts for everybody who waits.

A round signs what has gathered in the journal, asks the witnesses, and makes the cosigned checkpoint visible; then it
wakes those whose entries it covers. It fails in two ways. Something is down (a witness, the store, the ledger): the
round is tried again, waiters get their deadline and the reason, and nothing is published meanwhile. Or the parts
contradict each other: ``failed`` holds the error, every wait raises it, and this publisher never runs again.

At start nothing new is signed before a quorum of witnesses has cosigned what the ledger signed last. Quorums overlap,
so a ledger restored from an older copy, even together with its log store, meets a witness that has seen more.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from custody.entries.receipt import Receipt
from custody.errors import ConfigError, CustodyError, IntegrityError, StoppedError, UnavailableError
from custody.ports import Clock, Journal, Store
from custody.publishing.batch import BatchWriter, Head
from custody.publishing.history import REBUILD
from custody.publishing.recovery import recover
from custody.publishing.release import Policies, Releaser
from custody.publishing.settings import Settings
from custody.publishing.succession import succeed
from custody.publishing.witnesses import MonitoredWitness, WitnessPanel
from custody.tlog.merkle import leaf_hash
from custody.tlog.note import NoteSigner
from custody.tlog.proof import Proof

__all__ = ["Published", "Publisher"]


class Published(NamedTuple):
    """The newest checkpoint that everybody may see; before the first one, size 0 and no bytes."""

    size: int
    checkpoint: bytes


class Publisher:
    """The one publisher of a log. ``recover`` first, then ``start`` (or ``run`` in a thread of the caller's).

    ``signer`` is the log's key, named like the log. ``witnesses()`` returns those to ask now; ``policies`` says which
    of them are enough. ``clock`` only judges the times that witnesses state.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        signer: NoteSigner,
        *,
        policies: Policies,
        witnesses: Callable[[], Sequence[MonitoredWitness]],
        clock: Clock,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings or Settings()
        self._journal = journal
        self._store = store
        self._log_key = signer.vkey
        self._panel = WitnessPanel(clock, self._settings.witness_timeout, self._settings.skew)
        self._releaser = Releaser(store, self._panel, policies, witnesses, signer.vkey)
        self._batch = BatchWriter(journal, store, signer)
        self._head: Head | None = None
        self._confirmed = False  # a quorum has cosigned the signed checkpoint since this process started
        self._round = threading.RLock()
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._done = threading.Condition(lock)
        self._announced = True
        self._known = 0
        self._stopping = False
        self._visible: Head | None = None
        self._published_size = 0
        self._failed: CustodyError | None = None
        self._trouble = ""
        self._listeners: list[Callable[[int], None]] = []
        self._thread: threading.Thread | None = None

    @property
    def published(self) -> Published:
        """The newest published checkpoint."""
        visible = self._visible
        return Published(visible.size, visible.note) if visible else Published(0, b"")

    @property
    def failed(self) -> CustodyError | None:
        """Why this publisher has stopped for good, if it has."""
        return self._failed

    def on_published(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """Call ``listener(size)`` after each publication, and once when the publisher fails; return what undoes that.

        It runs in the publisher's thread: it must be quick, and what it raises is dropped.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def recover(self) -> None:
        """Find out where the log stands. Signs only the empty tree, and that only in a new ledger.

        Raises ``IntegrityError`` or ``ConfigError`` where ledger and log contradict each other: it never runs then.
        ``UnavailableError`` may be tried again.
        """
        with self._round, self._judged():
            found = recover(self._journal, self._store, self._log_key)
            self._batch.restore(found.tree, found.documents)
            self._head = found.head or self._batch.begin()
            if found.published is not None:
                size = self._published_size = found.published.size
                if self._releaser.accepted(found.published.note, size, size):
                    self._show(found.published)

    def succeed(self, vkey: str, final: bytes) -> None:
        """Go on as the log ``vkey`` where a predecessor ended with ``final``, unless that is done; then ``recover``."""
        with self._round, self._judged():
            if self._log_key.encode() == vkey:
                succeed(self._journal, self._store, self._batch, final)
                return
            raise ConfigError(
                f"the log key that is configured is {self._log_key.encode()}, the trust root names {vkey}",
                hint="name the key of that log under [log] in the configuration",
            )

    def start(self) -> None:
        """Run in a new thread until ``stop``."""
        self._thread = threading.Thread(target=self.run, name="publisher", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Publish until ``stop`` is called or the publisher fails."""
        pause = 0.0
        while self._rest(pause):
            try:
                while self.publish_once() and not self._stopping:
                    pass
                pause = 0.0
            except CustodyError:
                if self._failed is not None:
                    return
                pause = min(max(2 * pause, self._settings.retry_first), self._settings.retry_most)
            except Exception as error:
                self._fail(CustodyError(f"the publisher broke: {type(error).__name__}"))
                raise

    def stop(self) -> None:
        """End the thread soon. Who waits gets ``UnavailableError``; what is not published yet is so after a start."""
        with self._work:
            self._stopping = True
            self._work.notify_all()
            self._done.notify_all()
        self._panel.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._settings.witness_timeout)  # it is a daemon: a store that hangs must not hold us

    def notify(self, size: int) -> None:
        """Tell the publisher that the journal has grown to ``size`` entries, all of them committed."""
        with self._work:
            self._known = max(self._known, size)
            self._announced = True
            self._work.notify()

    def require_room(self, size: int) -> None:
        """Raise ``UnavailableError`` while too many of ``size`` entries wait to be published. Ask before granting,
        never before stopping something.
        """
        waiting = size - self.published.size
        if waiting >= self._settings.backlog:
            raise UnavailableError(f"the log is {waiting} entries behind: {self._reason()}")

    def wait(self, index: int, timeout: float) -> Receipt:
        """Return the receipt of an entry as soon as it is published.

        Raises ``UnavailableError`` with the reason after ``timeout`` seconds or when the publisher stops, and
        ``failed`` once it has failed.
        """
        with self._done:
            self._done.wait_for(
                lambda: self._failed or self._stopping or self.published.size > index, max(0.0, timeout)
            )
        return self.settled(index, timeout)

    def settled(self, index: int, waited: float) -> Receipt:
        """Return the receipt of an entry, or raise as ``wait`` does: for those who have waited ``waited`` seconds
        elsewhere.
        """
        if self._failed is not None:
            raise self._failed.with_traceback(None)
        if self.published.size > index:
            return self.receipt(index)
        if self._stopping:
            raise UnavailableError(f"entry {index} is not published: the log is stopping")
        raise UnavailableError(f"entry {index} is not published after {waited:g} s: {self._reason()}")

    def at_hand(self, index: int) -> Receipt | None:
        """Return the receipt of an entry that was published just now, without waiting for anything; ``None`` where it
        is not published, or where the ledger or the log's store must be asked.
        """
        visible = self._visible
        if visible is None or self._failed is not None or index >= visible.size:
            return None
        found = visible.history.at_hand(index)
        if found is None:
            return None
        entry, hashes = found
        return Receipt(entry, Proof(index, tuple(hashes), visible.note).encode())

    def receipt(self, index: int) -> Receipt:
        """Return the receipt of a published entry: its bytes, and its proof under the newest published checkpoint.

        Raises ``UnavailableError`` for an entry that is not published, ``IntegrityError`` where the ledger holds
        another one than was published.
        """
        visible = self._visible
        if visible is None or not 0 <= index < visible.size:
            raise UnavailableError(f"entry {index} is not published")
        rows = self._journal.rows(index, 1)
        if not rows or leaf_hash(rows[0].entry) != visible.history.leaf(index):
            raise IntegrityError(f"entry {index} of the ledger is not the one that was published", hint=REBUILD)
        proof = Proof(index, tuple(visible.history.inclusion_proof(index)), visible.note)
        return Receipt(rows[0].entry, proof.encode())

    def publish_once(self) -> bool:
        """Do one round; return whether there was something to do. For tests and tools; ``run`` calls it.

        Raises ``UnavailableError`` where the round may be tried again; after any other error ``failed`` is set.
        """
        with self._round, self._judged():
            if self._head is None:
                raise ValueError("recover first")
            head = self._grow(self._head)
            if self._confirmed and self._visible is not None and self._visible.size == head.size:
                return False
            self._release(head)
            return True

    def _grow(self, head: Head) -> Head:
        """Sign what has gathered, at most one batch."""
        if not self._confirmed:
            return head
        size = self._known if self._known > head.size else self._journal.size()
        if size < head.size:
            raise IntegrityError(f"the ledger has {size} entries and has signed {head.size}", hint=REBUILD)
        end = min(size, head.size + self._settings.batch)
        if end > head.size:
            head = self._head = self._batch.grow(head, end)
        return head

    def _release(self, head: Head) -> None:
        """Have a checkpoint cosigned; publish it unless it is published already."""
        note = self._releaser.cosign(head, self._published_size)
        self._confirmed = True
        if self._visible is None or self._visible.size != head.size:
            self._show(Head(self._releaser.publish(head, note, self._published_size), head.history))
        self._batch.tidy(head.size)

    def _show(self, visible: Head) -> None:
        with self._done:
            self._visible = visible
            self._published_size = visible.size
            self._trouble = ""
            self._done.notify_all()
        self._tell(visible.size)

    def _tell(self, size: int) -> None:
        for listener in tuple(self._listeners):
            with suppress(Exception):
                listener(size)

    def _fail(self, error: CustodyError) -> None:
        with self._done:
            self._failed = error
            self._done.notify_all()
        self._tell(self.published.size)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Tell what may be tried again from what is for good."""
        if self._failed is not None:
            raise self._failed.with_traceback(None)
        try:
            yield
        except UnavailableError as error:
            self._trouble = error.message
            if isinstance(error, StoppedError):  # a ledger or store that stopped itself does not come back
                self._fail(error)
            raise
        except CustodyError as error:
            self._fail(error)
            raise

    def _rest(self, pause: float) -> bool:
        """Wait for the pause after a failure, or for work and a little more to gather; return whether to go on."""
        with self._work:
            if pause:
                self._work.wait_for(lambda: self._stopping, pause)
            else:
                self._work.wait_for(lambda: self._stopping or self._announced, self._settings.poll)
                if self._announced:
                    self._work.wait_for(lambda: self._stopping, self._settings.delay)
            self._announced = False
            return not self._stopping

    def _reason(self) -> str:
        """Say in one line what publishing waits for."""
        waiting = [f"witness {name} has not answered" for name in self._panel.waiting]
        return "; ".join([*waiting, self._trouble] if self._trouble else waiting) or "the log is behind"
