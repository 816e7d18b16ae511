"""One batch: from the journal's next rows to a signed checkpoint that the ledger remembers.

The order is the safety (proto/spec/log.md, Order): documents, bundles and tiles durable, then all of it read back and
hashed again to the root, then the signature, then compare-and-swap in the ledger. A crash between any two leaves only
blobs that the next attempt writes again with the same bytes. Rows come in pieces of at most one bundle, so memory stays
flat.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from custody.entries.entry import Entry
from custody.entries.stored import large_documents
from custody.errors import ConfigError, ConflictError, FormatError, IntegrityError, NotFoundError
from custody.ports import Journal, JournalRow, Store
from custody.publishing.history import REBUILD, History, open_signed
from custody.publishing.partials import Partials
from custody.publishing.tree import DocumentWriter, StoredTile, TreeWriter
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import NoteSigner
from custody.tlog.tiles import DOCUMENTS, MAX_OBJECT, TILE_WIDTH, Tile

__all__ = ["BatchWriter", "Head", "documents_of", "read_pieces"]

_REMEMBERED: Final = 4096  # large documents known to be durable: what is tried again need not write them again


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint of the ledger: ``note`` bears the log's signature only, ``history`` is its tree."""

    note: bytes
    history: History

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self.history.size


def read_pieces(journal: Journal, begin: int, end: int) -> Iterable[Sequence[JournalRow]]:
    """Read rows in pieces that never cross a bundle. Raises ``IntegrityError`` where the ledger has lost some."""
    while begin < end:
        limit = min(end - begin, TILE_WIDTH - begin % TILE_WIDTH)
        rows = journal.rows(begin, limit)
        if len(rows) != limit:
            raise IntegrityError(f"the ledger lacks entry {begin + len(rows)}: rows were deleted", hint=REBUILD)
        yield rows
        begin += limit


def documents_of(journal: Journal, rows: Sequence[JournalRow]) -> list[list[bytes]]:
    """Return the envelopes that each row's entry names, in its order.

    Raises ``IntegrityError`` for what no reader could parse, and where the ledger has lost a document.
    """
    named: list[list[str]] = []
    for row in rows:
        try:
            named.append([reference.envelope for reference in Entry.parse(row.entry).documents])
        except FormatError as error:
            raise IntegrityError(f"entry {row.index} of the ledger is no entry: {error.message}") from error
    wanted = {digest: row.index for row, digests in zip(rows, named, strict=True) for digest in digests}
    held = journal.documents(wanted)
    for digest in wanted.keys() - held.keys():
        raise IntegrityError(
            f"entry {wanted[digest]} names document {digest}, which the ledger has lost",
            hint="if the entry is published: " + REBUILD,
        )
    return [[held[digest] for digest in digests] for digests in named]


class BatchWriter:
    """Turns rows into tiles and signs. Used by one thread at a time."""

    def __init__(self, journal: Journal, store: Store, signer: NoteSigner) -> None:
        self._journal = journal
        self._blobs = store
        self._signer = signer
        self._origin = signer.vkey.name
        self._tree = TreeWriter()
        self._documents = DocumentWriter()
        self._edge: set[Tile] = set()
        self._partials = Partials(store)
        self._stored: dict[str, None] = {}  # paths of large documents

    def restore(self, tree: TreeWriter, documents: DocumentWriter) -> None:
        """Continue from a tree that was compared with the signed checkpoint, and what stands behind its entries."""
        self._tree, self._documents = tree, documents

    def begin(self) -> Head:
        """Sign the empty tree, the first checkpoint of every log: its witnesses see it before any entry counts.

        A witness that knows a larger one of this log then says so before this ledger has signed a fork.
        """
        return self._sign(None, TreeWriter())

    def grow(self, head: Head, end: int) -> Head:
        """Sign the tree of the first ``end`` entries, which continues ``head``.

        Raises ``UnavailableError`` where a later attempt may succeed; everything else is for good.
        """
        tree, behind = self._tree.copy(), self._documents.copy()
        large: dict[str, bytes] = {}
        full: list[StoredTile] = []
        for rows in read_pieces(self._journal, head.size, end):
            self._store(large, full)
            documents = documents_of(self._journal, rows)
            large = {
                path: data for path, data in large_documents(chain(*documents)).items() if path not in self._stored
            }
            full = behind.extend(documents) + tree.extend([row.entry for row in rows])
        edge = behind.partial() + tree.partial()
        # The upper levels change once in 256 entries or more: what this process wrote last time is durable.
        self._store(large, [*full, *(stored for stored in edge if stored.tile not in self._edge)])
        self._require_documents([stored for stored in [*full, *edge] if stored.tile.level == DOCUMENTS])
        grown = self._sign(head, tree)
        self._tree, self._documents = tree, behind
        self._edge = {stored.tile for stored in edge}
        return grown

    def tidy(self, published: int) -> None:
        """Delete partial tiles that a published checkpoint of that size no longer needs."""
        self._partials.tidy(published)

    def _sign(self, head: Head | None, tree: TreeWriter) -> Head:
        checkpoint = Checkpoint(self._origin, tree.size, tree.root())
        try:
            # Bit flips have ended public logs: what is signed is what the store gives back, hashed anew.
            history = History(self._blobs, checkpoint)
            history.verify_bundles(head.size if head else 0, tree.size)
        except (FormatError, NotFoundError) as error:
            raise IntegrityError(f"the log store does not hold what was written: {error.message}") from error
        text = checkpoint.encode()
        note = text + b"\n" + self._signer.sign(text)
        open_signed(note, [self._signer.vkey], self._origin)
        try:
            self._journal.swap_checkpoint(head.note if head else None, note)
        except ConflictError as error:
            raise ConfigError(
                "the ledger's signed checkpoint was changed by somebody else: two publishers run on one ledger",
                hint="stop the other one; then start this broker again",
            ) from error
        return Head(note, history)

    def _store(self, large: Mapping[str, bytes], tiles: Sequence[StoredTile]) -> None:
        """Store all of it at once; return when all is durable. Nothing of it counts before the signature."""
        blobs = {**large, **{stored.tile.path(): stored.data for stored in tiles}}
        try:
            self._blobs.put_all(blobs)
        except ConflictError:
            for key, data in blobs.items():  # again, to learn which of them it is
                self._store_one(key, data)
            raise
        for stored in tiles:
            self._partials.wrote(stored.tile)
        self._stored |= dict.fromkeys(large)
        while len(self._stored) > _REMEMBERED:
            del self._stored[next(iter(self._stored))]

    def _require_documents(self, bundles: Sequence[StoredTile]) -> None:
        """Require that the store gives back the last bundles of documents as they were written."""
        for tile, data in bundles:
            try:
                stored = self._blobs.get(tile.path(), MAX_OBJECT)
            except NotFoundError:
                stored = b""
            if stored != data:
                raise IntegrityError(f"the log store does not hold what was written: {tile.path()} is another one")

    def _store_one(self, key: str, data: bytes) -> None:
        try:
            self._blobs.put_new(key, data)
        except ConflictError as error:
            raise IntegrityError(
                f"the log store holds other bytes under {key} than this ledger's entries make", hint=REBUILD
            ) from error
