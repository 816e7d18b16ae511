"""A world's log as it is published, in memory: to be audited, tampered with, and written anew by its own keys."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from custody.audit.report import Report
from custody.audit.saved import Saved, Seen
from custody.audit.source import Source
from custody.audit.verify import Pins, Way, verify_log
from custody.documents.dsse import Envelope
from custody.entries.entry import Entry
from custody.entries.stored import document_path, encode_documents, large_documents, parse_documents
from custody.errors import FormatError, NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, leaf_hash
from custody.tlog.note import NoteSigner
from custody.tlog.tiles import DOCUMENTS, Tile, changed_bundles, changed_tiles, encode_bundle, encode_tile
from custody.values import U64
from tests.doubles.world import World

__all__ = ["Published", "codes", "forced"]


@dataclass
class Published:
    """The log of ``world`` by path. ``publish`` makes everything that its entries have added visible."""

    world: World
    files: dict[str, bytes] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    tree: MemoryTree = field(default_factory=MemoryTree)
    key: NoteSigner | None = None
    witnesses: Sequence[NoteSigner] | None = None

    @classmethod
    def each(cls, world: World) -> "Published":
        """Publish a log at each size, every entry cosigned at the time that it states."""
        log = cls(world)
        log.publish([])
        for entry in world.log.entries:
            log.publish([entry], time=entry.time)
        return log

    def publish(self, entries: Iterable[Entry] | None = None, *, time: int | None = None) -> bytes:
        """Publish more entries (of the world: all that are not published) in one checkpoint; return it."""
        new = self.world.log.entries[len(self.entries) :] if entries is None else entries
        return self.append([entry.encode() for entry in new], time=time)

    def append(self, new: Iterable[bytes], *, time: int | None = None) -> bytes:
        """Publish any bytes as entries."""
        old = self.tree.size
        for data in new:
            self.entries.append(data)
            self.tree.append(leaf_hash(data))
        size = self.tree.size
        self.store_tiles(old)
        note = self.note(size, time=time)
        self.files[f"checkpoints/{size}"] = self.files["checkpoint"] = note
        return note

    def store_tiles(self, old: int = 0) -> None:
        """Store bundles and tiles as the entries make them."""
        size = self.tree.size
        for tile in changed_tiles(old, size):
            self.files[tile.path()] = encode_tile(tile, self.tree.hash_at)
        for bundle in changed_bundles(old, size):
            first = bundle.index * 256
            entries = self.entries[first : first + bundle.width]
            self.files[bundle.path()] = encode_bundle(entries)
            self.store_documents(Tile(DOCUMENTS, bundle.index, bundle.width), entries)

    def store_documents(self, tile: Tile, entries: Iterable[bytes]) -> None:
        """Store what entries name, as far as the world has it: large ones by themselves."""
        kept = []
        for data in entries:
            envelopes = [self.world.log.envelopes.get(digest) for digest in named(data)]
            kept.append([envelope.encode() for envelope in envelopes if envelope is not None])
            self.files |= large_documents(kept[-1])
        self.files[tile.path()] = b"".join(map(encode_documents, kept))

    def change_document(self, digest: str, change: Callable[[bytes], bytes | None]) -> str:
        """Have a document stand otherwise in every bundle that holds it, or (``None``) not at all.

        Returns the path of the widest of these bundles.
        """
        found = ""
        bundles = [Tile.parse(path) for path in self.names("documents/") if len(path) < len(document_path(digest))]
        for tile in sorted(bundles, key=lambda tile: tile.width):
            path = tile.path()
            kept = [list(one) for one in parse_documents(self.files[path], tile.width)]
            for one in kept:
                for place, data in enumerate(one):
                    if data is not None and hashlib.sha256(data).hexdigest() == digest:
                        new = change(data)
                        one[place : place + 1] = [] if new is None else [new]
                        found = path
                        break
            self.files[path] = b"".join(encode_documents([data or b"" for data in one]) for one in kept)
        assert found, "no bundle holds it"
        return found

    def note(self, size: int, *, time: int | None = None, root: bytes | None = None) -> bytes:
        """Sign a checkpoint with the log's key, or ``key``, and two witnesses, or ``witnesses``."""
        key = self.key or self.world.log_key
        origin = self.world.log_key.vkey.name
        text = Checkpoint(origin, size, root or self.tree.root(size)).encode()
        moment = self.world.now if time is None else time
        witnesses = self.world.witnesses[:2] if self.witnesses is None else self.witnesses
        return text + b"\n" + key.sign(text) + b"".join(witness.sign(text, moment) for witness in witnesses)

    def fetch(self, path: str) -> bytes:
        if path not in self.files:
            raise NotFoundError(path)
        return self.files[path]

    def names(self, prefix: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(prefix))

    def source(self, *, listed: bool = True) -> Source:
        return Source(self.fetch, self.names if listed else None)

    def audit(self, *, listed: bool = True, saved: Saved | None = None, **pins: Any) -> Report:
        """Verify it as an auditor does who was told genesis and deployment of the world."""
        return self.run(saved, listed=listed, **pins)[0]

    def run(
        self, saved: Saved | None = None, *, listed: bool = True, way: Way | None = None, **pins: Any
    ) -> tuple[Report, Saved | None]:
        """Verify it, and return what the next run may go on from."""
        known = {"genesis": self.world.genesis.digest, "deployment": self.world.deployment} | pins
        return verify_log(self.source(listed=listed), Pins(**known), saved, way or Way())

    def saved(self, size: int | None = None) -> Saved:
        """What an auditor remembers who saw no more of the log than its root at a size."""
        size = self.tree.size if size is None else size
        seen = Seen(size=U64(size), root=self.tree.root(size).hex())
        return Saved(self.world.deployment, self.world.genesis.digest, (seen,), b"")


def named(data: bytes) -> list[str]:
    """Digests of the envelopes that an entry names; of bytes that are no entry, none."""
    try:
        return [reference.envelope for reference in Entry.parse(data).documents]
    except FormatError:
        return []


def forced(world: World, log: Callable[[], object]) -> Entry:
    """Have an entry made by ``log`` stand in the log although the rules refuse it, as a lying broker would."""
    kept = world.log.append

    def append(entry: Entry, envelopes: Iterable[Envelope] = ()) -> None:
        world.log.entries.append(entry)
        world.log.envelopes.update({envelope.envelope_digest: envelope for envelope in envelopes})
        world.state.size += 1

    world.log.append = append  # type: ignore[method-assign]
    try:
        log()
    finally:
        world.log.append = kept  # type: ignore[method-assign]
    return world.log.entries[-1]


def changed(entry: Entry, **fields: Any) -> Entry:
    """Return an entry that says something else."""
    return msgspec.structs.replace(entry, **fields)


def codes(report: Report) -> list[tuple[int | None, str]]:
    """Entry and code of every finding."""
    return [(finding.entry, finding.code) for finding in report.findings]
