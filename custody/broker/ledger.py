"""The broker's hold on the journal: one writer, and the state that the entries imply.

An entry is judged by ``custody.rules.step`` and appended in the same critical section, so state and journal move
together: when a rule refuses, neither has changed; when the commit fails, the state is folded anew from what the
journal really holds. Entries that come while a transaction is being committed share the next one: an fsync takes
milliseconds, whatever it is for. Nobody sees the state before it is committed.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from custody.broker.clock import SteadyClock
from custody.documents.dsse import Envelope, Signer
from custody.documents.root import Root
from custody.entries.entry import DocumentRef, Entry, Party
from custody.entries.receipt import Receipt
from custody.errors import UnavailableError
from custody.ports import Journal, JournalTransaction, Rng
from custody.publishing.publisher import Publisher
from custody.rules.state import State
from custody.rules.step import step
from custody.values import Time

__all__ = ["BrokerIdentity", "Ledger", "reference"]

_PAGE: Final = 1024
_GROUP: Final = 256  # entries that are committed together at most
# What waits for the log and for a clock that behaves. Ends and stops never wait.
_GRANTING: Final = frozenset(
    {"manifest", "request", "decision", "release", "grant", "opening-intent", "session-intent", "hello"}
)
_IN_VIEW: Final = frozenset({"request", "release-key", "decision", "release", "grant", "stop", "close"})


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """Which broker this is: its id in the trust root, its signing key, and the digest of its code (hex)."""

    id: str
    signer: Signer
    build: str

    @property
    def party(self) -> Party:
        """The broker as an entry names it."""
        return Party(id=f"broker:{self.id}", credential=self.signer.key_id)


@dataclass(slots=True)
class _Wanted:
    """An entry that somebody wants appended, and what came of it."""

    kind: str
    documents: Mapping[str, Envelope]
    also: Callable[[JournalTransaction], None] | None
    fields: Mapping[str, object]
    index: int = -1
    entry: Entry | None = None
    error: Exception | None = None
    done: bool = False


def reference(envelope: Envelope, kind: str) -> DocumentRef:
    """Return how an entry names a document."""
    return DocumentRef(kind=kind, document=envelope.digest, envelope=envelope.envelope_digest)


class Ledger:
    """Journal, state and publisher of one broker. Methods may be called from any thread."""

    def __init__(
        self,
        journal: Journal,
        publisher: Publisher,
        state: State,
        identity: BrokerIdentity,
        *,
        clock: SteadyClock,
        rng: Rng,
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.rng = rng
        self.publisher = publisher
        self._journal = journal
        self._pinned = (state.deployment, state.genesis)
        self._state = state
        self._stale = False
        self._lock = threading.RLock()
        self._reader = threading.local()
        self._queue: deque[_Wanted] = deque()
        self._by_request: dict[str, list[int]] = defaultdict(list)
        self._request_of: dict[str, str] = {}
        self._listeners: list[Callable[[str], None]] = []

    def fold(self) -> None:
        """Make the state anew from the journal. Raises ``IntegrityError`` when the journal breaks a rule."""
        with self._lock:
            state = State(*self._pinned)
            self._by_request, self._request_of = defaultdict(list), {}
            for index, entry in self.entries(0):
                documents = {item.envelope: self.envelope(item.envelope) for item in entry.documents}
                step(state, entry, documents)
                self._index(index, entry)
            self._state, self._stale = state, False

    @contextmanager
    def reading(self) -> Iterator[State]:
        """Hold the state still while it is looked at. Do not keep it, and do not wait for anything inside."""
        with self._lock:
            self._reader.depth = getattr(self._reader, "depth", 0) + 1
            try:
                yield self._current()
            finally:
                self._reader.depth -= 1

    def glance(self) -> State:
        """Return the state without waiting for a writer that waits for the database: for stops, which wait for nobody.

        It may be an entry ahead of the journal. Look, decide, and do not keep it.
        """
        return self._state

    def append(
        self,
        kind: str,
        *,
        documents: Mapping[str, Envelope] | None = None,
        also: Callable[[JournalTransaction], None] | None = None,
        publish: bool = True,
        **fields: object,
    ) -> int:
        """Judge and append one entry; returns its index. It is committed then, and not yet published.

        ``documents`` are envelopes by payload kind; ``also`` runs in the same transaction. ``publish`` is false for an
        entry that another follows at once: both are published together then, without waiting for a round each. Raises
        what the rules raise, or ``UnavailableError`` when the journal does; nothing has happened then.
        """
        if kind in _GRANTING:
            self.clock.require_steady()
            self.publisher.require_room()
        wanted = _Wanted(kind, documents or {}, also, fields)
        if getattr(self._reader, "depth", 0):  # the caller has looked at the state and must find it as it was
            self._commit([wanted])
        else:
            self._queue.append(wanted)
            with self._lock:  # whoever comes first commits for all who wait here: one fsync for many
                while not wanted.done:
                    self._commit([self._queue.popleft() for _ in range(min(len(self._queue), _GROUP))])
        if wanted.error is not None:
            raise wanted.error
        if publish:
            self.publisher.notify()
        for listener in self._listeners:
            listener((wanted.entry and wanted.entry.request) or "")
        return wanted.index

    def _commit(self, group: Sequence["_Wanted"]) -> None:
        """Judge and append a group in one transaction; the lock is held. Each learns what became of its own entry.

        A rule refuses one entry and leaves the state as it was: the others go on. Any other failure means that nothing
        of the group has happened.
        """
        size = 0
        try:
            state = self._current()
            size = state.size
            with self._journal.transaction() as transaction:
                self._require_alone(transaction.size, size)
                for wanted in group:
                    before = state.size
                    try:
                        self._add(wanted, state, transaction)
                    except Exception as error:
                        if state.size != before:
                            raise
                        wanted.error = error
        except BaseException as error:
            # The state may be ahead of the journal now; whoever looks next folds it anew first.
            self._stale = self._stale or self._state.size > size
            reason = error if isinstance(error, Exception) else UnavailableError("the broker was interrupted")
            for wanted in group:
                wanted.error = wanted.error or reason
            if reason is not error:
                raise
        else:
            for wanted in group:
                if wanted.entry is not None and wanted.error is None:
                    self._index(wanted.index, wanted.entry)
        finally:
            for wanted in group:
                wanted.done = True

    def _add(self, wanted: "_Wanted", state: State, transaction: JournalTransaction) -> None:
        documents = wanted.documents
        entry = Entry(
            schema="custody/entry/v1",
            type=wanted.kind,  # type: ignore[arg-type]  # callers pass literals; Entry refuses any other on parse
            id=self.rng(16).hex(),
            time=Time(self.clock()),
            broker=self.identity.id,
            build=self.identity.build,
            root=state.root_digest or next(iter(documents.values())).digest,
            policy=(state.root if state.roots else next(iter(documents.values())).document(Root)).policy,
            documents=tuple(reference(envelope, name) for name, envelope in documents.items()),
            **wanted.fields,  # type: ignore[arg-type]  # checked by Entry.parse below
        )
        data = entry.encode()
        entry = Entry.parse(data)
        step(state, entry, {item.envelope_digest: item for item in documents.values()})
        wanted.index = transaction.append(data)
        wanted.entry = entry
        for envelope in documents.values():
            transaction.add_document(envelope.envelope_digest, envelope.encode())
        if wanted.also:
            wanted.also(transaction)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the request digest (or "") after every entry, from the thread that appended it."""
        self._listeners.append(listener)

    def entries(self, start: int) -> Iterator[tuple[int, Entry]]:
        """Yield committed entries from ``start`` on."""
        while rows := self._journal.rows(start, _PAGE):
            for row in rows:
                yield row.index, Entry.parse(row.entry)
            start = rows[-1].index + 1

    def entry(self, index: int) -> Entry:
        """Return one committed entry."""
        (row,) = self._journal.rows(index, 1)
        return Entry.parse(row.entry)

    def entries_of(self, request: str) -> Sequence[int]:
        """Indexes of a request's entries, sessions and openings apart."""
        with self._lock:
            return tuple(self._by_request.get(request, ()))

    def request_of(self, envelope: str) -> str:
        """Return the digest of the request in whose view a document stands, by envelope digest; "" for none."""
        with self._lock:
            return self._request_of.get(envelope, "")

    def envelope(self, digest: str) -> Envelope:
        """Return a stored envelope by envelope digest."""
        return Envelope.parse(self._journal.document(digest))

    def shares(self, request: str) -> Mapping[str, bytes]:
        """Return the wrapped shares at hand for a request, by slot."""
        return self._journal.shares(request)

    def forget_shares(self, request: str) -> None:
        """Delete the wrapped shares of a request."""
        with self._lock, self._journal.transaction() as transaction:
            transaction.delete_shares(request)

    def receipt(self, index: int, timeout: float) -> Receipt:
        """Wait until the entry is published and witnessed. Raises ``UnavailableError`` at the deadline."""
        return self.publisher.wait(index, timeout)

    def _index(self, index: int, entry: Entry) -> None:
        """Note what belongs to a request's view."""
        if entry.request and entry.type in _IN_VIEW:
            self._by_request[entry.request].append(index)
            for item in entry.documents:
                self._request_of[item.envelope] = entry.request

    def _require_alone(self, rows: int, folded: int) -> None:
        """Judge nothing by a state that another process has left behind (``custody broker end-log`` is one)."""
        if rows != folded:
            self._stale = True
            raise UnavailableError("another process has written to the ledger", hint="ask again")

    def _current(self) -> State:
        if self._stale:
            self.fold()
        return self._state
