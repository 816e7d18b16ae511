"""The entries of a log up to a size and a root that somebody verified, each authenticated by its hash as it is read."""

from collections.abc import Iterator, Sequence

from custody.audit.documents import read_document
from custody.audit.source import Source
from custody.documents.dsse import Envelope
from custody.entries.entry import Entry
from custody.entries.stored import StoredDocuments
from custody.errors import NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import root_hash
from custody.tlog.reader import TileReader
from custody.tlog.tiles import TILE_WIDTH, tile_width

__all__ = ["Entries"]


class Entries:
    """Entries under ``checkpoint``, which the caller has verified."""

    def __init__(self, source: Source, checkpoint: Checkpoint) -> None:
        """Raises ``IntegrityError`` where the tiles do not lead to the root of the checkpoint."""
        self._reader = TileReader(source.fetch, checkpoint)
        self._stored = StoredDocuments(source.fetch, checkpoint.size)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._reader.size

    def between(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the indexes and bytes of entries from ``begin`` to ``end`` (exclusive)."""
        while begin < min(end, self.size):
            index, first = divmod(begin, TILE_WIDTH)
            last = min(tile_width(-1, index, self.size), end - index * TILE_WIDTH)
            for offset, data in enumerate(self._reader.bundle(index)[first:last], start=first):
                yield index * TILE_WIDTH + offset, data
            begin = index * TILE_WIDTH + last

    def one(self, index: int) -> bytes:
        """Return the bytes of an entry. Raises ``NotFoundError`` where the log has no such entry."""
        if not 0 <= index < self.size:
            raise NotFoundError(f"there is no entry {index}: the log has entries 0 to {self.size - 1}")
        return next(data for _, data in self.between(index, index + 1))

    def documents(self, index: int, entry: Entry) -> Sequence[Envelope]:
        """Return the documents of the entry of this index; their digests are verified, their signatures are not."""
        return [read_document(self._stored, index, entry.documents, place) for place in range(len(entry.documents))]

    def proof(self, index: int) -> Sequence[bytes]:
        """Return the hashes from the sibling of an entry upwards."""
        return self._reader.inclusion_proof(index)

    def root_at(self, size: int) -> bytes:
        """Return the root of the log when it had ``size`` entries. Raises ``NotFoundError`` beyond its end."""
        if not 0 <= size <= self.size:
            raise NotFoundError(f"there is no size {size}: the log has {self.size} entries")
        return root_hash(size, self._reader.hash_at)
