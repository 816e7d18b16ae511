"""One batch: from the journal's next rows to a signed checkpoint that the ledger remembers.

The order is the safety (proto/spec/log.md, Order): documents durable, then bundles and tiles durable, then all of it
read back and hashed again to the root, then the signature, then compare-and-swap in the ledger. A crash between any two
leaves only blobs that the next attempt writes again with the same bytes. Rows come in pieces of at most one bundle, so
memory stays flat.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
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

_WORKERS: Final = 8  # writes to the store under way at once
_REMEMBERED: Final = 4096  # documents known to be durable; roots and manifests come again and again


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
        self._store = store
        self._signer = signer
        self._origin = signer.vkey.name
        self._tree = TreeWriter()
        self._edge: set[Tile] = set()
        self._partials = Partials(store)
        self._documents: dict[str, None] = {}
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="log store")

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
        for rows in read_pieces(self._journal, head.size, end):
            self._store_documents(rows)
            self._store_tiles(tree.extend([row.entry for row in rows]))
        edge = tree.partial()
        # The upper levels change once in 256 entries or more: what this process wrote last time is durable.
        self._store_tiles([stored for stored in edge if stored.tile not in self._edge])
        grown = self._sign(head, tree)
        self._tree = tree
        self._edge = {stored.tile for stored in edge}
        return grown

    def tidy(self, published: int) -> None:
        """Delete partial tiles that a published checkpoint of that size no longer needs."""
        self._partials.tidy(published)

    def close(self) -> None:
        """Give up the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _sign(self, head: Head | None, tree: TreeWriter) -> Head:
        checkpoint = Checkpoint(self._origin, tree.size, tree.root())
        try:
            # Bit flips have ended public logs: what is signed is what the store gives back, hashed anew.
            history = History(self._store, checkpoint)
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

    def _store_tiles(self, tiles: Sequence[StoredTile]) -> None:
        self._store_all([(stored.tile.path(), stored.data) for stored in tiles])
        for stored in tiles:
            self._partials.wrote(stored.tile)

    def _store_documents(self, rows: Sequence[JournalRow]) -> None:
        """Make durable, beside the log, what the entries name. Also refuses to publish what no reader could parse."""
        wanted: dict[str, bytes] = {}
        for row in rows:
            try:
                entry = Entry.parse(row.entry)
            except FormatError as error:
                raise IntegrityError(f"entry {row.index} of the ledger is no entry: {error.message}") from error
            for reference in entry.documents:
                digest = reference.envelope
                if digest not in self._documents and digest not in wanted:
                    envelope = self._envelope(digest, row.index)
                    if envelope is not None:
                        wanted[digest] = envelope
        self._store_all([(document_key(digest), envelope) for digest, envelope in wanted.items()])
        self._documents |= dict.fromkeys(wanted)
        while len(self._documents) > _REMEMBERED:
            del self._documents[next(iter(self._documents))]

    def _envelope(self, digest: str, index: int) -> bytes | None:
        """Read a document from the ledger; ``None`` where the log's store has it already and the ledger lost it."""
        try:
            return self._journal.document(digest)
        except NotFoundError:
            pass
        try:
            stored = self._store.get(document_key(digest))
        except NotFoundError:
            stored = b""
        if hashlib.sha256(stored).hexdigest() != digest:
            raise IntegrityError(f"entry {index} names document {digest}, which neither the ledger nor the log holds")
        return None

    def _store_all(self, blobs: Sequence[tuple[str, bytes]]) -> None:
        """Store blobs at once; return when all are durable."""
        writes = [self._pool.submit(self._store_one, *blob) for blob in blobs]
        wait(writes)
        for write in writes:
            write.result()

    def _store_one(self, key: str, data: bytes) -> None:
        try:
            self._store.put_new(key, data)
        except ConflictError as error:
            raise IntegrityError(
                f"the log store holds other bytes under {key} than this ledger's entries make", hint=REBUILD
            ) from error
