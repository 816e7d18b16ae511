"""Which partial tiles are stored, so that they can go once the full tile is there and published.

A log that publishes every few entries would otherwise keep each bundle up to 255 times. Tidying is never needed for
being right (tlog-tiles, Partial Tiles: a log MAY delete them then), so whatever goes wrong with it is passed over.
"""

from contextlib import suppress

from custody.errors import CustodyError
from custody.ports import Store
from custody.tlog.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile

__all__ = ["Partials"]


class Partials:
    """The partial tiles of the right edge, by the full tile that will replace them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._paths: dict[Tile, set[str]] = {}

    def find(self, size: int) -> None:
        """Look in the store for those that an earlier process left at the right edge of a tree of ``size`` leaves."""
        level = ENTRIES
        while count := size >> TILE_HEIGHT * max(level, 0):
            full = Tile(level, count // TILE_WIDTH)
            self._paths.setdefault(full, set()).update(self._store.list(f"{full.path()}.p/"))
            level += 1

    def wrote(self, tile: Tile) -> None:
        """Remember a tile that was stored; full ones do not matter."""
        if not tile.full:
            self._paths.setdefault(Tile(tile.level, tile.index), set()).add(tile.path())

    def tidy(self, size: int) -> None:
        """Delete those whose full tile is covered by a published checkpoint of ``size`` leaves."""
        done = [full for full in self._paths if (size >> TILE_HEIGHT * max(full.level, 0)) // TILE_WIDTH > full.index]
        for full in done:
            for path in self._paths.pop(full):
                with suppress(CustodyError):
                    self._store.delete(path)
