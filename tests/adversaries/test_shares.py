"""Bad shares of every kind: refused, the custodian named; the lease stays granted and opens once the share is good."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from custody.app.sealing import Sealed
from custody.crypto import hpke
from custody.crypto.sodium import L
from custody.documents.dsse import Envelope
from custody.documents.manifest import WRAPPED_SHARE
from custody.documents.release import Recipient, Release, ReleaseKey
from custody.documents.sharing import Slot
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError
from custody.wire.messages import RequestReply
from tests.doubles import malice
from tests.doubles.site import Site, rng

BOB = Slot(group=0, index=2)


class Granted:
    """A request that alice has approved and released for, and bob has approved."""

    def __init__(self, site: Site, sealed: Sealed) -> None:
        self.site = site
        self.sealed = sealed
        with site.calls("dave") as dave:
            view = dave.submit_request(site.request(sealed))
        view = site.approve(view, "alice")
        decision, self.release, self.wrapped = site.decide(view, "bob")
        with site.calls("bob") as bob:
            bob.decide(decision)
            self.view: RequestReply = bob.get_request(view.request)
        assert self.view.phase == "granted"
        self.lease = site.lease_of(self.view)
        self.key = [item for item in self.view.envelopes if item.payloadType == ReleaseKey.payload_type][-1]

    def wrap(self, y: bytes, **changes: str) -> bytes:
        """Wrap any share as bob would: for this request, these terms, this release key, his slot and device."""
        terms, key = changes.get("terms", self.lease), changes.get("key", self.key.digest)
        info = hpke.release_info(
            bytes.fromhex(self.view.request),
            bytes.fromhex(terms),
            bytes.fromhex(key),
            bytes.fromhex(self.sealed.manifest.sharing.digest),
            BOB.group,
            BOB.index,
            self.site.keys["bob"].key_id,
        )
        return hpke.seal(self.key.document(ReleaseKey).xwing, info, bytearray(y))

    def send(self, wrapped: bytes, envelope: Envelope | None = None, who: str = "bob") -> None:
        with self.site.calls(who) as calls:
            calls.release_share(envelope or self.site.release_of(self.view, who, wrapped), wrapped)

    def changed(self, **changes: Any) -> Envelope:
        """Bob's honest release with something changed, signed by him."""
        document = msgspec.structs.replace(self.release.document(Release), **changes)
        return self.site.sign_as("bob", document)

    def open(self) -> bytes:
        """Open, read, return to ``granted``."""
        with self.site.calls("job") as job:
            session = self.site.open(job, self.sealed, self.lease).session
            return self.site.read(job, session, 1)


@pytest.fixture
def granted(site: Site, sealed: Sealed) -> Granted:
    return Granted(site, sealed)


def plus_l(y: bytes) -> bytes:
    return (int.from_bytes(y, "little") + L).to_bytes(32, "little")


@pytest.fixture(scope="module")
def shares(site: Site, sealed: Sealed, source: Path, fresh: Callable[[str], str]) -> dict[str, bytes]:
    """Shares of the version by person, and alice's, bob's and carol's of another."""
    other = site.seal(source, fresh("other"))
    persons = {slot: holder.person for slot, holder in sealed.sharing.slots().items()}
    found: dict[str, bytes] = {persons[slot]: y for slot, y in malice.shares_of(site, sealed).items()}
    return found | {f"other {persons[slot]}": y for slot, y in malice.shares_of(site, other).items()}


Bad = Callable[[Granted, dict[str, bytes]], bytes]


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        pytest.param(lambda g, _: g.wrap(rng(31) + b"\x00"), "does not match its commitment", id="any scalar"),
        pytest.param(lambda g, _: g.wrap(bytes(32)), "does not match its commitment", id="zero"),
        pytest.param(lambda g, y: g.wrap(plus_l(y["bob"])), "does not match its commitment", id="y plus L"),
        pytest.param(lambda g, y: g.wrap(y["carol"]), "does not match", id="carol's share"),
        pytest.param(lambda g, y: g.wrap(y["other bob"]), "does not match", id="share of another version"),
        pytest.param(lambda g, y: g.wrap(y["bob"], terms="ab" * 32), "not sealed to this key", id="for other terms"),
        pytest.param(lambda g, y: g.wrap(y["bob"], key="ab" * 32), "not sealed to this key", id="for another key"),
        pytest.param(lambda _, __: rng(WRAPPED_SHARE), "not sealed to this key", id="garbage"),
    ],
)  # fmt: skip
def test_a_bad_share_names_its_custodian_and_the_lease_stays_granted(
    granted: Granted, shares: dict[str, bytes], source: Path, bad: Bad, match: str
) -> None:
    site = granted.site
    granted.send(bad(granted, shares))
    with pytest.raises(IntegrityError, match=f"the share of bob is bad: .*{match}") as caught:
        granted.open()
    assert "alice" not in caught.value.message
    outcome = [entry for entry in malice.entries(site) if entry.type == "opening-outcome"][-1]
    assert (outcome.outcome, outcome.reason, outcome.slot) == ("failed", "bad-share", BOB)
    with pytest.raises(DeniedError, match="shares of alice are at hand"):
        granted.open()
    with site.calls("dave") as dave:
        assert dave.get_request(granted.view.request).phase == "granted"
    granted.send(granted.wrapped, granted.release)
    assert granted.open() == (source / "weights.bin").read_bytes()


@pytest.mark.parametrize(
    ("slot", "error", "match"),
    [
        ({"group": 0, "index": 0}, FormatError, "slot.index"),  # x = 0 is the secret itself
        ({"group": 0, "index": L}, FormatError, "slot.index"),  # x = L is x = 0
        ({"group": 0, "index": L + 2}, FormatError, "slot.index"),  # x = L + 2 is bob
        ({"group": 0, "index": 1}, IntegrityError, "bob does not hold slot 0/1"),
        ({"group": 0, "index": 4}, IntegrityError, "bob does not hold slot 0/4"),
        ({"group": 1, "index": 2}, IntegrityError, "bob does not hold slot 1/2"),
    ],
)
def test_a_release_in_a_slot_that_is_not_ones_own(
    granted: Granted, slot: dict[str, int], error: type[CustodyError], match: str
) -> None:
    envelope = malice.sign_json(granted.release.document(Release), granted.site.signer("bob"), slot=slot)
    with pytest.raises(error, match=match):
        granted.send(granted.wrapped, envelope)
    granted.send(granted.wrapped, granted.release)


def test_one_share_twice_is_one_share(granted: Granted, site: Site) -> None:
    _, release, wrapped = site.decide(granted.view, "alice")
    granted.send(wrapped, release, "alice")
    with pytest.raises(DeniedError, match="shares of alice are at hand; needed: 2 of"):
        granted.open()
    granted.send(granted.wrapped, granted.release)
    assert granted.open()


def test_a_wrapped_share_that_was_not_signed(granted: Granted, site: Site) -> None:
    """Framing: nobody puts a share into another's slot, on the wire or with his own signature."""
    other = granted.wrap(rng(32))
    with pytest.raises(IntegrityError, match="not the one that was signed"):
        granted.send(other, granted.release)
    in_his_name = site.sign_as("carol", granted.release.document(Release))
    with pytest.raises(IntegrityError, match="not signed with a device of bob"):
        granted.send(granted.wrapped, in_his_name, "carol")
    for size in (0, WRAPPED_SHARE - 1, WRAPPED_SHARE + 1, 1 << 20):
        with pytest.raises(FormatError, match="wrapped share"):
            granted.send(bytes(size), granted.release)
    granted.send(granted.wrapped, granted.release)
    assert granted.open()


def test_a_release_for_something_else(granted: Granted, site: Site, sealed: Sealed) -> None:
    other = Granted(site, sealed)
    recipient = granted.release.document(Release).recipients[0]
    for envelope, error, match in (
        (granted.changed(deployment="custody.example.org/staging"), IntegrityError, "another deployment"),
        (granted.changed(terms=other.lease), IntegrityError, "other terms"),
        (granted.changed(sharing="ab" * 32), DeniedError, "another sharing"),
        (granted.changed(person="carol", slot=Slot(group=0, index=3)), IntegrityError, "not signed with a device"),
        (granted.changed(recipients=(msgspec.structs.replace(recipient, release_key=other.key.digest),)),
         DeniedError, "no longer in use"),
        (granted.changed(recipients=(Recipient(broker="broker-2", release_key="ab" * 32, wrapped="ab" * 32),)),
         DeniedError, "not for this broker"),
        (granted.changed(issued=site.time(7200)), DeniedError, "ahead of the broker's clock"),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            granted.send(granted.wrapped, envelope)
    with pytest.raises(DeniedError, match="carol has not approved"):  # she holds a slot, and did not decide
        granted.send(granted.wrapped, who="carol")
    granted.send(granted.wrapped, granted.release)
    assert granted.open()
