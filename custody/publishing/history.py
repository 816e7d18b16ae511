"""The tree under a signed checkpoint, read back from the store, and what other checkpoints say about it.

Whatever bears the signature of this log's key must lie on one line: smaller sizes are prefixes, equal sizes have equal
roots, and nothing is larger than what the ledger last signed. A contradiction stops the publisher for good; waiting
does not mend it.
"""

import threading
from collections.abc import Collection, Sequence

from custody.errors import ConfigError, CustodyError, IntegrityError
from custody.ports import Store
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import range_hash, root_hash, siblings
from custody.tlog.note import VKey, open_note
from custody.tlog.reader import TileReader
from custody.tlog.tiles import MAX_OBJECT, TILE_WIDTH

__all__ = ["REBUILD", "History", "open_signed", "refuse_older_ledger"]

REBUILD = "custody ledger rebuild --from LOG --config broker.toml makes the ledger again from the published log"

_MAX_HELD = 4 << 20  # bytes of entries kept for those who want their receipts now


class History:
    """The tree of one checkpoint, every hash authenticated against its root. Safe for use by many threads."""

    def __init__(self, store: Store, checkpoint: Checkpoint) -> None:
        """Read the right edge from the store.

        Raises ``IntegrityError`` unless it hashes to the root, ``NotFoundError`` where a tile is missing.
        """
        self.checkpoint = checkpoint
        self._lock = threading.Lock()
        self._held: dict[int, Sequence[bytes]] = {}  # bundles by index
        self._ranges: dict[tuple[int, int], bytes] = {}  # tree hashes of ranges of leaves, from proofs of what is held
        self._reader = TileReader(lambda path: store.get(path, limit=MAX_OBJECT), checkpoint)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self.checkpoint.size

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash of an entry."""
        with self._lock:
            return self._reader.hash_at(0, index)

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Prove an entry under the checkpoint."""
        with self._lock:
            return self._reader.inclusion_proof(index)

    def consistency_proof(self, old: int) -> list[bytes]:
        """Prove that the checkpoint continues the tree of ``old`` leaves."""
        with self._lock:
            return self._reader.consistency_proof(old)

    def root_of(self, size: int) -> bytes:
        """Return the root of the tree of the first ``size`` leaves."""
        with self._lock:
            return root_hash(size, self._reader.hash_at)

    def bundle(self, index: int) -> Sequence[bytes]:
        """Return the entries ``256 * index`` and following."""
        with self._lock:
            return self._reader.bundle(index)

    def verify_bundles(self, begin: int, end: int) -> None:
        """Read back the bundles that hold the entries ``begin`` to ``end`` (exclusive), and the tiles above them. The
        last ones stay in memory.
        """
        held = 0
        for index in range(begin // TILE_WIDTH, -(-end // TILE_WIDTH)):
            self._held[index] = self.bundle(index)
            held += sum(map(len, self._held[index]))
            while held > _MAX_HELD:
                held -= sum(map(len, self._held.pop(next(iter(self._held)))))

    def at_hand(self, index: int) -> tuple[bytes, Sequence[bytes]] | None:
        """Return an entry and its inclusion proof, if it was read back and nobody reads just now: no tile is fetched
        for it then. Else ``None``.
        """
        bundle, place = divmod(index, TILE_WIDTH)
        entries = self._held.get(bundle)
        if entries is None or not self._lock.acquire(blocking=False):
            return None
        try:
            return entries[place], [self._range(*sibling) for sibling in siblings(index, self.size)][::-1]
        finally:
            self._lock.release()

    def _range(self, begin: int, end: int) -> bytes:
        """Hash a range of leaves, for the proofs of a batch: most of what proves one of its entries proves the next."""
        found = self._ranges.get((begin, end))
        if found is None:
            found = self._ranges[begin, end] = range_hash(begin, end, self._reader.hash_at)
        return found

    def require_on_line(self, other: Checkpoint, where: str) -> None:
        """Require that a checkpoint with this log's signature, found at ``where``, belongs to this history.

        Raises ``ConfigError`` naming the way back where it is larger, ``IntegrityError`` where it is a fork.
        """
        if other.size > self.size:
            raise refuse_older_ledger(other.size, self.size, where)
        if self.root_of(other.size) != other.root:
            raise IntegrityError(
                f"fork: {where} holds a checkpoint of size {other.size} signed by this log's key whose root is not the"
                " one of this ledger",
                hint="the log ends here: keep the ledger, the log store and that checkpoint as evidence",
            )

    def require_no_contradiction(self, note: bytes, keys: Collection[VKey], where: str) -> None:
        """Judge a checkpoint that a stranger shows. Without this log's own signature it proves nothing."""
        try:
            checkpoint = open_signed(note, keys, self.checkpoint.origin)
        except CustodyError:
            return
        self.require_on_line(checkpoint, where)


def open_signed(note: bytes, keys: Collection[VKey], origin: str) -> Checkpoint:
    """Open a checkpoint of log ``origin`` that one of ``keys`` (log keys, type 0x01) signed.

    Raises ``FormatError`` for bytes that are no checkpoint, ``IntegrityError`` for another signature or log.
    """
    checkpoint = Checkpoint.parse(open_note(note, keys).text)
    if checkpoint.origin != origin:
        raise IntegrityError(f"a checkpoint of log {checkpoint.origin} instead of {origin}")
    checkpoint.require_sound_root()
    return checkpoint


def refuse_older_ledger(found: int, signed: int | None, where: str) -> ConfigError:
    """Return the error for a ledger that is older than what it once signed."""
    mine = "has signed nothing" if signed is None else f"has signed size {signed}"
    return ConfigError(
        f"{where} holds a checkpoint of size {found} signed by this log, but this ledger {mine}: an older copy of the"
        " ledger was restored, or it is the ledger of another log",
        hint=REBUILD,
    )
