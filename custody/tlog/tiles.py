"""Where the hashes and entries of a log are stored (tlog-tiles).

::

    tile/<L>/<N>[.p/<W>]         W (1..255) or 256 hashes of 32 bytes: the nodes of level 8L from index 256N on
    tile/entries/<N>[.p/<W>]     as many entries, each u16be length || bytes
    documents/<N>[.p/<W>]        what stands behind as many entries (no part of tlog-tiles; ``custody.entries.stored``)
    N = groups of three digits, all but the last with an "x" before them: 1234067 -> x001/x234/067

The partial tile at level L of a tree of ``size`` leaves is ``(size >> 8L) % 256`` wide; width 0 is never stored, and a
partial tile is not hashed into the level above.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from custody.errors import FormatError
from custody.tlog.lines import HASH_SIZE, SIZE_END
from custody.tlog.merkle import HashAt

__all__ = [
    "DOCUMENTS",
    "ENTRIES",
    "MAX_ENTRY_SIZE",
    "MAX_OBJECT",
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "Tile",
    "changed_bundles",
    "changed_tiles",
    "encode_bundle",
    "encode_tile",
    "parse_bundle",
    "parse_tile",
    "tile_width",
]

TILE_HEIGHT = 8  # tree levels in a tile
TILE_WIDTH = 1 << TILE_HEIGHT  # hashes or entries in a full tile
MAX_ENTRY_SIZE = 0xFFFF  # bytes
MAX_OBJECT = TILE_WIDTH * (2 + MAX_ENTRY_SIZE)  # bytes of the largest object of a log, an entry bundle
ENTRIES = -1  # the level of entry bundles
DOCUMENTS = -2  # and that of the bundles of their documents
_FOLDERS = {ENTRIES: "tile/entries", DOCUMENTS: "documents"}
_LEVELS = {folder: level for level, folder in _FOLDERS.items()}
_MAX_LEVEL = 63
_LENGTH_SIZE = 2
_PATH = re.compile(
    r"(?P<folder>documents|tile/(?:entries|0|[1-9][0-9]?))/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """The address of a tile: ``level`` 0..63, ``ENTRIES`` or ``DOCUMENTS``; ``index`` in it; ``width`` 1..256."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        """Refuse addresses that no tree has."""
        if not DOCUMENTS <= self.level <= _MAX_LEVEL or not 0 <= self.index < SIZE_END:
            raise FormatError(f"tile: level {self.level}, index {self.index} do not exist")
        if not 1 <= self.width <= TILE_WIDTH:
            raise FormatError(f"tile: width {self.width} is not within 1..{TILE_WIDTH}")

    @property
    def full(self) -> bool:
        """Whether it holds all 256."""
        return self.width == TILE_WIDTH

    def path(self) -> str:
        """Return the path below the log's prefix."""
        folder = _FOLDERS.get(self.level) or f"tile/{self.level}"
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        index = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        return f"{folder}/{index}" + ("" if self.full else f".p/{self.width}")

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a path; ``FormatError`` for any other spelling than that of ``path()``."""
        match = _PATH.fullmatch(path)
        if match is None:
            raise FormatError("tile: not a tile path")
        folder = match["folder"]
        level = _LEVELS[folder] if folder in _LEVELS else int(folder.removeprefix("tile/"))
        index = int(match["index"].replace("x", "").replace("/", ""))
        tile = cls(level, index, int(match["width"] or TILE_WIDTH))
        if tile.path() != path:
            raise FormatError("tile: path is not canonical")
        return tile


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes (or entries) a tree of ``size`` leaves has in this tile: 0 where there is no tile."""
    present = size >> TILE_HEIGHT * max(level, 0)
    return max(0, min(TILE_WIDTH, present - index * TILE_WIDTH))


def _changed(level: int, old: int, size: int) -> Iterator[Tile]:
    """Yield the tiles of one level that differ between two sizes."""
    old_count, count = (n >> TILE_HEIGHT * max(level, 0) for n in (old, size))
    if old_count == count:
        return
    for index in range(old_count // TILE_WIDTH, -(-count // TILE_WIDTH)):
        yield Tile(level, index, tile_width(level, index, size))


def changed_tiles(old: int, size: int) -> list[Tile]:
    """List the hash tiles to store when a log grows from ``old`` to ``size`` leaves, level by level."""
    tiles: list[Tile] = []
    level = 0
    while size >> TILE_HEIGHT * level:
        tiles += _changed(level, old, size)
        level += 1
    return tiles


def changed_bundles(old: int, size: int) -> list[Tile]:
    """List the entry bundles to store when a log grows from ``old`` to ``size`` leaves."""
    return list(_changed(ENTRIES, old, size))


def encode_tile(tile: Tile, hash_at: HashAt) -> bytes:
    """Collect the hashes of a tile (``level`` 0 or more)."""
    first = tile.index * TILE_WIDTH
    return b"".join(hash_at(TILE_HEIGHT * tile.level, first + i) for i in range(tile.width))


def parse_tile(data: bytes, width: int) -> list[bytes]:
    """Cut a tile into its hashes; ``FormatError`` unless it is exactly ``width`` hashes long."""
    if len(data) != width * HASH_SIZE:
        raise FormatError(f"tile: {len(data)} bytes instead of {width * HASH_SIZE}")
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Join entries of at most 65,535 bytes each (``ValueError`` beyond) into a bundle."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_SIZE:
            raise ValueError(f"an entry of {len(entry)} bytes does not fit into a bundle")
        parts += (len(entry).to_bytes(_LENGTH_SIZE, "big"), entry)
    return b"".join(parts)


def parse_bundle(data: bytes, width: int) -> Sequence[bytes]:
    """Cut a bundle into exactly ``width`` entries without a byte left; ``FormatError`` otherwise."""
    entries: list[bytes] = []
    position = 0
    while len(entries) < width:
        start = position + _LENGTH_SIZE
        end = start + int.from_bytes(data[position:start], "big")
        if end > len(data) or start > len(data):
            raise FormatError(f"entry bundle: ends within entry {len(entries)} of {width}")
        entries.append(data[start:end])
        position = end
    if position != len(data):
        raise FormatError(f"entry bundle: {len(data) - position} bytes after the last entry")
    return entries
