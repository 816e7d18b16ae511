"""A small honest log and its witnesses, for tests of whatever reads one."""

import hashlib
from collections.abc import Sequence

from custody.errors import NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, consistency_proof, inclusion_proof, leaf_hash
from custody.tlog.note import COSIGNATURE, ED25519, NoteSigner
from custody.tlog.proof import Proof
from custody.tlog.tiles import changed_bundles, changed_tiles, encode_bundle, encode_tile
from custody.tlog.witness_protocol import AddCheckpoint

__all__ = ["ORIGIN", "TIME", "Fetch", "Log", "log_signer", "seed", "witness_signer"]

ORIGIN = "log.example/custody"
TIME = 1_700_000_000  # POSIX seconds


def seed(name: str) -> bytes:
    """Derive 32 bytes from a name."""
    return hashlib.sha256(name.encode()).digest()


def log_signer(origin: str = ORIGIN, key: str = "log") -> NoteSigner:
    """Make the key of a log."""
    return NoteSigner(origin, ED25519, seed(key))


def witness_signer(number: int = 1) -> NoteSigner:
    """Make the key of a witness."""
    return NoteSigner(f"w{number}.example/witness", COSIGNATURE, seed(f"witness {number}"))


class Log:
    """Entries ``entry 0`` and so on; ``branch`` makes another history from the given index on."""

    def __init__(self, size: int, signer: NoteSigner | None = None, *, branch: int | None = None) -> None:
        self.signer = signer or log_signer()
        self.entries = [b"entry %d" % i if branch is None or i < branch else b"other entry %d" % i for i in range(size)]
        self.tree = MemoryTree([leaf_hash(entry) for entry in self.entries])

    def head(self, size: int | None = None) -> Checkpoint:
        """Return the tree head at a size."""
        size = self.tree.size if size is None else size
        return Checkpoint(self.signer.vkey.name, size, self.tree.root(size))

    def checkpoint(self, size: int | None = None, cosigners: Sequence[NoteSigner] = (), time: int = TIME) -> bytes:
        """Sign the head at a size, and have it cosigned."""
        text = self.head(size).encode()
        return text + b"\n" + self.signer.sign(text) + b"".join(cosigner.sign(text, time) for cosigner in cosigners)

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """Prove growth."""
        return consistency_proof(old, self.tree.size if size is None else size, self.tree.hash_at)

    def request(self, old: int, size: int | None = None) -> AddCheckpoint:
        """Ask a witness that is at ``old``."""
        return AddCheckpoint(old, tuple(self.consistency(old, size)), self.checkpoint(size))

    def receipt(self, index: int, checkpoint: bytes, size: int | None = None) -> Proof:
        """Prove inclusion."""
        size = self.tree.size if size is None else size
        return Proof(index, tuple(inclusion_proof(index, size, self.tree.hash_at)), checkpoint)

    def files(self, old: int = 0) -> dict[str, bytes]:
        """Return what is stored for growing from ``old`` to the present size, by path."""
        size = self.tree.size
        stored = {tile.path(): encode_tile(tile, self.tree.hash_at) for tile in changed_tiles(old, size)}
        for bundle in changed_bundles(old, size):
            first = bundle.index * 256
            stored[bundle.path()] = encode_bundle(self.entries[first : first + bundle.width])
        return stored


class Fetch:
    """A store of tiles that counts what was fetched."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.fetched: list[str] = []

    def __call__(self, path: str) -> bytes:
        self.fetched.append(path)
        if path not in self.files:
            raise NotFoundError(path)
        return self.files[path]
