"""One batch: from the journal's next rows to a signed checkpoint that the ledger remembers.

The order is the safety (proto/spec/log.md, Order): documents, bundles and tiles durable, then all of it read back and
hashed again to the root, then the signature, then compare-and-swap in the ledger. A crash between any two leaves only
blobs that the next attempt writes again with the same bytes. Rows come in pieces of at most one bundle, so memory stays
flat.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from custody.entries.entry import Entry
from custody.errors import ConfigError, ConflictError, FormatError, IntegrityError, NotFoundError
from custody.ports import Journal, JournalRow, Store
from custody.publishing.history import REBUILD, History, open_signed
from custody.publishing.partials import Partials
from custody.publishing.tree import StoredTile, TreeWriter
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import NoteSigner
from custody.tlog.tiles import TILE_WIDTH, Tile

__all__ = ["BatchWriter", "Head", "document_key", "read_pieces"]

_REMEMBERED: Final = 4096  # documents known to be durable; roots and manifests come again and again


_Blob = tuple[str, bytes]  # key and content


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint of the ledger: ``note`` bears the log's signature only, ``history`` is its tree."""

    note: bytes
    history: History

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self.history.size


def document_key(envelope_digest: str) -> str:
    """Return where a document's envelope lies in the log's store."""
    return f"documents/{envelope_digest}"


def read_pieces(journal: Journal, begin: int, end: int) -> Iterable[Sequence[JournalRow]]:
    """Read rows in pieces that never cross a bundle. Raises ``IntegrityError`` where the ledger has lost some."""
    while begin < end:
        limit = min(end - begin, TILE_WIDTH - begin % TILE_WIDTH)
        rows = journal.rows(begin, limit)
        if len(rows) != limit:
            raise IntegrityError(f"the ledger lacks entry {begin + len(rows)}: rows were deleted", hint=REBUILD)
        yield rows
        begin += limit


class BatchWriter:
    """Turns rows into tiles and signs. Used by one thread at a time."""

    def __init__(self, journal: Journal, store: Store, signer: NoteSigner) -> None:
        self._journal = journal
        self._blobs = store
        self._signer = signer
        self._origin = signer.vkey.name
        self._tree = TreeWriter()
        self._edge: set[Tile] = set()
        self._partials = Partials(store)
        self._stored: dict[str, None] = {}  # keys of documents

    def restore(self, tree: TreeWriter) -> None:
        """Continue from a tree that was compared with the signed checkpoint."""
        self._tree = tree

    def begin(self) -> Head:
        """Sign the empty tree, the first checkpoint of every log: its witnesses see it before any entry counts.

        A witness that knows a larger one of this log then says so before this ledger has signed a fork.
        """
        return self._sign(None, TreeWriter())

    def grow(self, head: Head, end: int) -> Head:
        """Sign the tree of the first ``end`` entries, which continues ``head``.

        Raises ``UnavailableError`` where a later attempt may succeed; everything else is for good.
        """
        tree = self._tree.copy()
        documents: list[_Blob] = []
        full: list[StoredTile] = []
        for rows in read_pieces(self._journal, head.size, end):
            self._store(documents, full)
            documents = self._documents_of(rows)
            full = tree.extend([row.entry for row in rows])
        edge = tree.partial()
        # The upper levels change once in 256 entries or more: what this process wrote last time is durable.
        self._store(documents, [*full, *(stored for stored in edge if stored.tile not in self._edge)])
        grown = self._sign(head, tree)
        self._tree = tree
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

    def _store(self, documents: Sequence[_Blob], tiles: Sequence[StoredTile]) -> None:
        """Store all of it at once; return when all is durable. Nothing of it counts before the signature."""
        blobs = dict([*documents, *((stored.tile.path(), stored.data) for stored in tiles)])
        try:
            self._blobs.put_all(blobs)
        except ConflictError:
            for key, data in blobs.items():  # again, to learn which of them it is
                self._store_one(key, data)
            raise
        for stored in tiles:
            self._partials.wrote(stored.tile)
        self._stored |= dict.fromkeys(key for key, _ in documents)
        while len(self._stored) > _REMEMBERED:
            del self._stored[next(iter(self._stored))]

    def _documents_of(self, rows: Sequence[JournalRow]) -> list[_Blob]:
        """Return what the entries name and the log may lack. Refuses to publish what no reader could parse."""
        named: dict[str, int] = {}
        for row in rows:
            try:
                entry = Entry.parse(row.entry)
            except FormatError as error:
                raise IntegrityError(f"entry {row.index} of the ledger is no entry: {error.message}") from error
            for reference in entry.documents:
                if document_key(reference.envelope) not in self._stored:
                    named.setdefault(reference.envelope, row.index)
        held = self._journal.documents(named)
        for digest, index in named.items():
            if digest not in held:
                self._require_stored(digest, index)
        return [(document_key(digest), envelope) for digest, envelope in held.items()]

    def _require_stored(self, digest: str, index: int) -> None:
        """Require a document that the ledger has lost in the log's store."""
        try:
            stored = self._blobs.get(document_key(digest))
        except NotFoundError:
            stored = b""
        if hashlib.sha256(stored).hexdigest() != digest:
            raise IntegrityError(f"entry {index} names document {digest}, which neither the ledger nor the log holds")

    def _store_one(self, key: str, data: bytes) -> None:
        try:
            self._blobs.put_new(key, data)
        except ConflictError as error:
            raise IntegrityError(
                f"the log store holds other bytes under {key} than this ledger's entries make", hint=REBUILD
            ) from error
