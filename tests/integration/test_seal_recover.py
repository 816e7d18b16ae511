"""Seal and recover through the compositions themselves: who can open, what is noticed, what a crash leaves."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from custody.app.recovery import hold, open_share, rebuild_key
from custody.app.versions import find_version, has_version, unfinished, verify_manifest
from custody.crypto import hpke
from custody.documents.actor import Person
from custody.documents.content import Content
from custody.documents.manifest import Manifest, Wrap
from custody.documents.sharing import Sharing, Slot
from custody.errors import ConflictError, DeniedError, IntegrityError, NotFoundError
from custody.segments.layout import manifest_key
from tests.doubles.seal_site import BOARD, FILES, VERSION, SealSite
from tests.doubles.store import FaultyStore
from tests.doubles.world import World


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SealSite]:
    (tmp_path / "store").mkdir()
    for name, data in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    made = SealSite(tmp_path)
    yield made
    made.store.close()


# ------------------------------------------------------------------------------------------------------------- quorums


@pytest.mark.parametrize("pair", list(itertools.combinations(("alice", "bob", "carol"), 2)), ids="-".join)
def test_any_two_of_three_open_it(site: SealSite, pair: tuple[str, str]) -> None:
    site.seal()
    site.recover(*pair)
    assert site.written() == FILES


def test_a_second_device_opens_the_same_share_and_counts_once(site: SealSite) -> None:
    site.seal()
    with pytest.raises(DeniedError, match="alice present; missing 1 more of bob, carol"):
        site.recover("alice", "alice/token")
    site.recover("alice/token", "carol")
    assert site.written() == FILES


def test_every_group_of_a_roster_must_be_met(site: SealSite) -> None:
    site.seal(BOARD)
    with pytest.raises(DeniedError, match="missing 1 more of dave, grace"):
        site.recover("alice", "bob", "carol", version=BOARD)
    with pytest.raises(DeniedError, match="missing 1 more of"):
        site.recover("alice", "dave", "grace", version=BOARD)
    site.recover("alice", "carol", "grace", version=BOARD)
    assert site.written() == FILES


def test_more_than_a_quorum_is_fine(site: SealSite) -> None:
    site.seal()
    site.recover("alice", "bob", "carol")
    assert site.written() == FILES


# ------------------------------------------------------------------------------------------------------- who may, what


def test_a_sealer_may_seal_only_its_names(site: SealSite) -> None:
    with pytest.raises(DeniedError, match="bob may not seal demo/tiny@1"):
        site.seal(who="bob")


def test_a_workload_seals_with_its_certificate(site: SealSite) -> None:
    job = site.world.job("spiffe://example.org/train/run-1")
    sealed = site.seal(sealer=job.actor, signer=job)
    assert verify_manifest(sealed.manifest, [site.world.root]).content.version == VERSION
    site.recover("alice", "bob")
    assert site.written() == FILES


def test_a_label_is_sealed_once(site: SealSite) -> None:
    site.seal()
    with pytest.raises(ConflictError, match="exists already"):
        site.seal()


def test_who_is_overtaken_while_encrypting_leaves_nothing(site: SealSite) -> None:
    class Overtaken(FaultyStore):
        def writer(self, key: str) -> Any:
            if not has_version(site.store, VERSION):
                site.seal()
            return super().writer(key)

    with pytest.raises(ConflictError, match="exists already"):
        site.seal(store=Overtaken(site.store))
    assert unfinished(site.store) == {}
    site.recover("alice", "bob")


def test_what_the_newest_root_does_not_vouch_for_an_older_one_may(site: SealSite) -> None:
    """A sealer has left: what was sealed before stays open, and says under which root it was judged."""
    site.seal()
    older = site.world.root
    newer = msgspec.structs.replace(older, epoch=type(older.epoch)(1), previous=older.digest, sealers=())
    assert find_version(site.store, VERSION, [older, newer]).epoch == 0
    with pytest.raises(DeniedError, match="sam may not seal"):
        find_version(site.store, VERSION, [newer])


def test_a_root_of_another_deployment_opens_nothing(site: SealSite) -> None:
    site.seal()
    staging = World(deployment="custody.example.org/staging").root
    with pytest.raises(IntegrityError, match="is of deployment"):
        find_version(site.store, VERSION, [staging])


# ------------------------------------------------------------------------------------------------------------- attacks


def test_two_rightly_signed_contents_of_one_name_are_not_chosen_between(site: SealSite) -> None:
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


def test_a_forged_manifest_beside_the_true_one_does_not_hide_it(site: SealSite) -> None:
    true = site.seal().manifest
    content = site.world.sign(true.content.document(Content), "bob", vid="ab" * 32, sealer=Person(person="bob"))
    sharing = site.world.sign(
        true.sharing.document(Sharing), "bob", content=content.digest, signer=Person(person="bob")
    )
    site.put(Manifest(content=content, sharing=sharing, wraps=true.wraps))
    site.store.put(f"versions/{'cd' * 32}/manifest.json", b"not a manifest")
    site.recover("alice", "bob")
    assert site.written() == FILES


def test_a_manifest_under_another_vid_is_not_taken(site: SealSite) -> None:
    manifest = site.seal().manifest
    site.store.delete(manifest_key(bytes.fromhex(manifest.content.document(Content).vid)))
    site.store.put(f"versions/{'cd' * 32}/manifest.json", manifest.encode())
    with pytest.raises(NotFoundError, match="1 damaged"):
        site.recover("alice", "bob")


def test_a_sharing_that_is_not_the_rosters_is_refused(site: SealSite) -> None:
    """A sealer who deals to a roster of its own choice is found out, and so is a threshold of one."""
    manifest = site.seal().manifest
    groups = manifest.sharing.document(Sharing).groups
    lower = tuple(msgspec.structs.replace(group, threshold=1) for group in groups)
    for change in ({"groups": lower}, {"roster": "board"}):
        with pytest.raises(DeniedError, match="is not that of roster custodians"):
            verify_manifest(site.signed_again(manifest, **change), [site.world.root])


def test_content_and_sharing_of_two_sealers_are_refused(site: SealSite) -> None:
    manifest = site.seal().manifest
    with pytest.raises(IntegrityError, match="signed by two sealers"):
        verify_manifest(site.signed_again(manifest, "bob", signer=Person(person="bob")), [site.world.root])


def test_a_wrong_share_is_named(site: SealSite) -> None:
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


def test_a_bad_dealing_is_caught_although_the_shares_at_hand_are_good(site: SealSite) -> None:
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
    with pytest.raises(IntegrityError, match=r"bad dealing: .* slot 3"):
        site.recover("alice", "bob")


def test_a_wrong_key_commit_is_refused_before_any_segment(site: SealSite) -> None:
    manifest = site.seal().manifest
    found = verify_manifest(manifest, [site.world.root])
    held = hold(found, [site.world.devices[name].key_id for name in ("alice", "bob")])
    shares = [open_share(found, item, site.world.devices[item.person].xwing_seed) for item in held]
    lying = msgspec.structs.replace(found.content, key_commit="0" * 64)
    with pytest.raises(IntegrityError, match="key_commit"):
        rebuild_key(replace(found, content=lying), shares)
    assert all(share.value.closed for share in shares)


def test_shares_are_wiped_when_the_key_is_rebuilt(site: SealSite) -> None:
    site.seal()
    found = find_version(site.store, VERSION, [site.world.root])
    held = hold(found, [site.world.devices[name].key_id for name in ("alice", "bob")])
    shares = [open_share(found, item, site.world.devices[item.person].xwing_seed) for item in held]
    rebuild_key(found, shares).close()
    assert all(share.value.closed for share in shares)


def test_nothing_is_written_when_the_last_file_is_damaged(site: SealSite) -> None:
    sealed = site.seal()
    key = f"versions/{sealed.content.vid}/1.floe"
    site.store.put(key, site.store.get(key)[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"config\.json: segment 0"):
        site.recover("alice", "bob")
    assert sorted(path.name for path in site.directory.iterdir()) == ["model", "store"]
