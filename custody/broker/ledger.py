"""The broker's hold on the journal: one writer, and the state that the entries imply.

An entry is judged by ``custody.rules.step`` and appended in the same critical section, so state and journal move
together: when a rule refuses, neither has changed; when the commit fails, the state is folded anew from what the
journal really holds. What comes while a transaction is being committed shares the next one, looking at the state
included (``together``): an fsync takes milliseconds, whatever it is for. Nobody sees the state before it is committed.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from custody.broker.acts import Act, Acts
from custody.broker.clock import SteadyClock
from custody.broker.folding import Prover, fold, nobody
from custody.documents.dsse import Envelope, Signer
from custody.documents.root import Root
from custody.entries.entry import DocumentRef, Entry, Party
from custody.entries.receipt import Receipt
from custody.errors import UnavailableError
from custody.ports import Journal, JournalTransaction, Rng
from custody.publishing.publisher import Publisher
from custody.rules.state import State
from custody.rules.step import step
from custody.tlog.merkle import leaf_hash
from custody.values import Time

__all__ = ["BrokerIdentity", "Ledger", "reference"]

_T = TypeVar("_T")

_PAGE: Final = 1024
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
class _Group:
    """The transaction under way and what was appended in it. ``torn``: an entry was judged and is not whole yet.
    ``publish``: something of it is to be published at once.
    """

    transaction: JournalTransaction
    added: list[tuple[int, Entry]] = field(default_factory=list)
    torn: bool = False
    publish: bool = False


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
        prover: Prover = nobody,
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.rng = rng
        self.publisher = publisher
        self._journal = journal
        self._prover = prover
        self._pinned = (state.deployment, state.genesis)
        self._state = state
        self._stale = False
        self._lock = threading.RLock()
        self._reader = threading.local()
        self._group: _Group | None = None  # while it is not None, the lock is held
        self._acts = Acts(self._run)
        self._by_request: dict[str, list[int]] = defaultdict(list)
        self._request_of: dict[str, tuple[str, int]] = {}
        self._listeners: list[Callable[[str], None]] = []

    def close(self) -> None:
        """Wait for what is being committed. Nothing is appended afterwards."""
        self._acts.close()

    def fold(self) -> None:
        """Make the state anew from the journal. Raises ``IntegrityError`` when the journal breaks a rule."""
        with self._lock:
            state = State(*self._pinned)
            self._by_request, self._request_of = defaultdict(list), {}
            for index, entry in fold(self._journal, state, self._prover):
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

    def together(self, work: Callable[[State], _T]) -> _T:
        """Let ``work`` look at the state and append what follows from it; return what it returns, once committed.

        The commit is shared with others, so ``work`` must wait for nothing and keep nothing of the state; what it does
        beside appending must be undone when this raises. Raises what ``work`` raises: what it had appended stands
        then; or ``UnavailableError`` when the journal fails: nothing has happened then.
        """
        if self._group is not None and getattr(self._reader, "writes", False):
            return work(self._state)
        act = Act(work)
        if getattr(self._reader, "depth", 0):  # the caller has looked at the state and must find it as it was
            self._run([act])
            return act.future.result()
        return self._acts.put(act).result()

    def submit(self, work: Callable[[State], _T]) -> "Future[_T]":
        """Do as ``together`` does, without waiting for it. Cancelled before its turn, nothing of it is done."""
        return self._acts.put(Act(work))

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
        what the rules raise, or ``UnavailableError`` when the journal does; nothing has happened then. Within
        ``together`` it is committed with the rest.
        """

        def work(state: State) -> int:
            index = self._add(state, kind, documents or {}, also, fields)
            if publish and self._group is not None:
                self._group.publish = True
            return index

        return self.together(work)

    def _run(self, acts: Sequence[Act[Any]]) -> None:
        """Do a group in one transaction. Each learns what became of its own.

        What is refused leaves the state as it was: the others go on. Any other failure means that nothing of the group
        has happened.
        """
        done: _Group | None = None
        try:
            with self._lock:
                done = self._commit(acts)
        finally:
            if done is not None and done.publish:
                self.publisher.notify(done.added[-1][0] + 1)
            for act in acts:
                act.tell()
        for _, entry in done.added if done is not None else ():
            for listener in self._listeners:
                listener(entry.request or "")

    def _commit(self, acts: Sequence[Act[Any]]) -> _Group | None:
        """Do a group in one transaction and return it, or ``None`` where nothing has happened; the lock is held."""
        size = 0
        try:
            state = self._current()
            size = state.size
            with self._journal.transaction() as transaction:
                self._require_alone(transaction.size, size)
                self._group = group = _Group(transaction)
                self._reader.writes = True
                for act in acts:
                    try:
                        act.result = act.work(state)
                    except Exception as error:
                        if group.torn:
                            raise
                        act.error = error
        except BaseException as error:
            # The state may be ahead of the journal now; whoever looks next folds it anew first.
            self._stale = self._stale or self._state.size > size
            reason = error if isinstance(error, Exception) else UnavailableError("the broker was interrupted")
            for act in acts:
                act.error = act.error or reason
            if reason is not error:
                raise
            return None
        else:
            for index, entry in group.added:
                self._index(index, entry)
            return group
        finally:
            self._group, self._reader.writes = None, False

    def _add(
        self,
        state: State,
        kind: str,
        documents: Mapping[str, Envelope],
        also: Callable[[JournalTransaction], None] | None,
        fields: Mapping[str, object],
    ) -> int:
        group = self._group
        assert group is not None  # noqa: S101 - for mypy: only ``_commit`` does what acts do
        if kind in _GRANTING:
            self.clock.require_steady()
            self.publisher.require_room(state.size)
        entry = Entry(
            schema="custody/entry/v1",
            type=kind,  # type: ignore[arg-type]  # callers pass literals; Entry refuses any other on parse
            id=self.rng(16).hex(),
            time=Time(self.clock()),
            broker=self.identity.id,
            build=self.identity.build,
            root=state.root_digest or next(iter(documents.values())).digest,
            policy=(state.root if state.roots else next(iter(documents.values())).document(Root)).policy,
            documents=tuple(reference(envelope, name) for name, envelope in documents.items()),
            **fields,  # type: ignore[arg-type]  # checked by Entry.parse below
        )
        data = entry.encode()
        entry = Entry.parse(data)
        found = {item.envelope_digest: item for item in documents.values()}
        step(state, entry, found, leaf=leaf_hash(data).hex())
        group.torn = True  # from here on, state and transaction belong together
        index = group.transaction.append(data)
        for envelope in documents.values():
            group.transaction.add_document(envelope.envelope_digest, envelope.encode())
        if also:
            also(group.transaction)
        group.added.append((index, entry))
        group.torn = False
        return index

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the request digest (or "") after every entry, from the thread that committed it."""
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
            return self._request_of.get(envelope, ("", 0))[0]

    def envelope(self, digest: str, entry: int) -> Envelope:
        """Return a stored envelope by envelope digest; the entry of this index names it."""
        return Envelope.parse(self._journal.document(digest, entry))

    def document(self, digest: str) -> bytes:
        """Return the bytes of an envelope by envelope digest.

        Raises ``NotFoundError`` where there is none; also for one that was pruned, unless a request's view has it.
        """
        with self._lock:
            entry = self._request_of.get(digest, ("", None))[1]
        return self._journal.document(digest, entry)

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
                self._request_of[item.envelope] = (entry.request, index)

    def _require_alone(self, rows: int, folded: int) -> None:
        """Judge nothing by a state that another process has left behind (``custody broker end-log`` is one)."""
        if rows != folded:
            self._stale = True
            raise UnavailableError("another process has written to the ledger", hint="ask again")

    def _current(self) -> State:
        if self._stale:
            self.fold()
        return self._state
