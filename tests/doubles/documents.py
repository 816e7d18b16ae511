"""The documents of a published log in a directory: all of them, and one of them changed."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from custody.entries.stored import encode_documents, parse_documents
from custody.tlog.tiles import Tile

__all__ = ["change_document", "documents_in"]

_DIGEST = 64  # characters


def _bundles(log: Path) -> list[Tile]:
    """Every bundle of documents, wider ones later."""
    found = [path for path in (log / "documents").rglob("*") if path.is_file() and len(path.name) < _DIGEST]
    tiles = [Tile.parse(path.relative_to(log).as_posix()) for path in found]
    return sorted(tiles, key=lambda tile: (tile.index, tile.width))


def documents_in(log: Path) -> dict[str, bytes]:
    """Every envelope, by its digest."""
    found = [path.read_bytes() for path in (log / "documents").glob("*") if len(path.name) == _DIGEST]
    for tile in _bundles(log):
        for kept in parse_documents((log / tile.path()).read_bytes(), tile.width):
            found += [data for data in kept if data is not None]
    return {hashlib.sha256(data).hexdigest(): data for data in found}


def change_document(log: Path, digest: str, change: Callable[[bytes], bytes]) -> str:
    """Have a document that lies in bundles stand there otherwise; return the path of the widest one."""
    changed = ""
    for tile in _bundles(log):
        path = log / tile.path()
        bundle = parse_documents(path.read_bytes(), tile.width)
        new = [
            [change(data) if data and hashlib.sha256(data).hexdigest() == digest else data or b"" for data in kept]
            for kept in bundle
        ]
        encoded = b"".join(map(encode_documents, new))
        if encoded != path.read_bytes():
            path.write_bytes(encoded)
            changed = tile.path()
    assert changed, "no bundle holds it"
    return changed
