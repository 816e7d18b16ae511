"""One entry at a time from a log that was not audited as a whole: to be shown, or proved to somebody else.

Here a checkpoint is judged by trust roots that were given, not by those in the log. The newest of them must accept it;
an older one only where that is asked for, since a key that was removed since could have signed it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from custody.audit.reading import Entries
from custody.audit.source import Source
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt, Verified, verify
from custody.errors import CustodyError, FormatError, IntegrityError
from custody.tlog.policy import CheckedCheckpoint, Policy
from custody.tlog.proof import Proof

__all__ = ["Judged", "LogView", "check_receipt"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Judged:
    """A verified receipt and the trust root that accepted its checkpoint."""

    verified: Verified
    root: Root


class LogView:
    """The entries under the newest checkpoint, each hash authenticated. ``root`` is the one that accepted it."""

    def __init__(self, source: Source, roots: Sequence[Root]) -> None:
        """Read the checkpoint. ``roots`` are verified, oldest first.

        Raises ``NotFoundError`` where there is no log, ``IntegrityError`` where no root accepts it or the tiles do not
        lead to it.
        """
        self.note = source.fetch("checkpoint")
        self.checked, self.root = _under(roots, lambda policy: policy.check(self.note))
        self._entries = Entries(source, self.checked.checkpoint)

    @property
    def checkpoint(self) -> CheckedCheckpoint:
        """The newest checkpoint."""
        return self.checked

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._entries.size

    def entries(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the indexes and bytes of entries from ``begin`` to ``end`` (exclusive)."""
        return self._entries.between(begin, end)

    def entry(self, index: int) -> bytes:
        """Return the bytes of an entry. Raises ``NotFoundError`` where the log has no such entry."""
        return self._entries.one(index)

    def documents(self, index: int, entry: Entry) -> Sequence[Envelope]:
        """Return the documents of the entry of this index; their digests are verified, their signatures are not."""
        return self._entries.documents(index, entry)

    def receipt(self, index: int) -> Receipt:
        """Return the entry and its proof under the newest checkpoint."""
        data = self.entry(index)
        return Receipt(data, Proof(index, tuple(self._entries.proof(index)), self.note).encode())


def check_receipt(receipt: Receipt, roots: Sequence[Root]) -> Judged:
    """Verify a receipt under the newest of ``roots`` (verified, oldest first) that accepts it.

    Roots before the one that the entry names are not asked: they were no longer in force. Raises what the newest root
    says is wrong.
    """
    named = Entry.parse(receipt.entry).root
    known = [root.digest for root in roots]
    if named not in known:
        raise IntegrityError(
            f"the entry names trust root {named[:16]}…, which is not among the roots that are known here",
            hint="give the newest trust roots with --root",
        )
    verified, root = _under(roots[known.index(named) :], lambda policy: verify(receipt, policy))
    return Judged(verified, root)


def _under(roots: Sequence[Root], check: Callable[[Policy], _T]) -> tuple[_T, Root]:
    """Return what ``check`` says under the newest root that it accepts, and that root."""
    problem: CustodyError | None = None
    for root in reversed(roots):
        try:
            return check(root.checkpoint_policy), root
        except (FormatError, IntegrityError) as error:
            problem = problem or error
    raise problem or IntegrityError("there is no trust root")
