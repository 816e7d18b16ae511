"""Approvals that must not count, or not twice; approvals of several requests that must not add up."""

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from custody.app.sealing import Sealed
from custody.crypto.keyfile import UnlockedKey
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import random_into
from custody.documents.actor import Person
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope
from custody.documents.root import Device, Root
from custody.entries.receipt import Receipt
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, NotFoundError
from custody.wire.messages import RequestReply
from tests.doubles import malice
from tests.doubles.site import DeviceSigner, Site

MEMBERS = ("alice", "bob", "carol", "olga")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Olga, who owns the job, is a custodian as well; alice has two devices."""
    phone = UnlockedKey(SecretBytes.random(32, random_into), SecretBytes.random(32, random_into))

    def change(root: Root) -> Root:
        device = Device(name="phone", ed25519=phone.ed25519_public, xwing=phone.xwing_public)
        persons = [
            msgspec.structs.replace(person, devices=(*person.devices, device)) if person.id == "alice" else person
            for person in root.persons
        ]
        group = msgspec.structs.replace(root.rosters[1].groups[0], members=MEMBERS)
        roster = msgspec.structs.replace(root.rosters[1], groups=(group,))
        return msgspec.structs.replace(root, persons=tuple(persons), rosters=(root.rosters[0], roster))

    site = Site(tmp_path_factory.mktemp("deployment") / "site", change_root=change)
    site.keys["alice/phone"] = phone
    with site:
        yield site


@pytest.fixture
def view(site: Site, sealed: Sealed) -> RequestReply:
    return file(site, sealed)


def file(site: Site, sealed: Sealed, who: str = "dave") -> RequestReply:
    with site.calls(who) as calls:
        return calls.submit_request(site.request(sealed, requester=Person(person=who)))


def send(site: Site, envelope: Envelope, who: str = "alice") -> Receipt:
    with site.calls(who) as calls:
        return calls.decide(envelope)


def decision(site: Site, view: RequestReply, person: str, **changes: Any) -> Envelope:
    return site.decide(view, person, **changes)[0]


def decisions(site: Site, view: RequestReply) -> list[str]:
    """Who has decided, by the ledger."""
    return [
        entry.actor.id
        for entry in malice.entries(site)
        if entry.type == "decision" and entry.request == view.request and entry.actor
    ]


def phase(site: Site, view: RequestReply) -> str:
    with site.calls("bob") as bob:
        return bob.get_request(view.request).phase


def is_granted_by_bob(site: Site, view: RequestReply) -> None:
    """The honest case: one more person makes the quorum."""
    assert phase(site, view) == "requested"
    send(site, decision(site, view, "bob"), "bob")
    assert phase(site, view) == "granted"


def test_approvals_of_two_requests_do_not_add_up(site: Site, sealed: Sealed) -> None:
    """Pooling: with alice's share for one request and bob's for the other the broker could rebuild the key."""
    one, two = file(site, sealed), file(site, sealed)
    for view, person in ((one, "alice"), (two, "bob")):
        assert site.approve(view, person).phase == "requested"
    for view in (one, two):
        with site.calls("job") as job, pytest.raises(DeniedError, match="not granted: the request is requested"):
            site.open(job, sealed, site.lease_of(view))
    # A share for a request whose terms its person has not approved is not even taken.
    _, release, wrapped = site.decide(two, "alice")
    with site.calls("alice") as alice, pytest.raises(DeniedError, match="alice has not approved these terms"):
        alice.release_share(release, wrapped)
    assert not [entry for entry in malice.entries(site) if entry.type == "opening-intent"]
    assert site.approve(one, "bob").phase == "granted"
    with site.calls("job") as job:
        assert site.open(job, sealed, site.lease_of(one)).session


def test_the_same_release_again_is_logged_once_and_another_one_replaces_it(site: Site, view: RequestReply) -> None:
    approval, release, wrapped = site.decide(view, "alice")
    with site.calls("alice") as alice:
        alice.decide(approval)
        first = alice.release_share(release, wrapped)
        assert alice.release_share(release, wrapped).entry == first.entry  # its answer may have been lost
        other = alice.release_share(*site.decide(view, "alice")[1:])
        assert other.entry != first.entry
        assert alice.release_share(release, wrapped).entry not in {first.entry, other.entry}


def test_the_same_decision_again_and_after_a_restart(site: Site, view: RequestReply) -> None:
    approval = decision(site, view, "alice")
    first = send(site, approval)
    assert send(site, approval).entry == first.entry
    assert send(site, approval, "carol").entry == first.entry  # whoever carries it
    site.restart_broker()
    assert send(site, approval).entry == first.entry
    assert decisions(site, view) == ["person:alice"]
    is_granted_by_bob(site, view)
    assert send(site, approval).entry == first.entry


def test_the_same_decision_many_times_at_once(site: Site, view: RequestReply) -> None:
    approval = decision(site, view, "alice")
    receipts: list[Receipt] = []
    start = threading.Barrier(8)

    def attack() -> None:
        with site.calls("alice") as alice:
            start.wait()
            receipts.extend(alice.decide(approval) for _ in range(3))

    threads = [threading.Thread(target=attack) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receipts) == 24
    assert len({receipt.entry for receipt in receipts}) == 1
    assert decisions(site, view) == ["person:alice"]
    is_granted_by_bob(site, view)


def test_two_devices_of_one_person(site: Site, view: RequestReply) -> None:
    """Quorums count persons: neither a second device nor a second document makes a second voice."""
    approval = decision(site, view, "alice")
    send(site, approval)
    document = approval.document(Decision)
    by_phone = malice.sign_json(document, DeviceSigner(site.keys["alice/phone"]))
    again = site.sign_as("alice", msgspec.structs.replace(document, note="again"))
    both = Envelope(payload=approval.payload, payloadType=approval.payloadType,
                    signatures=(*approval.signatures, *by_phone.signatures))  # fmt: skip
    with pytest.raises(ConflictError, match="alice has decided on these terms already"):
        send(site, by_phone)
    with pytest.raises(ConflictError, match="alice has decided on these terms already"):
        send(site, again)
    with pytest.raises(CustodyError, match="2 signatures on a document that one party signs"):
        send(site, both)
    assert decisions(site, view) == ["person:alice"]
    is_granted_by_bob(site, view)


def test_a_denial_is_not_turned_into_an_approval(site: Site, view: RequestReply) -> None:
    send(site, decision(site, view, "alice", verdict="deny"))
    with pytest.raises(ConflictError, match="alice has decided"):
        send(site, decision(site, view, "alice"))
    send(site, decision(site, view, "bob"), "bob")
    assert phase(site, view) == "requested"
    send(site, decision(site, view, "carol"), "carol")
    assert phase(site, view) == "granted"


def test_an_approval_of_one_request_used_for_another(site: Site, sealed: Sealed, view: RequestReply) -> None:
    other = file(site, sealed)
    document = decision(site, view, "alice").document(Decision)
    terms, request = site.lease_of(other), other.request
    for changes, error, match in (
        ({"terms": terms}, IntegrityError, "other terms"),
        ({"request": request}, IntegrityError, "other terms"),
        ({"request": "ab" * 32}, NotFoundError, "no request"),
        ({"deployment": "custody.example.org/staging"}, IntegrityError, "another deployment"),
        ({"sharing": "ab" * 32}, DeniedError, "another trust root or sharing"),
        ({"root": "ab" * 32}, DeniedError, "another trust root or sharing"),
        ({"slot": msgspec.structs.replace(document.slot, index=2)}, IntegrityError, "does not hold slot"),
        ({"person": "bob"}, IntegrityError, "not signed with a device of bob"),
        ({"verdict": "veto"}, DeniedError, "only between the grant and the end of the cool-off"),
    ):
        with pytest.raises(error, match=match):
            send(site, site.sign_as("alice", msgspec.structs.replace(document, **changes)))
    # Replayed as it is, with the other request's terms under bob's signature: still one voice for one request.
    send(site, site.sign_as("alice", document))
    assert decisions(site, other) == []
    is_granted_by_bob(site, view)


def test_requester_and_owner_do_not_decide(site: Site, sealed: Sealed) -> None:
    view = file(site, sealed, "alice")
    with pytest.raises(DeniedError, match="alice may not decide"):
        send(site, decision(site, view, "alice"))
    with pytest.raises(DeniedError, match="alice may not decide"):  # nor with another device
        send(
            site,
            malice.sign_json(decision(site, view, "alice").document(Decision), DeviceSigner(site.keys["alice/phone"])),
        )
    with pytest.raises(DeniedError, match="olga may not decide: requester or owner"):
        send(site, decision(site, view, "olga"), "olga")
    send(site, decision(site, view, "carol"), "carol")
    is_granted_by_bob(site, view)


def test_somebody_who_holds_no_slot(site: Site, view: RequestReply) -> None:
    document = decision(site, view, "alice").document(Decision)
    for who, slot in (("dave", document.slot), ("dave", msgspec.structs.replace(document.slot, index=5))):
        forged = site.sign_as(who, msgspec.structs.replace(document, person=who, slot=slot))
        with pytest.raises(IntegrityError, match="dave does not hold slot"):
            send(site, forged, who)
    send(site, site.sign_as("alice", document))
    is_granted_by_bob(site, view)


def test_decisions_with_a_wrong_clock(site: Site, view: RequestReply) -> None:
    for changes, match in (
        ({"issued": site.time(7200), "expires": site.time(9000)}, "ahead of the broker's clock"),
        ({"issued": site.time(-7200), "expires": site.time(-3600)}, "has expired"),
    ):
        with pytest.raises(DeniedError, match=match):
            send(site, decision(site, view, "alice", **changes))
    send(site, decision(site, view, "alice", issued=site.time(-60)))
    is_granted_by_bob(site, view)
