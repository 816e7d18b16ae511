"""No trust anchor but the pinned genesis: forged, old and withheld roots; receipts of something else; fired people."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.crypto.keyfile import UnlockedKey
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import random_into
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope, sign
from custody.documents.root import Device, Root
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError
from custody.rules.trust import Seen, Trust
from custody.values import U64, Time
from tests.doubles import malice
from tests.doubles.site import DEPLOYMENT, DeviceSigner, Site

Logged = list[tuple[Envelope, Receipt]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment of its own: its trust root will change."""
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


@dataclass
class Before:
    """What was in the log under the genesis root: roots with receipts, and what carol said before she was fired."""

    roots: Logged
    hello: Envelope
    answer: Receipt
    sealed: Sealed
    request: str
    approval: Envelope
    by_carol: Envelope


@pytest.fixture(scope="module")
def before(site: Site, sealed: Sealed) -> Before:
    """Then carol is fired and dave may not seal any more: a second root comes into force."""
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed))
        hello = site.hello("dave")
        found = Before(
            roots=dave.get_roots(),
            hello=hello,
            answer=dave.hello(hello),
            sealed=sealed,
            request=view.request,
            approval=site.decide(view, "alice")[0],
            by_carol=site.decide(view, "carol")[0],
        )
        dave.decide(found.approval)
    members = ("alice", "bob", "olga")
    rosters = [replace(item, groups=(replace(item.groups[0], members=members),)) for item in site.root.rosters]
    persons = tuple(person for person in site.root.persons if person.id != "carol")
    root = site.next_root(
        persons=persons, rosters=tuple(rosters), sealers=(replace(site.root.sealers[0], sealer="bob"),)
    )
    site.replace_root(root, "alice", "bob")
    return found


@pytest.fixture(scope="module")
def now_logged(site: Site, before: Before) -> Logged:
    with site.calls("alice") as alice:
        return alice.get_roots()


def fresh(site: Site, seen: Seen | None = None) -> Trust:
    """A tool that has pinned deployment and genesis, and perhaps seen something."""
    return Trust(DEPLOYMENT, site.root_envelope.digest, seen or Seen())


def believes(site: Site, logged: Logged) -> Trust:
    """The honest case."""
    trust = fresh(site)
    trust.take_roots(logged)
    assert (int(trust.root.epoch), trust.root_digest) == (1, site.roots[-1].digest)
    return trust


def impostor(name: str) -> DeviceSigner:
    return DeviceSigner(UnlockedKey(SecretBytes.random(32, random_into), SecretBytes.random(32, random_into)))


def forged(site: Site, **changes: Any) -> Root:
    """A root in which everything belongs to an attacker who signs it alone, and nothing contradicts itself."""
    thief = impostor("thief").key
    keys = {person.id: impostor(person.id).key for person in site.root.persons}
    persons = tuple(
        replace(
            person,
            devices=(
                Device(name="laptop", ed25519=keys[person.id].ed25519_public, xwing=keys[person.id].xwing_public),
            ),
        )
        for person in site.root.persons
    )
    brokers = (replace(site.root.brokers[0], ed25519=thief.ed25519_public),)
    return replace(site.root, **({"persons": persons, "brokers": brokers} | changes))


def test_a_genesis_that_was_not_pinned(site: Site, now_logged: Logged) -> None:
    """Database or network serve another history from its beginning, complete and consistent."""
    believes(site, now_logged)
    root = forged(site, epoch=site.root_envelope.document(Root).epoch, previous=None)
    envelope = sign(root, [impostor("nobody")])
    for chain in ([envelope], [envelope, now_logged[1][0]], []):
        with pytest.raises(CustodyError):
            fresh(site).load(chain)
    real = site.root_envelope.document(Root)
    signed_by_all = sign(replace(real, policy="ab" * 32), [site.signer(person.id) for person in real.persons])
    with pytest.raises(IntegrityError, match="is pinned"):
        fresh(site).load([signed_by_all])


@pytest.mark.parametrize(
    ("changes", "signers", "match"),
    [
        ({}, ("bob", "carol"), "signature by key|governance quorum|no root names"),
        ({}, ("olga",), "lacks the governance quorum"),
        ({}, ("bob", "dave"), "lacks the governance quorum"),
        ({"epoch": U64(3)}, ("alice", "bob"), "does not follow"),
        ({"previous": "ab" * 32}, ("alice", "bob"), "does not follow"),
        ({"deployment": "custody.example.org/staging"}, ("alice", "bob"), "deployment"),
        ({"created": Time(0)}, ("alice", "bob"), "older than the one before"),
    ],
)
def test_a_next_root_that_governance_did_not_sign(
    site: Site, now_logged: Logged, changes: dict[str, Any], signers: tuple[str, ...], match: str
) -> None:
    envelope = sign(replace(site.next_root(), **changes), [site.signer(person) for person in signers])
    chain = [item for item, _ in now_logged]
    fresh(site).load([*chain, sign(site.next_root(), [site.signer("alice"), site.signer("bob")])])
    with pytest.raises((IntegrityError, FormatError), match=match):
        fresh(site).load([*chain, envelope])


def test_a_next_root_that_replaces_somebody_s_key_behind_their_back(site: Site, now_logged: Logged) -> None:
    new = impostor("olga").key
    persons = tuple(
        replace(person, devices=(Device(name="laptop", ed25519=new.ed25519_public, xwing=new.xwing_public),))
        if person.id == "olga"
        else person
        for person in site.root.persons
    )
    envelope = sign(site.next_root(persons=persons), [site.signer("alice"), site.signer("bob")])
    with pytest.raises(IntegrityError, match="olga did not sign with the new device"):
        fresh(site).load([*(item for item, _ in now_logged), envelope])


def test_an_old_root_is_shown_to_a_fresh_tool(site: Site, before: Before, now_logged: Logged) -> None:
    """It is logged and witnessed, so only the answer to the tool's own nonce tells that a newer one exists."""
    trust = fresh(site)
    trust.take_roots(before.roots)
    trust.check_current(before.answer, before.hello)  # it was so once
    with site.calls("alice") as alice:
        hello = site.hello("alice")
        answer = alice.hello(hello)
    with pytest.raises(IntegrityError, match="trust root"):
        trust.check_current(answer, hello)
    for old, mine in ((before.answer, hello), (answer, site.hello("alice"))):
        with pytest.raises(IntegrityError, match="another entry"):
            believes(site, now_logged).check_current(old, mine)
    believes(site, now_logged).check_current(answer, hello)


def test_an_old_root_and_an_old_log_are_shown_to_a_tool_that_has_seen_more(
    site: Site, before: Before, now_logged: Logged
) -> None:
    seen = believes(site, now_logged).seen
    assert seen.epoch == 1
    with pytest.raises(IntegrityError, match="rollback"):
        fresh(site, seen).take_roots(before.roots)
    old = fresh(site, Seen(0, seen.size))
    old.take_roots(before.roots)
    with pytest.raises(IntegrityError, match="rollback"):
        old.check_current(before.answer, before.hello)


def test_a_fired_custodian_and_a_decision_from_before(site: Site, before: Before) -> None:
    """Carol still holds a share of the old version, and her device. It does not count any more, nor does what was
    decided under the old root: alice's approval is void.
    """
    with site.calls("alice") as alice:
        with pytest.raises(IntegrityError, match="not signed with a device of carol"):
            alice.decide(before.by_carol)
        current = replace(before.by_carol.document(Decision), root=site.roots[-1].digest)
        with pytest.raises(IntegrityError, match="not signed with a device of carol"):
            alice.decide(site.sign_as("carol", current))
        view = alice.get_request(before.request)
        assert view.phase == "requested"
    assert site.approve(view, "bob").phase == "requested"  # bob's is the first that counts
    assert site.approve(view, "alice").phase == "granted"


def test_a_fired_person_s_certificate_and_device(site: Site, before: Before) -> None:
    """TLS still lets carol's certificate in until it ends; it is nobody's, and what she signs is refused."""
    with site.calls("carol") as carol:
        with pytest.raises(IntegrityError, match="not signed with a device of carol"):
            carol.hello(site.hello("carol"))
        assert carol.list_requests(closed=True) == ([], "")
        assert not carol.get_version(before.sealed.content.version).wraps


def test_a_sealer_who_was_removed_signs_with_an_old_date(site: Site, before: Before, source: Path) -> None:
    """Backdating: judged as of the entry that would log it, whatever date it bears."""
    honest = site.root
    site.root = replace(honest, sealers=before.roots[0][0].document(Root).sealers)
    late = site.seal(source, "demo/late@1")
    site.root = honest
    backdated = {"created": before.sealed.content.created}
    manifest = malice.reseal(site, late, content=backdated, sharing=backdated).manifest
    with site.calls("dave") as dave, pytest.raises(DeniedError, match="dave may not seal"):
        dave.register_version(manifest.encode())
    site.register(site.seal(source, "demo/later@1", sealer="bob"))
