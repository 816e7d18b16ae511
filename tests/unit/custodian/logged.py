"""A world's log as a broker serves it: receipts, views, tiles and kept checkpoints, from the entries that were judged.

``Published`` publishes whatever the world's log holds when it is asked; each size asked for is kept as a checkpoint
with the time of that moment. Everything a test wants wrong it changes in what is returned.
"""

from collections.abc import Iterable

from custody.documents.dsse import Envelope
from custody.documents.manifest import Wrap
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt
from custody.errors import NotFoundError
from custody.rules.trust import Seen, Trust
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, inclusion_proof, leaf_hash
from custody.tlog.proof import Proof
from custody.tlog.tiles import changed_bundles, changed_tiles, encode_bundle, encode_tile
from custody.wire.messages import RequestReply, VersionReply
from tests.doubles.case import Case
from tests.doubles.world import World

__all__ = ["Published"]

_IN_VIEW = {"request", "release-key", "decision", "release", "grant", "stop", "close"}


class Published:
    """The published log of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.checkpoints: dict[int, bytes] = {}

    @property
    def entries(self) -> list[bytes]:
        """Leaf bytes."""
        return [entry.encode() for entry in self.world.log.entries]

    def publish(self, size: int | None = None, *, witnesses: int = 2, time: int | None = None) -> bytes:
        """Return the checkpoint of a size, cosigned by so many witnesses; the first one of a size is kept."""
        entries = self.entries
        size = len(entries) if size is None else size
        tree = MemoryTree([leaf_hash(data) for data in entries[:size]])
        text = Checkpoint(self.world.log_key.vkey.name, size, tree.root()).encode()
        note = text + b"\n" + self.world.log_key.sign(text)
        note += b"".join(
            key.sign(text, self.world.now if time is None else time) for key in self.world.witnesses[:witnesses]
        )
        return self.checkpoints.setdefault(size, note) if witnesses >= 2 else note

    def receipt(self, index: int, note: bytes | None = None) -> Receipt:
        """Return the receipt of an entry under the newest checkpoint, or under ``note``."""
        note = note or self.publish()
        size = int(note.split(b"\n")[1])
        tree = MemoryTree([leaf_hash(data) for data in self.entries[:size]])
        proof = Proof(index, tuple(inclusion_proof(index, size, tree.hash_at)), note)
        return Receipt(self.entries[index], proof.encode())

    def receipt_of(self, entry: Entry) -> Receipt:
        """Return the receipt of an entry that is in the log."""
        return self.receipt(self.world.log.entries.index(entry))

    def roots(self) -> list[tuple[Envelope, Receipt]]:
        """Return every root with its receipt."""
        return [
            (self._envelope(entry, "root"), self.receipt(index))
            for index, entry in enumerate(self.world.log.entries)
            if entry.type == "root"
        ]

    def trust(self, seen: Seen | None = None) -> Trust:
        """Return what a tool with the right pins believes."""
        trust = Trust(self.world.deployment, self.world.genesis.digest, seen or Seen())
        trust.take_roots(self.roots())
        return trust

    def version(self, name: str, wraps: Iterable[Wrap] = ()) -> VersionReply:
        """Return the view of a version."""
        index, entry = next(
            (i, e) for i, e in enumerate(self.world.log.entries) if e.type == "manifest" and e.version == name
        )
        content, sharing = self._envelope(entry, "content"), self._envelope(entry, "sharing")
        return VersionReply(name, content, sharing, self.receipt(index), list(wraps))

    def wraps(self, name: str, person: str) -> list[Wrap]:
        """Return the wraps of a version for a person's devices."""
        reply = self.version(name)
        devices = {key.key_id for who, key in self.world.devices.items() if who.split("/")[0] == person}
        manifest = self.world.manifest(reply.content, reply.sharing)
        return [wrap for wrap in manifest.wraps if wrap.device in devices]

    def view(self, case: Case) -> RequestReply:
        """Return the view of a request."""
        found = case.found
        receipts = [
            self.receipt(index)
            for index, entry in enumerate(self.world.log.entries)
            if entry.type in _IN_VIEW and entry.request == case.digest
        ]
        envelopes = [
            found.envelope,
            *found.terms_envelopes.values(),
            found.release_key_envelope,
            *(item.envelope for item in found.decisions),
        ]
        phase = found.phase
        return RequestReply(case.digest, phase, found.reason or found.stopped, receipts, envelopes, found.spent, 0)

    def fetch(self, path: str) -> bytes:
        """Return an object of the log, as ``GetLogObject`` does."""
        kind, _, name = path.partition("/")
        if kind == "checkpoints" and name.isdecimal() and int(name) in self.checkpoints:
            return self.checkpoints[int(name)]
        if kind == "documents" and name in self.world.log.envelopes:
            return self.world.log.envelopes[name].encode()
        for size in [*self.checkpoints, len(self.entries)]:
            found = self._tiles(size).get(path)
            if found is not None:
                return found
        raise NotFoundError(path)

    def _tiles(self, size: int) -> dict[str, bytes]:
        entries = self.entries[:size]
        tree = MemoryTree([leaf_hash(data) for data in entries])
        files = {tile.path(): encode_tile(tile, tree.hash_at) for tile in changed_tiles(0, size)}
        for bundle in changed_bundles(0, size):
            first = bundle.index * 256
            files[bundle.path()] = encode_bundle(entries[first : first + bundle.width])
        return files

    def _envelope(self, entry: Entry, kind: str) -> Envelope:
        return self.world.log.envelopes[entry.document(kind).envelope]
