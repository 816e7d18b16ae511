"""A malicious sealer: whatever is signed is judged when it is registered, or at the open, before any plaintext."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.crypto.sharing import share_commitment
from custody.crypto.sodium import L
from custody.documents.actor import Person
from custody.documents.manifest import Manifest
from custody.documents.sharing import Slot
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, IntegrityError
from custody.segments.layout import FilePlan
from custody.values import U64, Time
from tests.adversaries.conftest import STORES
from tests.doubles import malice
from tests.doubles.direct import DirectSite
from tests.doubles.site import Site, now, rng

Fresh = Callable[[str], str]
Error = type[CustodyError]
ALICE, CAROL = Slot(group=0, index=1), Slot(group=0, index=3)


@pytest.fixture(scope="module", params=STORES)
def site(request: pytest.FixtureRequest, sites: Callable[[str], DirectSite]) -> DirectSite:
    return sites(request.param)


@pytest.mark.parametrize("mode", ["stream", "direct"])
def test_one_ciphertext_for_two_keys(site: DirectSite, draft: Sealed, source: Path, fresh: Fresh, mode: str) -> None:
    """Invisible salamanders: two versions that share one ciphertext. Its FLOE header fits one key only."""
    weights = (source / "weights.bin").read_bytes()
    site.register(draft)
    with site.job() as custody, custody.lease(site.granted(draft, mode=mode)[1]).open(patience=0) as session:
        assert session.read("weights.bin") == weights  # the honest case
    twin = site.seal(source, fresh("twin"))
    for name in ("1.floe", "1.digests"):
        malice.stored(site, twin, name).write(malice.stored(site, draft, name).read())
    twin = malice.reseal(site, twin, content={"files": (twin.content.files[0], draft.content.files[1])})
    site.register(twin)
    with site.job() as custody, custody.lease(site.granted(twin, mode=mode)[1]).open(patience=0) as session:
        assert session.read("config.json") == (source / "config.json").read_bytes()
        out = bytearray(b"?" * len(weights))
        with pytest.raises(IntegrityError, match=r"weights\.bin: FLOE header: the tag does not fit"):
            session.readinto("weights.bin", out)
        assert out in (bytes(len(out)), b"?" * len(out))


@pytest.mark.parametrize("mode", ["stream", "direct"])
def test_a_wrong_key_commit_is_found_before_anything_is_decrypted(site: DirectSite, draft: Sealed, mode: str) -> None:
    lying = malice.reseal(site, draft, content={"key_commit": "ab" * 32})
    site.register(lying)
    view, lease = site.granted(lying, mode=mode)
    with site.job() as custody, pytest.raises(IntegrityError, match="key_commit"):
        custody.lease(lease).open(patience=0)
    with site.calls("dave") as dave:
        assert dave.get_request(view.request).phase == "granted"
    outcome = [entry for entry in malice.entries(site) if entry.type == "opening-outcome"][-1]
    assert (outcome.outcome, outcome.reason, outcome.slot) == ("failed", "integrity", None)


def test_one_commitment_of_a_dealing_is_wrong_and_nobody_is_blamed(site: Site, draft: Sealed) -> None:
    """Carol could never release. It is noticed at the first open, by others, and is not a custodian's fault."""
    lying = malice.reseal(site, draft, sharing=malice.recommitted(draft.sharing, CAROL, bytes(32)))
    site.register(lying)
    _, lease = site.granted(lying)
    with site.calls("job") as job, pytest.raises(IntegrityError, match=r"bad dealing: .* slot 3") as caught:
        site.open(job, lying, lease)
    assert "alice" not in caught.value.message


def test_a_share_off_the_polynomial_with_a_matching_commitment(site: Site, draft: Sealed) -> None:
    y = bytes(31) + b"\x01"
    commitment = share_commitment(bytes.fromhex(draft.content.vid), 0, 3, y)
    lying = malice.reseal(site, draft, sharing=malice.recommitted(draft.sharing, CAROL, commitment), shares={CAROL: y})
    site.register(lying)
    _, lease = site.granted(lying)
    with site.calls("job") as job, pytest.raises(IntegrityError, match="bad dealing"):
        site.open(job, lying, lease)


def test_a_share_not_below_l_with_a_matching_commitment(site: Site, draft: Sealed) -> None:
    """libsodium would reduce y + L to y and open: two spellings of one share."""
    honest = int.from_bytes(malice.shares_of(site, draft)[ALICE], "little")
    y = (honest + L).to_bytes(32, "little")
    commitment = share_commitment(bytes.fromhex(draft.content.vid), 0, 1, y)
    lying = malice.reseal(site, draft, sharing=malice.recommitted(draft.sharing, ALICE, commitment), shares={ALICE: y})
    site.register(lying)
    _, lease = site.granted(lying)
    with site.calls("job") as job, pytest.raises(CustodyError, match="slot 1: not a scalar below L"):
        site.open(job, lying, lease)


Change = Callable[[Sealed], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda _: {"content": {"deployment": "custody.example.org/staging"}}, IntegrityError, "another content"),
        (lambda _: {"content": {"sealer": Person(person="alice")}}, IntegrityError, "not signed with a device"),
        (lambda _: {"sealer": "alice"}, IntegrityError, "not signed with a device of dave"),
        (
            lambda _: {
                "sealer": "bob",
                "content": {"sealer": Person(person="bob")},
                "sharing": {"signer": Person(person="bob")},
            },
            DeniedError,
            "bob may not seal",
        ),
        (
            lambda draft: {"sharing": {"groups": (replace(draft.sharing.groups[0], threshold=1),)}},
            DeniedError,
            "not that of roster custodians",
        ),
        (lambda _: {"sharing": {"roster": "governance"}}, DeniedError, "not that of roster custodians"),
        (lambda _: {"sharing": {"content": "ab" * 32}}, IntegrityError, "another content"),
        (lambda _: {"sharing": {"generation": U64(1), "reshare": "ab" * 32}}, IntegrityError, "not the sealer's own"),
        (lambda _: {"content": {"created": Time(now() + 7200)}}, DeniedError, "ahead of the broker's clock"),
    ],
    ids=[
        "other deployment",
        "in somebody's name",
        "signed by somebody else",
        "no sealer of this name",
        "lower threshold",
        "other roster",
        "sharing of other content",
        "later generation",
        "from the future",
    ],
)
def test_a_manifest_that_the_root_does_not_allow(
    site: Site, draft: Sealed, change: Change, error: type[CustodyError], match: str
) -> None:
    honest = malice.stored(site, draft, "manifest.json").read()
    refused(site, malice.reseal(site, draft, **change(draft)).manifest, error, match)
    malice.stored(site, draft, "manifest.json").write(honest)
    site.register(draft)


def test_a_wrap_is_missing_so_that_a_custodian_is_left_out(site: Site, draft: Sealed) -> None:
    for wraps in (
        draft.manifest.wraps[:2],
        (*draft.manifest.wraps[:2], replace(draft.manifest.wraps[2], device="ab" * 32)),
    ):
        lying = replace(draft.manifest, wraps=wraps)
        malice.stored(site, draft, "manifest.json").write(lying.encode())
        refused(site, lying, IntegrityError, "not exactly one wrapped share for each device")


def test_what_is_registered_is_not_what_is_stored(site: Site, draft: Sealed) -> None:
    """A manifest, a digest list, a ciphertext: the store must hold exactly what is taken into custody."""
    refused(site, replace(draft.manifest, wraps=draft.manifest.wraps[::-1]), IntegrityError, "in the store is another")
    for name, cut, match in (("1.digests", b"?" * 128, "digest list"), ("1.floe", b"short", "5 bytes, expected")):
        blob = malice.stored(site, draft, name)
        whole = blob.read()
        blob.write(cut)
        refused(site, draft.manifest, IntegrityError, match)
        blob.write(whole)
    site.register(draft)


def test_nothing_is_read_from_the_store_for_somebody_who_may_not_seal_the_name(site: Site, draft: Sealed) -> None:
    """Bob's blobs are not even there; he is told that it is not his name, not what the store lacks."""
    bob = Person(person="bob")
    lying = malice.reseal(site, draft, sealer="bob", content={"sealer": bob}, sharing={"signer": bob})
    for name in ("0.floe", "0.digests", "1.floe", "1.digests", "manifest.json"):
        malice.stored(site, draft, name).remove()
    refused(site, lying.manifest, DeniedError, "bob may not seal")


@pytest.mark.parametrize("site", ["directory"], indirect=True)  # an object is never sparse
def test_a_file_that_claims_terabytes_and_holds_nothing(site: Site, draft: Sealed) -> None:
    """A sparse file costs its sealer nothing. Its digest list would be 32 GiB in the broker's memory."""
    site.register(draft)
    size = 1 << 42
    claimed = replace(draft.content.files[1], size=U64(size))
    for segment in (1 << 12, 1 << 24):
        vid = rng(32).hex()
        folder = site.directory / "store/versions" / vid
        shutil.copytree(malice.stored(site, draft, "manifest.json").path.parent, folder)
        content = {"version": f"demo/huge@{segment}", "vid": vid, "segment": U64(segment)}
        content |= {"files": (draft.content.files[0], claimed)}
        huge = Sealed(draft.manifest, replace(draft.content, vid=vid), draft.sharing)
        huge = malice.reseal(site, huge, content=content, sharing={"version": content["version"]})
        plan = FilePlan.of(huge.content, 1)
        os.truncate(folder / "1.floe", plan.stored_size)
        os.truncate(folder / "1.digests", plan.digests_size)
        refused(site, huge.manifest, (FormatError, IntegrityError), "digest list")
        shutil.rmtree(folder)  # others read every file here


def test_two_versions_with_one_vid(site: Site, draft: Sealed, fresh: Fresh) -> None:
    """One vid is one set of keys and one place in the store."""
    site.register(draft)
    name = {"version": fresh("twin")}
    twin = malice.reseal(site, draft, content=name, sharing=name)
    refused(site, twin.manifest, ConflictError, "exists already")


def test_other_content_under_a_name_that_is_taken(site: Site, draft: Sealed, source: Path, fresh: Fresh) -> None:
    site.register(draft)
    other = site.seal(source, fresh("other"))
    name = {"version": draft.content.version}
    refused(site, malice.reseal(site, other, content=name, sharing=name).manifest, ConflictError, "with other content")


def refused(site: Site, manifest: Manifest, error: Error | tuple[Error, ...], match: str) -> None:
    """Registering it fails, and leaves no trace in the log."""
    with site.calls("dave") as calls, pytest.raises(error, match=match):
        calls.register_version(manifest.encode())
    assert manifest.content.digest not in {entry.content for entry in malice.entries(site)}
