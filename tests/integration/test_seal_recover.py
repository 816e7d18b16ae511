"""Seal and recover through the compositions themselves: who can open, what is noticed, what a crash leaves."""

import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from custody.adapters.store_local import LocalStore
from custody.app.recovery import RecoveredFile, choose_files, hold, open_share, rebuild_key, write_files
from custody.app.sealing import Sealed, Sealing, seal
from custody.app.source import scan
from custody.app.unfinished import Unfinished
from custody.app.versions import find_version, has_version, unfinished, verify_manifest
from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.documents.actor import Person
from custody.documents.content import Content
from custody.documents.dsse import sign
from custody.documents.manifest import Manifest, Wrap
from custody.documents.root import Root
from custody.documents.sharing import Sharing, Slot
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.ports import Store
from custody.segments.layout import manifest_key
from tests.doubles.store import Dead, Fault, FaultyStore
from tests.doubles.world import World
from tests.unit.house.tree import ROOT

SEGMENT = 4096
FILES = {"a/weights.bin": bytes(range(256)) * 50, "config.json": b"{}", "z/empty": b""}
VERSION = "demo/tiny@1"
BOARD = "frontier/llm@1"


@dataclass
class Site:
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
            store=store or self.store,
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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "store").mkdir()
    for name, data in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    made = Site(tmp_path)
    yield made
    made.store.close()


# ------------------------------------------------------------------------------------------------------------- quorums


@pytest.mark.parametrize("pair", list(itertools.combinations(("alice", "bob", "carol"), 2)), ids="-".join)
def test_any_two_of_three_open_it(site: Site, pair: tuple[str, str]) -> None:
    site.seal()
    site.recover(*pair)
    assert site.written() == FILES


def test_a_second_device_opens_the_same_share_and_counts_once(site: Site) -> None:
    site.seal()
    with pytest.raises(DeniedError, match="alice present; missing 1 more of bob, carol"):
        site.recover("alice", "alice/token")
    site.recover("alice/token", "carol")
    assert site.written() == FILES


def test_every_group_of_a_roster_must_be_met(site: Site) -> None:
    site.seal(BOARD)
    with pytest.raises(DeniedError, match="missing 1 more of dave, grace"):
        site.recover("alice", "bob", "carol", version=BOARD)
    with pytest.raises(DeniedError, match="missing 1 more of"):
        site.recover("alice", "dave", "grace", version=BOARD)
    site.recover("alice", "carol", "grace", version=BOARD)
    assert site.written() == FILES


def test_more_than_a_quorum_is_fine(site: Site) -> None:
    site.seal()
    site.recover("alice", "bob", "carol")
    assert site.written() == FILES


# ------------------------------------------------------------------------------------------------------- who may, what


def test_a_sealer_may_seal_only_its_names(site: Site) -> None:
    with pytest.raises(DeniedError, match="bob may not seal demo/tiny@1"):
        site.seal(who="bob")


def test_a_workload_seals_with_its_certificate(site: Site) -> None:
    job = site.world.job("spiffe://example.org/train/run-1")
    sealed = site.seal(sealer=job.actor, signer=job)
    assert verify_manifest(sealed.manifest, [site.world.root]).content.version == VERSION
    site.recover("alice", "bob")
    assert site.written() == FILES


def test_a_label_is_sealed_once(site: Site) -> None:
    site.seal()
    with pytest.raises(ConflictError, match="exists already"):
        site.seal()


def test_who_is_overtaken_while_encrypting_leaves_nothing(site: Site) -> None:
    class Overtaken(FaultyStore):
        def writer(self, key: str) -> Any:
            if not has_version(site.store, VERSION):
                site.seal()
            return super().writer(key)

    with pytest.raises(ConflictError, match="exists already"):
        site.seal(store=Overtaken(site.store))
    assert unfinished(site.store) == {}
    site.recover("alice", "bob")


def test_what_the_newest_root_does_not_vouch_for_an_older_one_may(site: Site) -> None:
    """A sealer has left: what was sealed before stays open, and says under which root it was judged."""
    site.seal()
    older = site.world.root
    newer = msgspec.structs.replace(older, epoch=type(older.epoch)(1), previous=older.digest, sealers=())
    assert find_version(site.store, VERSION, [older, newer]).epoch == 0
    with pytest.raises(DeniedError, match="sam may not seal"):
        find_version(site.store, VERSION, [newer])


def test_a_root_of_another_deployment_opens_nothing(site: Site) -> None:
    site.seal()
    staging = World(deployment="custody.example.org/staging").root
    with pytest.raises(IntegrityError, match="is of deployment"):
        find_version(site.store, VERSION, [staging])


# ------------------------------------------------------------------------------------------------------------- attacks


def test_two_rightly_signed_contents_of_one_name_are_not_chosen_between(site: Site) -> None:
    first = site.seal().manifest
    site.store.delete(manifest_key(bytes.fromhex(first.content.document(Content).vid)))
    second = site.seal().manifest
    site.put(first)
    with pytest.raises(IntegrityError, match="the store holds 2 contents of that name"):
        find_version(site.store, VERSION, [site.world.root])
    chosen = find_version(site.store, VERSION, [site.world.root], second.content.digest)
    assert chosen.manifest.content.digest == second.content.digest
    with pytest.raises(NotFoundError, match="with content"):
        find_version(site.store, VERSION, [site.world.root], "0" * 64)


def test_a_forged_manifest_beside_the_true_one_does_not_hide_it(site: Site) -> None:
    true = site.seal().manifest
    content = site.world.sign(true.content.document(Content), "bob", vid="ab" * 32, sealer=Person(person="bob"))
    sharing = site.world.sign(
        true.sharing.document(Sharing), "bob", content=content.digest, signer=Person(person="bob")
    )
    site.put(Manifest(content=content, sharing=sharing, wraps=true.wraps))
    site.store.put(f"versions/{'cd' * 32}/manifest.json", b"not a manifest")
    site.recover("alice", "bob")
    assert site.written() == FILES


def test_a_manifest_under_another_vid_is_not_taken(site: Site) -> None:
    manifest = site.seal().manifest
    site.store.delete(manifest_key(bytes.fromhex(manifest.content.document(Content).vid)))
    site.store.put(f"versions/{'cd' * 32}/manifest.json", manifest.encode())
    with pytest.raises(NotFoundError, match="1 damaged"):
        site.recover("alice", "bob")


def test_a_sharing_that_is_not_the_rosters_is_refused(site: Site) -> None:
    """A sealer who deals to a roster of its own choice is found out, and so is a threshold of one."""
    manifest = site.seal().manifest
    groups = manifest.sharing.document(Sharing).groups
    lower = tuple(msgspec.structs.replace(group, threshold=1) for group in groups)
    for change in ({"groups": lower}, {"roster": "board"}):
        with pytest.raises(DeniedError, match="is not that of roster custodians"):
            verify_manifest(site.signed_again(manifest, **change), [site.world.root])


def test_content_and_sharing_of_two_sealers_are_refused(site: Site) -> None:
    manifest = site.seal().manifest
    with pytest.raises(IntegrityError, match="signed by two sealers"):
        verify_manifest(site.signed_again(manifest, "bob", signer=Person(person="bob")), [site.world.root])


def test_a_wrong_share_is_named(site: Site) -> None:
    """A sealer wraps to bob another share than the one it committed to."""
    manifest = site.seal().manifest
    bob = site.world.devices["bob"]
    slot = Slot(group=0, index=2)
    info = hpke.wrap_info(bytes.fromhex(manifest.sharing.digest), 0, 2, bytes.fromhex(bob.key_id))
    wrong = Wrap(slot=slot, device=bob.key_id, wrapped=hpke.seal(bob.xwing, info, bytes([7]) + bytes(31)))
    wraps = tuple(wrong if wrap.device == bob.key_id else wrap for wrap in manifest.wraps)
    site.put(msgspec.structs.replace(manifest, wraps=wraps))
    with pytest.raises(IntegrityError, match="the share of bob is not the one that was sealed"):
        site.recover("bob", "carol")
    site.recover("alice", "carol")


def test_a_bad_dealing_is_caught_although_the_shares_at_hand_are_good(site: Site) -> None:
    """One commitment of three is wrong: the two others could open it, and carol never could."""
    manifest = site.seal().manifest
    sharing = manifest.sharing.document(Sharing)
    group = sharing.groups[0]
    bad = msgspec.structs.replace(group.slots[2], commitment="0" * 64)
    changed = site.signed_again(manifest, groups=(msgspec.structs.replace(group, slots=(*group.slots[:2], bad)),))
    digest = bytes.fromhex(changed.sharing.digest)
    found = verify_manifest(manifest, [site.world.root])
    wraps = []
    for held in hold(found, [site.world.devices[name].key_id for name in ("alice", "bob")]):
        device = site.world.devices[held.person]
        share = open_share(found, held, device.xwing_seed)
        info = hpke.wrap_info(digest, held.slot.group, held.slot.index, bytes.fromhex(device.key_id))
        wrapped = hpke.seal(device.xwing, info, share.value.view)
        wraps.append(Wrap(slot=held.slot, device=device.key_id, wrapped=wrapped))
    site.put(msgspec.structs.replace(changed, wraps=tuple(wraps)))
    with pytest.raises(IntegrityError, match="bad dealing: .* slot 3"):
        site.recover("alice", "bob")


def test_a_wrong_key_commit_is_refused_before_any_segment(site: Site) -> None:
    manifest = site.seal().manifest
    found = verify_manifest(manifest, [site.world.root])
    held = hold(found, [site.world.devices[name].key_id for name in ("alice", "bob")])
    shares = [open_share(found, item, site.world.devices[item.person].xwing_seed) for item in held]
    lying = msgspec.structs.replace(found.content, key_commit="0" * 64)
    with pytest.raises(IntegrityError, match="key_commit"):
        rebuild_key(replace(found, content=lying), shares)
    assert all(share.value.closed for share in shares)


def test_shares_are_wiped_when_the_key_is_rebuilt(site: Site) -> None:
    site.seal()
    found = find_version(site.store, VERSION, [site.world.root])
    held = hold(found, [site.world.devices[name].key_id for name in ("alice", "bob")])
    shares = [open_share(found, item, site.world.devices[item.person].xwing_seed) for item in held]
    rebuild_key(found, shares).close()
    assert all(share.value.closed for share in shares)


def test_nothing_is_written_when_the_last_file_is_damaged(site: Site) -> None:
    sealed = site.seal()
    key = f"versions/{sealed.content.vid}/1.floe"
    site.store.put(key, site.store.get(key)[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"config\.json: segment 0"):
        site.recover("alice", "bob")
    assert sorted(path.name for path in site.directory.iterdir()) == ["model", "store"]


# ------------------------------------------------------------------------------------------------------------- crashes


def _operations(tmp_path: Path) -> int:
    (tmp_path / "count").mkdir()
    store = LocalStore(tmp_path / "count")
    counting = FaultyStore(store)
    Site(tmp_path).seal(store=counting)
    store.close()
    return counting.done


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC, Fault.PERSISTED])
def test_a_store_that_fails_at_any_step_leaves_nothing_visible(site: Site, fault: Fault) -> None:
    for at in range(_operations(site.directory)):
        with pytest.raises(CustodyError):
            site.seal(store=FaultyStore(site.store, at=at, fault=fault))
        assert not has_version(site.store, VERSION), at
        assert fault is Fault.ENOSPC or unfinished(site.store) == {}, at
    site.seal()
    site.recover("alice", "bob")
    assert site.written() == FILES


def test_a_seal_killed_at_any_step_is_swept_by_the_next(site: Site) -> None:
    notes = Unfinished(site.directory / "home", "file:store")
    for at in range(_operations(site.directory) - 1):
        with pytest.raises(Dead):
            site.seal(store=FaultyStore(site.store, at=at, fault=Fault.KILLED))
        assert not has_version(site.store, VERSION), at
    left = unfinished(site.store)
    assert left
    for vid in left:  # what a killed process leaves: a note that nobody has locked
        (site.directory / "home/unfinished").mkdir(parents=True, exist_ok=True)
        (site.directory / "home/unfinished" / vid).write_text("file:store")
    assert notes.sweep(site.store) == len(left)
    assert unfinished(site.store) == {}
    assert list((site.directory / "home/unfinished").iterdir()) == []


def test_a_seal_under_way_is_not_swept(site: Site) -> None:
    notes = Unfinished(site.directory / "home", "file:store")
    vid = "ab" * 32
    site.store.put(f"versions/{vid}/0.floe", b"x")
    with notes.sealing(vid):
        assert notes.sweep(site.store) == 0
        assert Unfinished(site.directory / "home", "file:other").sweep(site.store) == 0
    assert set(unfinished(site.store)) == {vid}


def test_a_note_of_a_finished_seal_sweeps_nothing(site: Site) -> None:
    """Killed between the manifest and the end: the version stays."""
    vid = site.seal().content.vid
    (site.directory / "home/unfinished").mkdir(parents=True)
    (site.directory / "home/unfinished" / vid).write_text("file:store")
    assert Unfinished(site.directory / "home", "file:store").sweep(site.store) == 0
    site.recover("alice", "bob")


def test_a_file_that_changes_while_it_is_sealed_is_refused(site: Site) -> None:
    files = scan(site.directory / "model")
    (site.directory / "model/config.json").write_bytes(b"longer than before")
    with pytest.raises(IntegrityError, match=r"config\.json: changed while it was read"):
        site.seal(files=files)
    assert unfinished(site.store) == {}


def test_a_directory_swapped_for_a_link_while_sealing_is_not_followed(site: Site) -> None:
    files = scan(site.directory / "model")
    (site.directory / "model/a").rename(site.directory / "elsewhere")
    (site.directory / "model/a").symlink_to(site.directory / "elsewhere")
    with pytest.raises(CustodyError, match="not a directory|link"):
        site.seal(files=files)
    assert not has_version(site.store, VERSION)


def test_a_content_that_cannot_be_is_refused_and_leaves_nothing(site: Site) -> None:
    with pytest.raises(FormatError, match="retention"):
        site.seal(retention="For Ever")
    assert unfinished(site.store) == {}


# -------------------------------------------------------------------------------------------------------------- memory

_PROGRAM = """
import os, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.integration.test_seal_recover import SEGMENT, Site
site = Site(Path(sys.argv[2]))
site.seal(segment=1 << 20)
site.recover("alice", "bob")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    peak = {}
    for size in (1 << 20, 256 << 20):
        directory = tmp_path / str(size)
        (directory / "model").mkdir(parents=True)
        (directory / "store").mkdir()
        with (directory / "model/weights").open("wb") as file:
            file.truncate(size)
        words = [sys.executable, "-c", _PROGRAM, str(ROOT), str(directory)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        peak[size] = int(done.stdout) * 1024
    assert peak[256 << 20] - peak[1 << 20] < 16 << 20, peak


def test_no_secret_outlives_a_seal(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every SecretBytes that a seal makes is closed when it returns, and when it fails."""
    made: list[SecretBytes] = []
    before = SecretBytes.__init__

    def record(self: SecretBytes, size: int, *, require_lock: bool = False) -> None:
        before(self, size, require_lock=require_lock)
        made.append(self)

    monkeypatch.setattr(SecretBytes, "__init__", record)
    site.seal()
    assert made
    assert all(secret.closed for secret in made)
    for at in (3, 9, 20):
        made.clear()
        with pytest.raises(CustodyError):
            site.seal("demo/next@1", store=FaultyStore(site.store, at=at))
        assert all(secret.closed for secret in made)


def test_a_signature_is_over_what_is_stored(site: Site) -> None:
    sealed = site.seal()
    again = sign(sealed.content, [site.world.signer("sam")])
    assert again == sealed.manifest.content
