"""Which partial tiles are stored, so that they can go once the full tile is there and published.

A log that publishes every few entries would otherwise keep each bundle up to 255 times. Tidying is never needed for
being right (tlog-tiles, Partial Tiles: a log MAY delete them then), so whatever goes wrong with it is passed over.

What an earlier process left, and what it failed to delete, is found by walking through the store once after each start,
a little at every publication: a large log has thousands of names, and nobody shall wait for them.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from custody.errors import CustodyError, FormatError
from custody.ports import Store
from custody.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, Tile

__all__ = ["Partials"]

_STEP: Final = 512  # names looked at in one go


class Partials:
    """The partial tiles and bundles in a store, by the full tile that replaces them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._paths: dict[Tile, set[str]] = {}
        self._left: Iterator[str] | None = None

    def wrote(self, tile: Tile) -> None:
        """Remember a tile that is stored; full ones do not matter."""
        if not tile.full:
            self._paths.setdefault(Tile(tile.level, tile.index), set()).add(tile.path())

    def tidy(self, size: int) -> None:
        """Delete those whose full tile is stored and covered by a published checkpoint of ``size`` leaves."""
        with suppress(CustodyError):
            self._look_around()
        done = [full for full in self._paths if (size >> TILE_HEIGHT * max(full.level, 0)) // TILE_WIDTH > full.index]
        for full in done:
            paths = self._paths.pop(full)
            with suppress(CustodyError):
                # Always so, since it was durable before the checkpoint was signed; but a store that has lost it
                # meanwhile shall not lose what its partial tiles still hold.
                if self._store.exists(full.path()):
                    self._delete(paths)

    def _look_around(self) -> None:
        """Take the next names of the store into account; after the last one there is nothing more to do."""
        if self._left is None:
            self._left = (path for prefix in ("tile/", "documents/") for path in self._store.list(prefix))
        for path in islice(self._left, _STEP):
            with suppress(FormatError):
                self.wrote(Tile.parse(path))

    def _delete(self, paths: set[str]) -> None:
        for path in paths:
            with suppress(CustodyError):
                self._store.delete(path, durable=False)  # what comes back is found after the next start
