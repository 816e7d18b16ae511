"""Asking, waiting and taking back: what a requester believes of its own request."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.client import lookup
from custody.client.custody import Custody
from custody.client.identity import DeviceIdentity
from custody.client.lookup import look_up
from custody.client.requests import PendingRequest, read_status
from custody.client.stopping import stop
from custody.client.versions import verify_version
from custody.documents.actor import Person
from custody.documents.terms import Terms
from custody.errors import (
    ConflictError,
    CustodyError,
    DeniedError,
    FormatError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from custody.values import U64
from custody.wire.messages import RequestReply
from tests.unit.client.broker import NAME, Broker
from tests.unit.custodian.counter import Memory, raising


@pytest.fixture
def asked(tmp_path: Path) -> Broker:
    """A request that nobody has decided on yet."""
    return Broker(tmp_path / "tls", granted=False)


def _ask(custody: Custody, **changes: Any) -> PendingRequest:
    fields: dict[str, Any] = {"purpose": "evaluation", "reason": "nightly", "duration": "2h"}
    return custody.request(NAME, **(fields | changes))


def _view(broker: Broker) -> RequestReply:
    return broker.get_request(broker.case.digest)


def test_a_job_asks_for_itself_and_is_granted(asked: Broker) -> None:
    custody = asked.custody()
    pending = _ask(custody)
    assert pending.document.requester == asked.job.actor
    assert pending.document.beneficiary == asked.job.spiffe
    assert pending.status().granted is None
    asked.grant()
    lease = pending.wait()
    assert lease.id == asked.case.lease


def test_a_person_asks_for_a_job_and_must_name_it(asked: Broker) -> None:
    custody = asked.custody(identity=DeviceIdentity("frank", asked.world.devices["frank"]))
    with pytest.raises(FormatError, match="a person asks for a job"):
        _ask(custody)
    pending = _ask(custody, beneficiary=asked.job.spiffe)
    assert pending.document.requester == Person(person="frank")


def test_what_is_wrong_is_said_before_anybody_signs(asked: Broker) -> None:
    class Locked:
        def credential(self) -> Any:
            pytest.fail("asked for a passphrase")

    custody = asked.custody(identity=Locked())
    for changes in ({"duration": 0}, {"sessions": 0}, {"files": ["nope"]}, {"bytes": 10**12}):
        with pytest.raises(FormatError):
            _ask(custody, beneficiary=asked.job.spiffe, **changes)
    with pytest.raises(IntegrityError, match="is pinned"):
        _ask(custody, beneficiary=asked.job.spiffe, content="ab" * 32)
    with pytest.raises(NotFoundError):
        custody.request("demo/none@1", purpose="x", reason="y", duration=60)


def test_a_request_is_filed_once_however_often_the_connection_breaks(asked: Broker) -> None:
    honest = asked.submit_request
    calls: list[str] = []

    def losing(envelope: Any) -> RequestReply:
        reply = honest(envelope)
        calls.append(envelope.digest)
        if len(calls) < 3:
            raise UnavailableError("the answer was lost")
        return reply

    asked.lie("submit_request", losing)
    pending = _ask(asked.custody())
    assert calls == [pending.digest] * 3
    assert sum(entry.type == "request" for entry in asked.world.log.entries) == 2  # the fixture's, and this one


def test_waiting_ends_at_the_timeout_and_may_go_on(asked: Broker) -> None:
    pending = asked.custody().find(asked.case.digest)
    with pytest.raises(UnavailableError, match="no quorum has decided yet"):
        pending.wait(60)
    assert 60 <= asked.clock.passed < 90
    asked.grant()
    assert pending.wait(0).id == asked.case.lease


def test_waiting_survives_a_broker_that_is_away_for_a_while(asked: Broker) -> None:
    pending = asked.custody().find(asked.case.digest)
    honest, away = asked.get_request, [0] * 5

    def flaky(*arguments: Any, **settings: Any) -> RequestReply:
        if away:
            away.pop()
            raise UnavailableError("the broker cannot be reached")
        return honest(*arguments, **settings)

    asked.lie("get_request", flaky)
    asked.grant()
    assert pending.wait().id == asked.case.lease


def test_waiting_ends_when_the_request_is_denied(asked: Broker) -> None:
    asked.case.decide("alice", "deny")
    asked.case.decide("bob", "deny")
    asked.case.close("denied")
    with pytest.raises(DeniedError, match="closed: denied"):
        asked.custody().find(asked.case.digest).wait()


def test_a_grant_that_the_broker_only_claims_is_not_believed(asked: Broker) -> None:
    honest = asked.get_request
    asked.lie("get_request", lambda *a, **k: replace(honest(*a, **k), phase="granted"))
    with pytest.raises(UnavailableError, match="no quorum"):
        asked.custody().find(asked.case.digest).wait(30)
    with pytest.raises(DeniedError, match="not granted yet"):
        asked.custody().lease(asked.case.digest)


def test_granted_terms_wider_than_the_request_are_refused(broker: Broker) -> None:
    view = _view(broker)
    wide = broker.case.make_terms(bytes=U64(10**9))
    entry = replace_grant(broker, wide.digest)
    lying = replace(
        view,
        receipts=[view.receipts[0], broker.log.receipt(entry)],
        envelopes=[item if item.payloadType != Terms.payload_type else wide for item in view.envelopes],
    )
    with pytest.raises(DeniedError, match="bytes is wider"):
        read_status(broker.log.trust(), broker.case.request, lying)


def replace_grant(broker: Broker, terms: str) -> int:
    """Log a grant of other terms, as a lying broker could."""
    import msgspec

    grant = next(entry for entry in broker.world.log.entries if entry.type == "grant")
    broker.world.log.entries.append(msgspec.structs.replace(grant, terms=terms))
    broker.world.state.size += 1
    return len(broker.world.log.entries) - 1


def test_views_that_are_not_of_the_own_request_are_refused(broker: Broker) -> None:
    trust, view = broker.log.trust(), _view(broker)
    with pytest.raises(IntegrityError, match="another request"):
        read_status(trust, broker.case.request, replace(view, request="ab" * 32))
    with pytest.raises(IntegrityError, match="does not hold the request"):
        read_status(trust, broker.case.request, replace(view, receipts=view.receipts[1:]))
    with pytest.raises(IntegrityError, match="does not show the terms"):
        read_status(trust, broker.case.request, replace(view, envelopes=[broker.case.request]))
    other = broker.world.file(NAME, reason="other")
    foreign = broker.log.view(other).receipts[0]
    with pytest.raises(IntegrityError, match="entry of another request"):
        read_status(trust, broker.case.request, replace(view, receipts=[*view.receipts, foreign]))


def test_a_request_is_found_by_digest_lease_or_prefix(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    custody = broker.custody()
    for reference in (broker.case.digest, broker.case.digest[:8], broker.case.lease, broker.case.lease[:10]):
        assert custody.find(reference).digest == broker.case.digest
    for reference in ("abc", "../..", "zz" * 8):
        with pytest.raises(FormatError):
            look_up(custody.link, reference)
    with pytest.raises(NotFoundError):
        look_up(custody.link, "0" * 8)
    views = [_view(broker), broker.log.view(broker.world.file(NAME, reason="other"))]
    broker.lie("list_requests", lambda **_: (views, ""))
    monkeypatch.setattr(lookup, "_names", lambda reply: [f"aaaaaaaa{reply.request}"])  # two digests that begin alike
    with pytest.raises(DeniedError, match="fits 2 requests"):
        look_up(custody.link, "aaaaaaaa")


def test_a_broker_that_answers_with_another_own_request_is_refused(broker: Broker) -> None:
    """Whatever it calls it: the wrong lease would be revoked, or waited for."""
    custody, mine = broker.custody(), _view(broker)
    other = broker.log.view(broker.world.file(NAME, broker.job, reason="another"))
    for lie in (
        other,
        replace(other, request=mine.request),
        replace(other, envelopes=[*other.envelopes, *mine.envelopes]),
    ):
        broker.lie("get_request", lambda *_, lie=lie, **__: lie)
        broker.lie("list_requests", lambda lie=lie, **_: ([lie], ""))
        for reference in (mine.request, mine.request[:20], broker.case.lease, broker.case.lease[:20]):
            with pytest.raises((IntegrityError, NotFoundError)):
                custody.find(reference)


def test_terms_that_were_not_granted_name_no_lease(broker: Broker) -> None:
    narrower = broker.case.make_terms(bytes=U64(1))
    shown = _view(broker)
    broker.lie("list_requests", lambda **_: ([replace(shown, envelopes=[*shown.envelopes, narrower])], ""))
    honest = broker.get_request
    broker.lie("get_request", lambda digest, **_: replace(honest(digest), envelopes=[*shown.envelopes, narrower]))
    with pytest.raises(DeniedError, match="names terms that were not granted"):
        broker.custody().lease(narrower.digest)


# ----------------------------------------------------------------------------------------------------------- stopping


def test_a_stop_is_sent_again_until_it_is_receipted(broker: Broker) -> None:
    honest, lost = broker.stop, [0] * 3
    told: list[str] = []

    def losing(envelope: Any) -> Any:
        if lost:
            lost.pop()
            raise UnavailableError("the log is down")
        return honest(envelope)

    broker.lie("stop", losing)
    custody = broker.custody()
    stop(custody.link, custody.identity, "return", broker.case.lease, "done", unconfirmed=told.append)
    assert told == ["the log is down"] * 3
    assert broker.case.found.stopped == "returned"


def test_a_stop_without_a_receipt_is_not_confirmed(broker: Broker) -> None:
    broker.lie("stop", raising(UnavailableError("the log is down")))
    custody = broker.custody()
    with pytest.raises(UnavailableError, match="NOT CONFIRMED"):
        stop(custody.link, custody.identity, "return", broker.case.lease, "done", patience=60)
    assert 55 < broker.clock.passed < 75


def test_a_receipt_of_another_entry_confirms_no_stop(broker: Broker) -> None:
    broker.lie("stop", lambda _: broker.log.receipt(0))
    custody = broker.custody()
    with pytest.raises(UnavailableError, match="NOT CONFIRMED"):
        stop(custody.link, custody.identity, "return", broker.case.lease, "done", patience=5)


def test_what_is_closed_already_is_said(broker: Broker) -> None:
    broker.lie("stop", raising(ConflictError("it is closed already: expired")))
    with pytest.raises(ConflictError, match="expired"):
        broker.lease().give_back()


def test_a_requester_withdraws(asked: Broker) -> None:
    asked.custody().find(asked.case.digest).withdraw("wrong version")
    assert asked.case.found.stopped == "withdrawn"


# ----------------------------------------------------------------------------------------------------------- versions


def test_a_version_is_verified_and_another_name_refused(broker: Broker) -> None:
    trust = broker.log.trust()
    assert verify_version(trust, NAME, broker.get_version(NAME)).digest == broker.content.digest
    with pytest.raises(IntegrityError, match="the broker showed"):
        verify_version(trust, "demo/other@1", broker.get_version(NAME))


def test_a_version_with_another_content_or_sharing_is_refused(broker: Broker) -> None:
    world = broker.world
    other = world.content("demo/other@1")
    sharing = world.sharing(other)
    world.log_manifest(world.sign(other, "sam"), world.sign(sharing, "sam"))
    theirs, ours = broker.log.version("demo/other@1"), broker.get_version(NAME)
    for lying in (
        replace(ours, content=theirs.content),
        replace(ours, sharing=theirs.sharing),
        replace(ours, receipt=theirs.receipt),
    ):
        with pytest.raises(CustodyError):
            verify_version(broker.log.trust(), NAME, lying)


def test_a_sealer_who_left_does_not_unseal(broker: Broker) -> None:
    broker.world.tick(60)
    broker.world.replace_root(sealers=())
    assert broker.custody().version(NAME).digest == broker.content.digest


def test_what_was_seen_is_remembered_and_an_older_log_refused(broker: Broker, tmp_path: Path) -> None:
    memory = Memory()
    broker.custody(memory=memory).version(NAME)
    assert memory.now.size == len(broker.world.log.entries)
    old = broker.get_roots()
    broker.world.tick(60)
    broker.world.replace_root()
    broker.custody(memory=memory).version(NAME)
    broker.lie("get_roots", lambda: old)
    with pytest.raises(IntegrityError, match="rollback"):
        broker.custody(memory=memory).version(NAME)


def test_a_root_that_came_meanwhile_is_taken_without_a_restart(broker: Broker) -> None:
    custody = broker.custody()
    custody.version(NAME)
    broker.world.tick(60)
    broker.world.replace_root()
    broker.world.seal("demo/new@1")
    assert custody.version("demo/new@1").content.version == "demo/new@1"
