"""Every tile of the log made again from its entries, and compared with what is stored (c2sp.org/tlog-tiles).

Only the right edge is held: at most 255 hashes a level. A stored tile is never used to make the root, so a forged one
changes nothing but itself; it still misleads those who read tiles, and is named.
"""

from collections.abc import Mapping, Sequence

from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.entries.stored import StoredDocuments, parse_documents
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.tlog.lines import HASH_SIZE
from custody.tlog.merkle import Frontier, leaf_hash
from custody.tlog.tiles import DOCUMENTS, ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, parse_bundle

__all__ = ["Bundles", "TileCheck"]


class TileCheck:
    """Takes leaf hashes in order; finds hash tiles that are not what they must be."""

    def __init__(
        self,
        source: Source,
        report: Report,
        frontier: Frontier | None = None,
        rows: Mapping[int, list[bytes]] | None = None,
    ) -> None:
        """Begin with an empty tree, or go on with ``edge`` and ``rows`` of another one."""
        self._source = source
        self._report = report
        self._frontier = frontier or Frontier()
        self._rows = dict(rows or {})
        self._waiting: list[bytes] = []  # leaves of the last tile that are hashed together

    @property
    def edge(self) -> list[bytes]:
        """The hashes of the right edge."""
        self._take()
        return list(self._frontier.edge)

    @property
    def rows(self) -> dict[int, list[bytes]]:
        """The hashes of the tiles that are not full, by level."""
        self._take()
        return self._rows

    @property
    def size(self) -> int:
        """Number of leaves so far."""
        return self._frontier.size + len(self._waiting)

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        self._take()
        return self._frontier.root()

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash; compare each tile that it completes."""
        if (self.size + 1) % TILE_WIDTH:
            self._waiting.append(leaf)
            return
        self._take()
        for node in self._frontier.append(leaf):
            level, rest = divmod(node.level, TILE_HEIGHT)
            if rest:
                continue
            row = self._rows.setdefault(level, [])
            row.append(node.hash)
            if len(row) == TILE_WIDTH:
                tile = Tile(level, node.index // TILE_WIDTH)
                self._compare(tile, row)
                self._partials(tile, row)
                self._rows[level] = []

    def _take(self) -> None:
        """Put the leaves that wait into the tree; none of them completes a tile."""
        if self._waiting:
            self._frontier.extend(self._waiting)
            self._rows.setdefault(0, []).extend(self._waiting)
            self._waiting.clear()

    def finish(self) -> None:
        """Compare the partial tiles of the right edge, as a published checkpoint of this size needs them."""
        self._take()
        for level, row in self._rows.items():
            if row:
                index = (self.size >> TILE_HEIGHT * level) // TILE_WIDTH
                self._compare(Tile(level, index, len(row)), row)
                self._partials(Tile(level, index), row)

    def _compare(self, tile: Tile, row: Sequence[bytes]) -> None:
        """Compare a tile, or the full one that has replaced a partial one meanwhile."""
        path, data = tile.path(), None
        try:
            data = self._source.fetch(path)
        except (FormatError, IntegrityError) as error:
            self._report.find(Finding(None, "tile", error.message, path))
            return
        except NotFoundError:
            if not tile.full:
                path = Tile(tile.level, tile.index).path()
                data = self._full(path)
        if data is None:
            self._report.find(Finding(None, "tile-missing", f"{tile.path()} is missing", tile.path()))
            return
        wanted = b"".join(row)
        if path != tile.path():
            data = data[: len(wanted)]
        if data != wanted:
            self._report.find(Finding(None, "tile", _difference(path, data, wanted), path))

    def _full(self, path: str) -> bytes | None:
        try:
            return self._source.fetch(path)
        except (NotFoundError, FormatError, IntegrityError):
            return None

    def _partials(self, full: Tile, row: Sequence[bytes]) -> None:
        """Compare narrower tiles of an earlier right edge, where they can be listed and are still there."""
        for path, tile in _listed(self._source, full):
            if tile.width >= len(row):
                continue
            wanted = b"".join(row[: tile.width])
            try:
                data = self._source.fetch(path)
            except NotFoundError:
                continue  # tidied away meanwhile
            except (FormatError, IntegrityError) as error:
                self._report.find(Finding(None, "tile", error.message, path))
                continue
            if data != wanted:
                self._report.find(Finding(None, "tile", _difference(path, data, wanted), path))


class Bundles:
    """Reads entry bundles, and compares all stored forms of one bundle."""

    def __init__(self, source: Source, report: Report) -> None:
        self._source = source
        self._report = report

    def read(self, index: int, width: int) -> tuple[str, Sequence[bytes]] | None:
        """Return the path of a bundle and its first ``width`` entries; after a finding, ``None``."""
        tile = Tile(ENTRIES, index, width)
        path, expected = tile.path(), width
        try:
            try:
                data = self._source.fetch(path)
            except NotFoundError:
                path, expected = Tile(ENTRIES, index).path(), TILE_WIDTH
                data = self._source.fetch(path)
            entries = parse_bundle(data, expected)[:width]
        except NotFoundError:
            self._report.find(Finding(index * TILE_WIDTH, "bundle-missing", f"{tile.path()} is missing", tile.path()))
            return None
        except (FormatError, IntegrityError) as error:
            self._report.find(Finding(index * TILE_WIDTH, "bundle", error.message, path))
            return None
        return path, entries

    def compare_documents(self, index: int, stored: StoredDocuments, beyond: int) -> None:
        """Compare what is stored of earlier, narrower forms of a bundle of documents with what it holds; those of
        ``beyond`` entries or fewer were compared before.
        """
        found = _listed(self._source, Tile(DOCUMENTS, index))
        listed = [(path, tile) for path, tile in found if tile.width > beyond]
        try:
            bundle = stored.bundle(index)[1] if listed else ()
        except (FormatError, IntegrityError, NotFoundError):
            return  # a finding of each entry whose documents are there
        for path, tile in listed:
            try:
                narrow = parse_documents(self._source.fetch(path), tile.width)
            except NotFoundError:
                continue  # tidied away meanwhile
            except (FormatError, IntegrityError) as error:
                self._report.find(Finding(None, "bundle", f"{path}: {error.message}", path))
                continue
            if tile.width < len(bundle) and narrow != bundle[: tile.width]:
                self._report.find(Finding(None, "bundle", f"{path} holds other documents than the log", path))

    def compare_partials(self, index: int, leaves: Sequence[bytes]) -> None:
        """Compare what is stored of earlier, narrower forms of a bundle with its leaf hashes."""
        for path, tile in _listed(self._source, Tile(ENTRIES, index)):
            if tile.width >= len(leaves):
                continue
            try:
                entries = parse_bundle(self._source.fetch(path), tile.width)
            except NotFoundError:
                continue  # tidied away meanwhile
            except (FormatError, IntegrityError) as error:
                self._report.find(Finding(None, "bundle", error.message, path))
                continue
            for offset, entry in enumerate(entries):
                if leaf_hash(entry) != leaves[offset]:
                    text = f"{path} holds another entry {index * TILE_WIDTH + offset} than the log"
                    self._report.find(Finding(index * TILE_WIDTH + offset, "bundle", text, path))
                    break


def _listed(source: Source, full: Tile) -> Sequence[tuple[str, Tile]]:
    """List the partial forms of a tile; names that are none are passed over."""
    found = []
    for path in source.names(f"{full.path()}.p/") if source.names else ():
        try:
            tile = Tile.parse(path)
        except FormatError:
            continue
        found.append((path, tile))
    if source.ahead:
        source.ahead([path for path, _ in found])
    return found


def _difference(path: str, data: bytes, wanted: bytes) -> str:
    """Say where a tile differs."""
    if len(data) != len(wanted):
        return f"{path} has {len(data)} bytes, the entries make {len(wanted)}"
    place = next(i for i in range(0, len(wanted), HASH_SIZE) if data[i : i + HASH_SIZE] != wanted[i : i + HASH_SIZE])
    return f"{path}: hash {place // HASH_SIZE} is not the one that the entries make"
