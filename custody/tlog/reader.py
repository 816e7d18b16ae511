"""Reading a log whose storage is not trusted: every hash and entry is authenticated against one checkpoint.

A tile is believed in one of two ways only, and always as a whole:

* The partial tiles of the right edge, one per level, are folded to the root of the checkpoint before anything else.
* A full tile is hashed to its top, which must equal the hash that the (already believed) tile above states for it.

Judging only the hashes that a proof happens to use, or believing a full tile because its neighbour was right, is how
golang.org/x/mod accepted forged tiles (CVE-2026-56865). Entries are hashed one by one against their level 0 tile.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from custody.errors import IntegrityError, NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import consistency_proof, inclusion_proof, leaf_hash, node_hash, root_hash
from custody.tlog.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, parse_bundle, parse_tile, tile_width

__all__ = ["TileReader"]

_Rows = list[list[bytes]]  # rows[k][i]: node of level 8L+k; only complete nodes
_CACHED_TILES = 128  # about 40 KB each


def _rows_of(hashes: list[bytes]) -> _Rows:
    """Hash a tile upwards, complete nodes only."""
    rows = [hashes]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])
    return rows


class TileReader:
    """Hashes, proofs and entries of the log as of one checkpoint that the caller has verified.

    ``fetch(path)`` returns the stored bytes, or raises ``NotFoundError``; a missing partial tile is looked for in
    the full one that has replaced it. Raises ``IntegrityError`` where what it gets does not lead to the root.
    Not safe for use by several threads at once.
    """

    def __init__(self, fetch: Callable[[str], bytes], checkpoint: Checkpoint) -> None:
        """Read the right edge and require that it hashes to the root of ``checkpoint``."""
        checkpoint.require_sound_root()
        self._fetch = fetch
        self._size = checkpoint.size
        self._edge: dict[int, _Rows] = {}
        self._full: OrderedDict[tuple[int, int], _Rows] = OrderedDict()
        level = 0
        while count := self._size >> TILE_HEIGHT * level:
            if width := count % TILE_WIDTH:
                self._edge[level] = _rows_of(self._hashes(Tile(level, count // TILE_WIDTH, width)))
            level += 1
        # The root is made of right-edge nodes only, and each of those lies in a partial tile: a node that tops a full
        # tile is the last hash of the level above.
        if root_hash(self._size, self._edge_hash) != checkpoint.root:
            raise IntegrityError(
                f"the tiles of {checkpoint.origin} do not lead to the root of its checkpoint of size {self._size}"
            )

    @property
    def size(self) -> int:
        """Number of leaves of the checkpoint."""
        return self._size

    def hash_at(self, level: int, index: int) -> bytes:
        """Return a complete node, authenticated. ``ValueError`` where the tree does not have it."""
        if level < 0 or index < 0 or index + 1 << level > self._size:
            raise ValueError(f"no complete node at level {level}, index {index} in a tree of {self._size}")
        tile_level, row = divmod(level, TILE_HEIGHT)
        per_tile = TILE_WIDTH >> row
        rows = self._rows(tile_level, index // per_tile)
        return rows[row][index % per_tile]

    def leaves(self, index: int) -> Sequence[bytes]:
        """Return the leaf hashes ``256 * index`` and following, authenticated. ``ValueError`` where there are none."""
        if index < 0 or not tile_width(0, index, self._size):
            raise ValueError(f"no leaf tile {index} in a tree of {self._size}")
        return self._rows(0, index)[0]

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Prove leaf ``index`` under the checkpoint."""
        return inclusion_proof(index, self._size, self.hash_at)

    def consistency_proof(self, old: int) -> list[bytes]:
        """Prove that the checkpoint continues the tree of ``old`` leaves."""
        return consistency_proof(old, self._size, self.hash_at)

    def bundle(self, index: int) -> Sequence[bytes]:
        """Return the entries ``256 * index`` and following, each compared with its authenticated leaf hash."""
        width = tile_width(ENTRIES, index, self._size)
        if index < 0 or not width:
            raise ValueError(f"no entry bundle {index} in a tree of {self._size}")
        leaves = self._rows(0, index)[0]
        data, found = self._get(Tile(ENTRIES, index, width))
        entries = parse_bundle(data, found)[:width]
        for offset, (entry, leaf) in enumerate(zip(entries, leaves, strict=True)):
            if leaf_hash(entry) != leaf:
                raise IntegrityError(f"entry {index * TILE_WIDTH + offset} is not the one that the checkpoint covers")
        return entries

    def _edge_hash(self, level: int, index: int) -> bytes:
        """Return a node of the right edge from its partial tile."""
        tile_level, row = divmod(level, TILE_HEIGHT)
        return self._edge[tile_level][row][index % (TILE_WIDTH >> row)]

    def _rows(self, level: int, index: int) -> _Rows:
        """Return an authenticated tile of a level that has it."""
        if tile_width(level, index, self._size) < TILE_WIDTH:
            return self._edge[level]
        cached = self._full.get((level, index))
        if cached is not None:
            self._full.move_to_end((level, index))
            return cached
        expected = self._rows(level + 1, index // TILE_WIDTH)[0][index % TILE_WIDTH]
        rows = _rows_of(self._hashes(Tile(level, index)))
        if rows[TILE_HEIGHT][0] != expected:
            raise IntegrityError(f"{Tile(level, index).path()} does not hash to what the tile above it states")
        self._full[level, index] = rows
        if len(self._full) > _CACHED_TILES:
            self._full.popitem(last=False)
        return rows

    def _hashes(self, tile: Tile) -> list[bytes]:
        """Fetch the hashes of a tile, not yet authenticated."""
        data, found = self._get(tile)
        return parse_tile(data, found)[: tile.width]

    def _get(self, tile: Tile) -> tuple[bytes, int]:
        """Fetch a tile, or the full one in its place; return the bytes and the width they must have."""
        try:
            return self._fetch(tile.path()), tile.width
        except NotFoundError:
            if tile.full:
                raise
        try:
            return self._fetch(Tile(tile.level, tile.index).path()), TILE_WIDTH
        except NotFoundError as error:
            raise NotFoundError(f"{tile.path()} is missing") from error
