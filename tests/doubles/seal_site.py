"""A world, a directory as store, and files to seal: seal and recover through the compositions, without key files."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from custody.adapters.store_local import LocalStore
from custody.app.into_store import IntoStore
from custody.app.recovery import RecoveredFile, choose_files, hold, open_share, rebuild_key, write_files
from custody.app.sealing import Sealed, Sealing, seal
from custody.app.source import scan
from custody.app.versions import find_version
from custody.documents.actor import Person
from custody.documents.content import Content
from custody.documents.manifest import Manifest
from custody.documents.root import Root
from custody.documents.sharing import Sharing
from custody.ports import Store
from custody.segments.layout import manifest_key
from tests.doubles.world import World

__all__ = ["BOARD", "FILES", "SEGMENT", "VERSION", "SealSite"]

SEGMENT = 4096
FILES = {"a/weights.bin": bytes(range(256)) * 50, "config.json": b"{}", "z/empty": b""}
VERSION = "demo/tiny@1"
BOARD = "frontier/llm@1"


@dataclass
class SealSite:
    """A world, a store in a directory, and the files to seal."""

    directory: Path
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.store = LocalStore(self.directory / "store")

    def seal(self, version: str = VERSION, store: Store | None = None, who: str = "sam", **changes: Any) -> Sealed:
        job = Sealing(
            version=version,
            files=scan(self.directory / "model"),
            sealer=Person(person=who),
            signer=self.world.signer(who),
            segment=SEGMENT,
        )
        return seal(
            replace(job, **changes),
            root=self.world.root,
            target=IntoStore(store or self.store, version),
            rng=self.world.rng,
            random_into=self.fill,
            clock=lambda: self.world.now,
            threads=1,
        )

    def fill(self, buffer: memoryview) -> None:
        buffer[:] = self.world.rng(len(buffer))

    def recover(
        self, *devices: str, version: str = VERSION, out: str = "out", roots: Sequence[Root] = ()
    ) -> list[RecoveredFile]:
        found = find_version(self.store, version, roots or [self.world.root])
        held = hold(found, [self.world.devices[name].key_id for name in devices])
        keys = {device.key_id: device for device in self.world.devices.values()}
        shares = [open_share(found, item, keys[item.wrap.device].xwing_seed) for item in held]
        with rebuild_key(found, shares) as key:
            files = choose_files(found, [])
            return write_files(found, self.store, key, self.directory / out, files=files, rng=self.world.rng, threads=1)

    def written(self, out: str = "out") -> dict[str, bytes]:
        base = self.directory / out
        return {path.relative_to(base).as_posix(): path.read_bytes() for path in base.rglob("*") if path.is_file()}

    def manifest(self, version: str = VERSION) -> Manifest:
        return find_version(self.store, version, [self.world.root]).manifest

    def put(self, manifest: Manifest) -> None:
        """Replace the manifest in the store, as whoever has the store's rights can."""
        vid = bytes.fromhex(manifest.content.document(Content).vid)
        self.store.put(manifest_key(vid), manifest.encode())

    def signed_again(self, manifest: Manifest, who: str = "sam", **changes: Any) -> Manifest:
        """A manifest whose sharing says something else, rightly signed and rightly wrapped to nobody."""
        sharing = self.world.sign(manifest.sharing.document(Sharing), who, **changes)
        return msgspec.structs.replace(manifest, sharing=sharing)
