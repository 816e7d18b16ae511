"""What this process has committed just now, so that whoever publishes it, or proves it, need not read it back.

A database gives up the interpreter with every row, and under load gets it back late: reading what was written a moment
ago took a third of a round of the publisher. Nothing depends on what is remembered: where it lacks something the ledger
is asked. Whoever edits the database meanwhile does not change what is published, and is found out at the next start,
when all rows are compared with the signed root.
"""

import threading
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from custody.ports import JournalRow, JournalTransaction

__all__ = ["Newest", "Noted"]

_K = TypeVar("_K", bound=Hashable)

_MOST: Final = 4 << 20  # bytes of entries, and as many of documents


class Noted:
    """A ``JournalTransaction`` that notes what is added in it."""

    def __init__(self, transaction: JournalTransaction) -> None:
        self._transaction = transaction
        self.entries: dict[int, bytes] = {}
        self.documents: dict[str, bytes] = {}
        self.put_share: Final = transaction.put_share
        self.delete_shares: Final = transaction.delete_shares

    @property
    def size(self) -> int:
        """See ``JournalTransaction.size``."""
        return self._transaction.size

    def append(self, entry: bytes) -> int:
        """See ``JournalTransaction.append``."""
        index = self._transaction.append(entry)
        self.entries[index] = entry
        return index

    def add_document(self, envelope_digest: str, envelope: bytes) -> None:
        """See ``JournalTransaction.add_document``."""
        self._transaction.add_document(envelope_digest, envelope)
        self.documents[envelope_digest] = envelope


class _Recent(Generic[_K]):
    """The newest of what was added, up to a number of bytes."""

    def __init__(self) -> None:
        self._held: dict[_K, bytes] = {}
        self._bytes = 0

    def add(self, items: Mapping[_K, bytes]) -> None:
        for key, data in items.items():
            if key not in self._held:
                self._held[key] = data
                self._bytes += len(data)
        while self._bytes > _MOST:
            self._bytes -= len(self._held.pop(next(iter(self._held))))

    def all_of(self, keys: Collection[_K]) -> Mapping[_K, bytes] | None:
        """Return these, in this order; ``None`` where one is lacking."""
        found: dict[_K, bytes] = {}
        for key in keys:
            if (data := self._held.get(key)) is None:
                return None
            found[key] = data
        return found


class Newest:
    """The newest entries and documents that were committed here. Safe for use by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries = _Recent[int]()
        self._documents = _Recent[str]()

    def add(self, noted: Noted) -> None:
        """Remember what was noted, once it is committed."""
        with self._lock:
            self._entries.add(noted.entries)
            self._documents.add(noted.documents)

    def rows(self, start: int, limit: int) -> Sequence[JournalRow] | None:
        """Return ``limit`` rows from ``start`` on, without their MACs; ``None`` unless all are at hand."""
        with self._lock:
            found = self._entries.all_of(range(start, start + limit))
        return None if found is None else [JournalRow(index, entry, b"") for index, entry in found.items()]

    def documents(self, digests: Collection[str]) -> Mapping[str, bytes] | None:
        """Return documents by envelope digest; ``None`` unless all are at hand."""
        with self._lock:
            return self._documents.all_of(digests)
