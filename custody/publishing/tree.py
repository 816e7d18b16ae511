"""The right edge of the log in memory, from which every new tile and bundle is made.

It holds the hashes of the last, partial tile of each level, and the entries and documents of the last, partial bundle:
of 255 at most, whatever the size of the log.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from custody.entries.stored import encode_documents
from custody.tlog.checkpoint import EMPTY_ROOT
from custody.tlog.merkle import leaf_hash, node_hash, right_edge
from custody.tlog.tiles import DOCUMENTS, ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, encode_bundle

__all__ = ["DocumentWriter", "StoredTile", "TreeWriter"]


class StoredTile(NamedTuple):
    """A tile or bundle and the bytes to store under its path."""

    tile: Tile
    data: bytes


class TreeWriter:
    """Appends entries; gives out tiles as they become full, and the partial ones on demand."""

    __slots__ = ("_entries", "_levels", "_size")

    def __init__(self, size: int = 0, entries: Sequence[bytes] = (), levels: Sequence[Sequence[bytes]] = ()) -> None:
        """Start with the empty tree, or with parts of another (see ``copy``)."""
        self._size = size
        self._entries = list(entries)
        self._levels = [list(level) for level in levels]

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def copy(self) -> Self:
        """Return an independent tree: a batch that fails is dropped with it."""
        return type(self)(self._size, self._entries, self._levels)

    def extend(self, entries: Iterable[bytes]) -> list[StoredTile]:
        """Append entries; return the bundles and tiles that became full, in that order."""
        full: list[StoredTile] = []
        for entry in entries:
            self._entries.append(entry)
            self._size += 1
            if len(self._entries) == TILE_WIDTH:
                index = (self._size - 1) // TILE_WIDTH
                full.append(StoredTile(Tile(ENTRIES, index), encode_bundle(self._entries)))
                self._entries = []
            self._push(0, leaf_hash(entry), full)
        return full

    def partial(self) -> list[StoredTile]:
        """Return the bundle and tiles of the right edge as they are now; one of width 0 does not exist."""
        stored = []
        if self._entries:
            tile = Tile(ENTRIES, self._size // TILE_WIDTH, len(self._entries))
            stored.append(StoredTile(tile, encode_bundle(self._entries)))
        for level, hashes in enumerate(self._levels):
            if hashes:
                index = (self._size >> TILE_HEIGHT * level) // TILE_WIDTH
                stored.append(StoredTile(Tile(level, index, len(hashes)), b"".join(hashes)))
        return stored

    def root(self) -> bytes:
        """Return the root over all leaves (RFC 6962 section 2.1)."""
        peaks = [self._peak(level, index) for level, index in right_edge(self._size)]
        if not peaks:
            return EMPTY_ROOT
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root

    def _push(self, level: int, value: bytes, full: list[StoredTile]) -> None:
        """Add a hash to a level; a tile that becomes full is one hash of the level above."""
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes.append(value)
        if len(hashes) == TILE_WIDTH:
            index = (self._size - 1 >> TILE_HEIGHT * level) // TILE_WIDTH
            full.append(StoredTile(Tile(level, index), b"".join(hashes)))
            self._levels[level] = []
            self._push(level + 1, _top(hashes), full)

    def _peak(self, level: int, index: int) -> bytes:
        """Return a node of the right edge. It lies in a partial tile: the top of a full one is in the level above."""
        tile_level, row = divmod(level, TILE_HEIGHT)
        first = (index << row) % TILE_WIDTH
        return _top(self._levels[tile_level][first : first + (1 << row)])


class DocumentWriter:
    """Appends what stands behind each entry; gives out bundles as ``TreeWriter`` does."""

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int = 0, entries: Sequence[bytes] = ()) -> None:
        """Start after the documents of ``size`` entries; ``entries`` is what the last, partial bundle holds of each."""
        self._size = size
        self._entries = list(entries)

    def copy(self) -> Self:
        """Return an independent one: a batch that fails is dropped with it."""
        return type(self)(self._size, self._entries)

    def extend(self, documents: Iterable[Sequence[bytes]]) -> list[StoredTile]:
        """Append the envelopes of the next entries; return the bundles that became full."""
        full: list[StoredTile] = []
        for envelopes in documents:
            self._entries.append(encode_documents(envelopes))
            self._size += 1
            if len(self._entries) == TILE_WIDTH:
                tile = Tile(DOCUMENTS, (self._size - 1) // TILE_WIDTH)
                full.append(StoredTile(tile, b"".join(self._entries)))
                self._entries = []
        return full

    def partial(self) -> list[StoredTile]:
        """Return the bundle of the right edge as it is now, if there is one."""
        if not self._entries:
            return []
        tile = Tile(DOCUMENTS, self._size // TILE_WIDTH, len(self._entries))
        return [StoredTile(tile, b"".join(self._entries))]


def _top(hashes: list[bytes]) -> bytes:
    """Hash a power of two of nodes together."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]
