"""Which published entries may leave the database, and the proof that the log's store has them.

A piece is pruned only when a published checkpoint covers it, and when each of its entries and documents, read back from
the store just now, is what the ledger holds. It ends with a full bundle, so that what is read later is whole.
"""

from collections.abc import Sequence
from typing import Final

from custody.entries.entry import Entry
from custody.entries.stored import StoredDocuments
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.ports import Journal, JournalRow, Pruned, Store
from custody.publishing.batch import read_pieces
from custody.publishing.history import History
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.tiles import MAX_OBJECT, TILE_WIDTH

__all__ = ["prune_piece"]

_BUNDLES: Final = 4  # in one piece; the ledger's writers wait for the end of one


def prune_piece(journal: Journal, store: Store, published: Checkpoint, *, below: int, before: int) -> int:
    """Prune the oldest entries, a few bundles at most: entries under ``below`` whose time is before ``before``.

    ``published`` is the newest published checkpoint, and was verified. Returns how many entries went. Raises
    ``IntegrityError`` where the store does not hold what the ledger does; nothing goes then.
    """
    pruned = journal.pruned()
    first = pruned.size if pruned else 0
    last = min(below, published.size, journal.size() - 1, first + _BUNDLES * TILE_WIDTH)
    last -= last % TILE_WIDTH
    size, documents = first, set[str]()
    try:
        # Made anew for each piece: what counts is what the store gives back now.
        history = History(store, published)
        behind = StoredDocuments(lambda path: store.get(path, MAX_OBJECT), published.size)
        for rows in read_pieces(journal, first, max(first, last)):
            entries = [Entry.parse(row.entry) for row in rows]
            if any(entry.time >= before for entry in entries):
                break
            _require_stored(history, rows)
            for index, entry in enumerate(entries, start=size):
                for place, item in enumerate(entry.documents):
                    behind.read(index, entry.documents, place)
                    documents.add(item.envelope)
            size += len(rows)
        if size == first:
            return 0
        # A release may be sent twice. What is published is found in the bundle of its entry, the rest is only here.
        for rows in read_pieces(journal, published.size, journal.size()):
            documents -= {item.envelope for row in rows for item in Entry.parse(row.entry).documents}
        to = Pruned(size, history.root_of(size))
    except (FormatError, IntegrityError, NotFoundError) as error:
        raise IntegrityError(
            f"nothing is pruned, because the log store lacks what the ledger holds: {error.message}",
            hint="compare the log store with the second copy of the log",
        ) from error
    journal.prune(to, documents)
    return size - first


def _require_stored(history: History, rows: Sequence[JournalRow]) -> None:
    """Require that the store holds these rows of one bundle, each under the published root."""
    stored = history.bundle(rows[0].index // TILE_WIDTH)
    if [row.entry for row in rows] != list(stored):
        raise IntegrityError(f"the entries from {rows[0].index} on are not those that were published")
