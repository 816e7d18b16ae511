"""Rosters that release after the quorum: no share travels before, whatever the broker says, and one veto ends it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from custody.app.sealing import Sealed
from custody.custodian.acting import decide, look, release
from custody.custodian.keys import DeviceSigner
from custody.custodian.review import require_decidable
from custody.custodian.signing import draft_decision
from custody.documents.decision import Decision
from custody.documents.root import Group, Roster
from custody.errors import ConflictError, DeniedError, IntegrityError
from custody.values import U64
from custody.wire.calls import Calls
from custody.wire.messages import RequestReply
from tests.doubles import malice
from tests.doubles.liar import desk
from tests.doubles.site import Site, now

OWNERS = Group(name="owners", threshold=2, members=("alice", "bob", "carol"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A board without a cool-off, and one with an hour's."""
    rosters = (
        Roster(name="board", guards=("*",), groups=(OWNERS,), release="after-quorum", cool_off=U64(0)),
        Roster(name="slow", guards=("slow/*",), groups=(OWNERS,), release="after-quorum", cool_off=U64(3600)),
    )
    with Site(tmp_path_factory.mktemp("deployment") / "site", rosters=rosters) as running:
        yield running


@pytest.fixture(scope="module")
def slow(site: Site, source: Any) -> Sealed:
    version = site.seal(source, "slow/model@1")
    site.register(version)
    return version


def file(site: Site, sealed: Sealed) -> RequestReply:
    with site.calls("dave") as dave:
        return dave.submit_request(site.request(sealed))


def approvals(site: Site, view: RequestReply, *persons: str) -> RequestReply:
    """Decisions alone."""
    for person in persons:
        with site.calls(person) as calls:
            calls.decide(site.decide(view, person)[0])
    with site.calls("alice") as alice:
        return alice.get_request(view.request)


def send_share(site: Site, view: RequestReply, person: str) -> None:
    """Send a share whatever one's tool would say."""
    _, release_, wrapped = site.decide(view, person)
    with site.calls(person) as calls:
        calls.release_share(release_, wrapped)


def test_no_share_is_sent_or_taken_before_the_quorum(site: Site, sealed: Sealed) -> None:
    """Pooling has nothing to pool: a broker that lies holds no share of anybody."""
    view = file(site, sealed)
    with desk(site) as at:
        device = DeviceSigner(site.keys["alice"])
        shown = look(at, at.request(view.request), person="alice", device=device.key_id, clock=now)
        acted = decide(at, shown, draft_decision(shown, "approve", "", issued=now()), device, clock=now)
    assert acted.release is None
    with pytest.raises(DeniedError, match="only after the grant"):
        send_share(site, view, "alice")
    assert not [entry for entry in malice.entries(site) if entry.request == view.request and entry.type == "release"]
    view = approvals(site, view, "bob")
    assert view.phase == "granted"
    for person in ("alice", "bob"):
        send_share(site, view, person)
    with site.calls("job") as job:
        assert site.open(job, sealed, site.lease_of(view)).session


def test_a_grant_that_the_broker_only_claims(site: Site, sealed: Sealed) -> None:
    """ "Send now", it says. The tool asks the log, and sends nothing."""
    view = approvals(site, file(site, sealed), "alice")
    sent: list[object] = []

    def claim(self: Calls, *args: Any, **options: Any) -> RequestReply:
        return replace(Calls.get_request(self, *args, **options), phase="granted")

    with desk(site, get_request=claim, release_share=lambda _self, *what: sent.append(what)) as at:
        device = DeviceSigner(site.keys["alice"])
        shown = look(at, at.request(view.request), person="alice", device=device.key_id, clock=now)
        with pytest.raises(DeniedError, match="the log holds no grant"):
            release(at, shown, device, clock=now)
    assert not sent


def test_a_share_within_the_cool_off(site: Site, slow: Sealed) -> None:
    """Neither the tool sends it, nor does the broker take it; nothing opens."""
    view = approvals(site, file(site, slow), "alice", "bob")
    assert view.phase == "granted"
    with desk(site) as at:
        device = DeviceSigner(site.keys["alice"])
        shown = look(at, at.request(view.request), person="alice", device=device.key_id, clock=now)
        with pytest.raises(DeniedError, match="cool-off is not over"):
            release(at, shown, device, clock=now)
    with pytest.raises(DeniedError, match="only after the grant and the cool-off"):
        send_share(site, view, "bob")
    with site.calls("job") as job, pytest.raises(DeniedError, match="shares of nobody"):
        site.open(job, slow, site.lease_of(view))


def test_one_veto_ends_it_and_nobody_vetoes_outside_the_cool_off(site: Site, sealed: Sealed, slow: Sealed) -> None:
    view = file(site, slow)
    with site.calls("carol") as carol, pytest.raises(DeniedError, match="only between the grant and the end"):
        carol.decide(site.decide(view, "carol", verdict="veto")[0])
    view = approvals(site, view, "alice", "bob")
    veto = site.decide(view, "carol", verdict="veto")[0]
    with site.calls("dave") as dave, pytest.raises(IntegrityError, match="not signed with a device of carol"):
        dave.decide(site.sign_as("dave", veto.document(Decision)))
    with site.calls("carol") as carol:
        carol.decide(veto)
        while carol.get_request(view.request).phase != "closed":
            carol.get_request(view.request, seen=99, wait_seconds=5)
        assert carol.get_request(view.request).reason == "denied"
    open_ = approvals(site, file(site, sealed), "alice", "bob")
    with site.calls("carol") as carol, pytest.raises(DeniedError, match="only between the grant and the end"):
        carol.decide(site.decide(open_, "carol", verdict="veto")[0])


def test_an_approver_who_changes_their_mind_is_told_how_to_end_the_lease(site: Site, slow: Sealed) -> None:
    """Their approval stands, so it is no veto; they revoke, inside the cool-off as after it."""
    view = approvals(site, file(site, slow), "alice", "bob")
    lease = site.lease_of(view)
    with desk(site) as at:
        device = site.keys["alice"].key_id.hex()
        shown = look(at, at.request(view.request), person="alice", device=device, clock=now)
        with pytest.raises(ConflictError, match="decided on these terms already: approve") as caught:
            require_decidable(shown, veto=True)
    assert f"custody lease revoke {lease[:8]} --reason" in caught.value.hint
    with site.calls("alice") as alice:
        with pytest.raises(ConflictError) as caught:
            alice.decide(site.decide(view, "alice", verdict="veto")[0])
        assert "custody lease revoke" in caught.value.hint
        alice.stop(site.stop_document("alice", "revoke", lease))
        assert alice.get_request(view.request).reason == "revoked"
