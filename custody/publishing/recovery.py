"""Where the log stood when the last process ended, and whether the parts still agree.

::

    rows         the ledger's entries, each with its MAC
    signed       the checkpoint that the ledger remembers having signed
    published    `checkpoint` in the log's store

    published <= signed <= rows, all on one line     go on; publish `signed` again if need be
    published not a prefix of signed                 fork: refuse, for good
    published > signed, or signed > rows             an older copy was restored: refuse, name the way back
    rows that do not hash to signed                  edited, exchanged or deleted: refuse

All rows are read. Their MACs alone would not do: whoever writes the database can put back a row that once stood
there in an older copy, with its good MAC. Only the signed root says which row was published.
"""

from dataclasses import dataclass

from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.ports import Journal, Store
from custody.publishing.batch import Head, documents_of, read_pieces
from custody.publishing.history import REBUILD, History, open_signed, refuse_older_ledger
from custody.publishing.tree import DocumentWriter, TreeWriter
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import VKey
from custody.tlog.tiles import DOCUMENTS, TILE_WIDTH, Tile, tile_width

__all__ = ["PUBLISHED", "Recovered", "documents_under", "recover", "rows_under"]

PUBLISHED = "checkpoint"  # tlog-tiles: the newest published checkpoint


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found: ``head``, ``tree`` and ``documents`` of the signed checkpoint, no head in a new ledger; and what
    is published.

    ``published`` is the note and its tree. Only the log's own signature on it was verified.
    """

    head: Head | None
    tree: TreeWriter
    documents: DocumentWriter
    published: Head | None


def recover(journal: Journal, store: Store, log_key: VKey) -> Recovered:
    """Read and compare all of it; ``log_key`` is the log's key, named like the log.

    Raises ``IntegrityError`` or ``ConfigError`` where the parts contradict each other, ``UnavailableError`` where one
    does not answer.
    """
    note, published = journal.checkpoint(), _published_note(store)
    shown = None if published is None else _open(published, log_key, "the log store's checkpoint")
    if note is None:
        if shown is not None:
            raise refuse_older_ledger(shown.size, None, "the log store")
        return Recovered(None, TreeWriter(), DocumentWriter(), None)
    signed = _open(note, log_key, "the ledger's signed checkpoint")
    if shown is not None and shown.size > signed.size:
        raise refuse_older_ledger(shown.size, signed.size, "the log store")
    tree = rows_under(journal, signed)
    try:
        head, visible = Head(note, History(store, signed)), None
        if published is not None and shown is not None:
            head.history.require_on_line(shown, "the log store")
            visible = Head(published, head.history if shown == signed else History(store, shown))
    except NotFoundError as error:
        raise IntegrityError(
            f"the log store has lost a part of the log of size {signed.size}: {error.message}",
            hint="bring it back from the second copy of the log",
        ) from error
    documents = documents_under(journal, signed.size)
    _require_documents(store, signed.size)
    return Recovered(head, tree, documents, visible)


def _open(note: bytes, log_key: VKey, what: str) -> Checkpoint:
    try:
        return open_signed(note, [log_key], log_key.name)
    except (FormatError, IntegrityError) as error:
        raise IntegrityError(
            f"{what} is not one that this log's key signed: {error.message}",
            hint="the ledger, the log store and the log key must belong together",
        ) from error


def _published_note(store: Store) -> bytes | None:
    """Return the published checkpoint, if there is one."""
    try:
        return store.get(PUBLISHED)
    except NotFoundError:
        return None


def rows_under(journal: Journal, signed: Checkpoint) -> TreeWriter:
    """Hash the rows that were signed; require the signed root. Raises ``IntegrityError``."""
    size = journal.size()
    if size < signed.size:
        raise IntegrityError(
            f"the ledger has {size} entries and has signed {signed.size}: rows were deleted or an older copy restored",
            hint=REBUILD,
        )
    tree = TreeWriter()
    for rows in read_pieces(journal, 0, signed.size):
        tree.extend([row.entry for row in rows])
    if tree.root() != signed.root:
        raise IntegrityError(
            f"the first {signed.size} entries of the ledger are not those that were signed: rows were exchanged",
            hint=REBUILD,
        )
    return tree


def _require_documents(store: Store, size: int) -> None:
    """Require that the last bundles of documents are there: without them nobody could verify what was signed."""
    for number in range(max(0, size // TILE_WIDTH - 1), -(-size // TILE_WIDTH)):
        tile = Tile(DOCUMENTS, number, tile_width(DOCUMENTS, number, size))
        if not store.exists(tile.path()):
            raise IntegrityError(
                f"the log store has lost {tile.path()}, the documents behind its newest entries",
                hint="bring it back from the second copy of the log",
            )


def documents_under(journal: Journal, size: int) -> DocumentWriter:
    """Read what stands behind the entries of the last bundle that is not full. Raises ``IntegrityError``."""
    begin = size - size % TILE_WIDTH
    writer = DocumentWriter(begin)
    for rows in read_pieces(journal, begin, size):
        writer.extend(documents_of(journal, rows))
    return writer
