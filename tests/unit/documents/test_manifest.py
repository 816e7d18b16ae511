"""A manifest's parts belong together; what an attacker swaps beside the ciphertext is refused."""

import msgspec
import pytest

from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.documents.content import Content
from custody.documents.manifest import MAX_MANIFEST, WRAPPED_SHARE, Manifest, Wrap
from custody.documents.sharing import Sharing, Slot
from custody.errors import CustodyError, FormatError, IntegrityError
from tests.doubles import samples
from tests.doubles.world import World

HONEST = samples.manifest()


def changed(**changes: object) -> bytes:
    return msgspec.structs.replace(HONEST, **changes).encode()


def other_sealed() -> Manifest:
    """Another version of the same sealer and roster."""
    world = World()
    content = world.content("frontier/other@1")
    sharing = world.sharing(content)
    return world.manifest(world.sign(content, "sam"), world.sign(sharing, "sam"))


OTHER = other_sealed()


def many_wraps(count: int) -> bytes:
    """Wraps of one slot to as many devices that nobody has."""
    (first, *_) = HONEST.wraps
    return changed(wraps=tuple(msgspec.structs.replace(first, device=f"{i:064x}") for i in range(count)))


def test_an_honest_manifest_is_read_as_it_was_written() -> None:
    manifest = Manifest.parse(HONEST.encode())
    content, sharing = manifest.documents()
    assert manifest == HONEST
    assert isinstance(content, Content)
    assert isinstance(sharing, Sharing)
    assert {wrap.slot for wrap in manifest.wraps} == set(sharing.slots())
    assert len(manifest.wraps) == 6  # alice has two devices


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        pytest.param(
            changed(sharing=other_sealed().sharing), IntegrityError, "belongs to another content", id="sharing"
        ),
        pytest.param(
            changed(content=other_sealed().content), IntegrityError, "belongs to another content", id="content"
        ),
        pytest.param(changed(content=HONEST.sharing), FormatError, "payload type", id="sharing for content"),
        pytest.param(changed(sharing=HONEST.content), FormatError, "payload type", id="content for sharing"),
        pytest.param(changed(wraps=()), FormatError, "at `wraps`", id="no wraps"),
        pytest.param(many_wraps(4097), FormatError, "at `wraps`", id="too many wraps"),
        pytest.param(HONEST.encode() + b"\n", FormatError, "manifest: ", id="a byte more"),
        pytest.param(HONEST.encode()[:-1], FormatError, "manifest: ", id="a byte less"),
        pytest.param(b"[" * (MAX_MANIFEST + 1), FormatError, "at most 67108864 are allowed", id="too large"),
    ],
)
def test_refused_as_a_manifest(data: bytes, error: type[CustodyError], message: str) -> None:
    with pytest.raises(error) as caught:
        Manifest.parse(data)
    assert message in caught.value.message


def test_a_wrap_for_a_slot_that_the_sharing_does_not_have_is_refused() -> None:
    (first, *rest) = HONEST.wraps
    stray = msgspec.structs.replace(first, slot=Slot(group=2, index=1))
    with pytest.raises(IntegrityError, match="a wrap for slot 2/1, which the sharing does not have"):
        Manifest.parse(changed(wraps=(stray, *rest)))


def test_two_wraps_of_one_slot_to_one_device_are_refused() -> None:
    (first, *_) = HONEST.wraps
    twin = msgspec.structs.replace(first, wrapped=bytes(WRAPPED_SHARE))
    with pytest.raises(ValueError, match="two of one slot to one device"):
        changed(wraps=(*HONEST.wraps, twin))
    one = Manifest(content=HONEST.content, sharing=HONEST.sharing, wraps=(first,)).encode()
    twice = one.replace(b'"wraps":[', b'"wraps":[' + one.split(b'"wraps":[')[1][:-2] + b",")
    with pytest.raises(FormatError, match="two of one slot to one device"):
        Manifest.parse(twice)


@pytest.mark.parametrize("size", [0, WRAPPED_SHARE - 1, WRAPPED_SHARE + 1])
def test_a_wrapped_share_has_one_size(size: int) -> None:
    (first, *rest) = HONEST.wraps
    with pytest.raises(FormatError, match="at `wraps"):
        Manifest.parse(changed(wraps=(msgspec.structs.replace(first, wrapped=bytes(size)), *rest)))


def test_envelopes_inside_a_manifest_are_as_strict_as_outside() -> None:
    (signature,) = HONEST.content.signatures
    encoded = msgspec.json.encode(signature, order="sorted")
    data = HONEST.encode().replace(encoded, encoded + b"," + encoded)
    with pytest.raises(FormatError, match="signatures: two under one key id - at `content`"):
        Manifest.parse(data)


def test_a_wrap_opens_for_its_own_slot_and_sharing_only() -> None:
    world = World()
    content = world.content("frontier/llm@1")
    sharing = world.sign(world.sharing(content), "sam")
    manifest = world.manifest(world.sign(content, "sam"), sharing)
    alice = world.devices["alice"]
    slot = Slot(group=0, index=1)
    (wrap,) = (item for item in manifest.wraps if (item.slot, item.device) == (slot, alice.key_id))
    key = bytes.fromhex(alice.key_id)
    digest = bytes.fromhex(sharing.digest)
    with SecretBytes(32) as share:
        hpke.open_into(alice.xwing_seed, hpke.wrap_info(digest, 0, 1, key), wrap.wrapped, share)
        assert bytes(share.view) == bytes(world.shares[content.vid][slot].view)
        for info in (hpke.wrap_info(digest, 0, 2, key), hpke.wrap_info(bytes(32), 0, 1, key)):
            with pytest.raises(IntegrityError):
                hpke.open_into(alice.xwing_seed, info, wrap.wrapped, share)


def test_a_wrap_names_its_device_by_key_id() -> None:
    stray = Wrap(slot=Slot(group=0, index=1), device="alice", wrapped=bytes(WRAPPED_SHARE))
    with pytest.raises(FormatError, match="at `wraps"):
        Manifest.parse(changed(wraps=(stray,)))
