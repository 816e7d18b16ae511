"""A ledger that fails when told to."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from custody.adapters.ledger_errors import LedgerStoppedError
from custody.errors import UnavailableError
from custody.ports import Journal, JournalRow, JournalTransaction, Pruned
from tests.doubles.store import Dead, Fault

__all__ = ["FaultyJournal"]

_T = TypeVar("_T")


class FaultyJournal:
    """Any ledger, failing at operation ``at`` (from 0, or the first of that name; None: never) as the real one would.

    Operations: every read, every swap, and the end of every transaction. ``names`` lists them. An I/O error while
    writing and a lost answer stop it for good; ``ENOSPC`` makes all later writes fail, reads go on.
    """

    def __init__(self, journal: Journal, *, at: int | str | None = None, fault: Fault = Fault.EIO) -> None:
        self._journal = journal
        self._at = at
        self._fault = fault
        self._stopped = False
        self.names: list[str] = []

    @property
    def done(self) -> int:
        """How many operations there were."""
        return len(self.names)

    def _do(self, name: str, operation: Callable[[], _T], *, writes: bool = False) -> _T:
        number = self.done
        self.names.append(name)
        if self._at == name:
            self._at = number
        if self._stopped and writes:
            raise LedgerStoppedError("the ledger has stopped", outcome_unknown=False)
        if (
            not isinstance(self._at, int)
            or number < self._at
            or (number > self._at and not self._goes_on(writes=writes))
        ):
            return operation()
        if self._fault is Fault.KILLED:
            raise Dead
        if writes and self._fault is Fault.PERSISTED:
            operation()
        if writes and self._fault is not Fault.ENOSPC:
            self._stopped = True
            raise LedgerStoppedError("the ledger has stopped", outcome_unknown=self._fault is Fault.PERSISTED)
        raise UnavailableError(f"ledger: operation {number}: {self._fault.value}")

    def _goes_on(self, *, writes: bool) -> bool:
        return self._fault is Fault.KILLED or (self._fault is Fault.ENOSPC and writes)

    @contextmanager
    def _transaction(self) -> Iterator[JournalTransaction]:
        with ExitStack() as stack:
            yield stack.enter_context(self._journal.transaction())
            self._do("commit", stack.pop_all().close, writes=True)

    def transaction(self) -> AbstractContextManager[JournalTransaction]:
        return self._transaction()

    def rows(self, start: int, limit: int) -> Sequence[JournalRow]:
        return self._do("rows", lambda: self._journal.rows(start, limit))

    def size(self) -> int:
        return self._do("size", self._journal.size)

    def document(self, envelope_digest: str, entry: int | None = None) -> bytes:
        return self._do("document", lambda: self._journal.document(envelope_digest, entry))

    def documents(self, named: Mapping[str, int]) -> Mapping[str, bytes]:
        return self._do("documents", lambda: self._journal.documents(named))

    def shares(self, request: str) -> Mapping[str, bytes]:
        return self._do("shares", lambda: self._journal.shares(request))

    def checkpoint(self) -> bytes | None:
        return self._do("checkpoint", self._journal.checkpoint)

    def swap_checkpoint(self, old: bytes | None, new: bytes) -> None:
        self._do("swap", lambda: self._journal.swap_checkpoint(old, new), writes=True)

    def pruned(self) -> Pruned | None:
        return self._do("pruned", self._journal.pruned)

    def prune(self, to: Pruned, documents: Collection[str]) -> None:
        self._do("prune", lambda: self._journal.prune(to, documents), writes=True)

    def close(self) -> None:
        self._journal.close()
