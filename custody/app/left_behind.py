"""What a crash left in the log's store beyond the checkpoint that a ledger is made up to.

Tiles there were written and never published. They are in the way of those that the broker will write, so they are moved
out of the store. That they exist means that a signature over them may be out there: see ``custody.app.rebuilding``.

Nobody signed their entries as a tree, so they are no part of the ledger. Stops are the exception, since a stop takes
effect before it is published, and the person's own signature says all: they become tombstones, as if the broker had not
been able to log them, and it logs them when it starts.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Final

from custody.adapters import small_files
from custody.adapters.store_local import LocalStore
from custody.app.log_head import Head
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.documents.stop import Stop
from custody.entries.entry import Entry
from custody.entries.stored import StoredDocuments
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.ports import Store
from custody.rules.signers import verify_actor
from custody.tlog.reader import TileReader
from custody.tlog.tiles import ENTRIES, MAX_OBJECT, TILE_HEIGHT, TILE_WIDTH, Tile, parse_bundle

__all__ = ["bury_stops", "set_aside", "unpublished_tiles"]

_UNREADABLE: Final = (FormatError, IntegrityError, NotFoundError)


def unpublished_tiles(store: Store, head: Head) -> Sequence[str]:
    """List the tiles and bundles in a log's store that go beyond a checkpoint.

    Raises ``IntegrityError`` where the store would not hold the tree of the checkpoint without them.
    """
    beyond = []
    for path in chain(store.list("tile/"), store.list("documents/")):
        try:
            tile = Tile.parse(path)
        except FormatError:
            continue
        if tile.index * TILE_WIDTH + tile.width << TILE_HEIGHT * max(tile.level, 0) > head.checkpoint.size:
            beyond.append(path)
    without = frozenset(beyond)

    def fetch(path: str) -> bytes:
        if path in without:
            raise NotFoundError(f"{path} is missing")
        return store.get(path, MAX_OBJECT)

    size = head.checkpoint.size
    try:
        reader = TileReader(fetch, head.checkpoint)
        reader.bundle((size - 1) // TILE_WIDTH)
    except _UNREADABLE as error:
        raise IntegrityError(
            f"the log store does not hold the log up to size {size}: {error.message}",
            hint="copy the whole log to where [log] store says, then run this again",
        ) from error
    return beyond


def bury_stops(store: Store, beyond: Sequence[str], size: int, root: Root, folder: Path) -> int:
    """Write a tombstone in ``folder`` for each stop among the entries from ``size`` on; return how many there are.

    A stop that does not verify under ``root`` is none.
    """
    found: dict[str, Envelope] = {}
    for index, entry, documents in _entries(store, beyond, size):
        if entry.type != "stop":
            continue
        try:
            place = entry.documents.index(entry.document("stop"))
            envelope = Envelope.parse(documents.read(index, entry.documents, place))
            verify_actor(envelope, envelope.document(Stop).actor, root, int(entry.time))
        except _UNREADABLE:
            continue
        found[envelope.digest] = envelope
    if found:
        small_files.make_directory(folder, 0o700)
    for digest, envelope in found.items():
        small_files.replace(folder / f"{digest}.stop", envelope.encode(), 0o600)
    return len(found)


def set_aside(store: Store, beyond: Sequence[str], folder: Path) -> None:
    """Copy unpublished tiles to ``folder``, then remove them from the store."""
    small_files.make_directory(folder, 0o700)
    with closing(LocalStore(folder)) as kept:
        for path in beyond:
            kept.put_new(path, store.get(path, MAX_OBJECT))
    for path in beyond:
        store.delete(path)


def _entries(store: Store, beyond: Sequence[str], size: int) -> Iterator[tuple[int, Entry, StoredDocuments]]:
    """Yield the entries from ``size`` on as far as they can be read, with what was written with them; some several
    times.
    """

    def fetch(path: str) -> bytes:
        return store.get(path, MAX_OBJECT)

    for tile in map(Tile.parse, beyond):
        if tile.level != ENTRIES:
            continue
        try:
            bundle = parse_bundle(fetch(tile.path()), tile.width)
        except _UNREADABLE:
            continue
        begin = tile.index * TILE_WIDTH
        documents = StoredDocuments(fetch, begin + tile.width)
        for index, data in enumerate(bundle, start=begin):
            if index >= size:
                with suppress(FormatError):
                    yield index, Entry.parse(data), documents
