"""A lying broker, as a custodian's tool sees it: it signs what the witnessed log says, or nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from custody.app.sealing import Sealed
from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import random_into
from custody.custodian.acting import Acted, decide, look, release
from custody.custodian.desk import Desk
from custody.custodian.keys import DeviceSigner
from custody.custodian.review import Review
from custody.custodian.signing import draft_decision
from custody.documents.dsse import Envelope, sign
from custody.documents.manifest import Wrap
from custody.documents.release import ReleaseKey
from custody.documents.terms import Terms
from custody.errors import CustodyError, DeniedError, IntegrityError
from custody.values import U64
from custody.wire.calls import Calls
from custody.wire.messages import RequestReply, VersionReply
from tests.doubles import malice
from tests.doubles.liar import desk
from tests.doubles.site import Site, now, rng


def reviewed(site: Site, at: Desk, request: str) -> Review:
    return look(at, at.request(request), person="alice", device=site.signer("alice").key_id, clock=now)


def approve(site: Site, at: Desk, request: str) -> Acted:
    """Look at a request and approve it, as the command does."""
    shown = reviewed(site, at, request)
    device = DeviceSigner(site.keys["alice"])
    return decide(at, shown, draft_decision(shown, "approve", "", issued=now()), device, clock=now)


def refused(site: Site, request: str, match: str, **lies: Any) -> None:
    """The tool refuses, and nothing that alice signed about the request has reached the broker."""
    with pytest.raises(CustodyError, match=match), desk(site, **lies) as at:
        approve(site, at, request)
    said = [entry for entry in malice.entries(site) if entry.request == request and entry.actor]
    assert "person:alice" not in {entry.actor.id for entry in said if entry.actor}


@pytest.fixture
def request_(site: Site, sealed: Sealed) -> str:
    with site.calls("dave") as dave:
        return dave.submit_request(site.request(sealed)).request


def test_an_honest_broker(site: Site, sealed: Sealed, request_: str) -> None:
    with desk(site) as at:
        acted = approve(site, at, request_)
    assert acted.decision is not None
    assert acted.release is not None
    with site.calls("dave") as dave:
        view = site.approve(dave.get_request(request_), "bob")
    with site.calls("job") as job:
        assert site.open(job, sealed, site.lease_of(view)).session


def viewed(change: Callable[[RequestReply], RequestReply]) -> Any:
    return lambda self, *args, **options: change(Calls.get_request(self, *args, **options))


def exchanged(kind: type[Any], make: Callable[[Envelope], Envelope]) -> dict[str, Any]:
    """Lies that put another document in the place of that of a kind, in the view and in the log."""

    def in_view(reply: RequestReply) -> RequestReply:
        envelopes = [make(item) if item.payloadType == kind.payload_type else item for item in reply.envelopes]
        return replace(reply, envelopes=envelopes)

    def in_log(self: Calls, path: str) -> bytes:
        data = Calls.get_log_object(self, path)
        if not path.startswith("documents/"):
            return data
        envelope = Envelope.parse(data)
        return make(envelope).encode() if envelope.payloadType == kind.payload_type else data

    return {"get_request": viewed(in_view), "get_log_object": in_log}


@pytest.mark.parametrize("who", ["dave", "alice"])
def test_a_release_key_of_the_attacker(site: Site, request_: str, who: str) -> None:
    """The share would be wrapped to somebody who only says that he is the broker."""
    with SecretBytes.random(hpke.SEED_SIZE, random_into) as seed:
        own = hpke.public_key(seed)

    def fake(envelope: Envelope) -> Envelope:
        return sign(msgspec.structs.replace(envelope.document(ReleaseKey), xwing=own), [site.signer(who)])

    refused(site, request_, "of the log is another one", **exchanged(ReleaseKey, fake))


def test_a_release_key_of_another_request(site: Site, sealed: Sealed, request_: str) -> None:
    """Pooling: alice's share for one request, wrapped for another that bob has approved."""
    with site.calls("dave") as dave:
        other = dave.submit_request(site.request(sealed))
    key = next(item for item in other.envelopes if item.payloadType == ReleaseKey.payload_type)
    refused(site, request_, "of the log is another one", **exchanged(ReleaseKey, lambda _: key))
    refused(
        site, request_, "of another request", get_request=viewed(lambda reply: replace(other, request=reply.request))
    )


def test_terms_that_are_wider_than_the_request(site: Site, request_: str) -> None:
    def wider(envelope: Envelope) -> Envelope:
        terms = msgspec.structs.replace(envelope.document(Terms), sessions=U64(1000), bytes=U64(2**40))
        return sign(terms, [site.signer("dave")])

    refused(site, request_, "of the log is another one", **exchanged(Terms, wider))


def test_a_document_exchanged_in_the_view_alone_changes_nothing(site: Site, request_: str) -> None:
    """What entries name is fetched from the log: alice signs what is true, whatever she was shown."""
    with site.calls("dave") as dave:
        (key,) = [item for item in dave.get_request(request_).envelopes if item.payloadType == ReleaseKey.payload_type]
    fake = sign(msgspec.structs.replace(key.document(ReleaseKey), created=site.time(-5)), [site.signer("dave")])
    with desk(site, get_request=exchanged(ReleaseKey, lambda _: fake)["get_request"]) as at:
        acted = approve(site, at, request_)
    assert acted.release is not None
    assert acted.release.entry.release_key == key.digest


def test_an_entry_left_out_or_added(site: Site, sealed: Sealed, request_: str) -> None:
    """Left out: the request itself. Added: another request's. Exchanged: their order."""
    other, _ = site.granted(sealed)
    changes: list[tuple[Callable[[RequestReply], RequestReply], str]] = [
        (lambda reply: replace(reply, receipts=[]), "does not show the entry"),
        (lambda reply: replace(reply, receipts=[*reply.receipts, other.receipts[1]]), "of another request|order"),
        (lambda reply: replace(reply, receipts=[reply.receipts[0], reply.receipts[0]]), "order"),
    ]
    for change, match in changes:
        refused(site, request_, match, get_request=viewed(change))


def test_a_wrap_that_somebody_put_into_ones_place(site: Site, sealed: Sealed, request_: str) -> None:
    """Framing: anybody can wrap a wrong share to alice. Her tool compares it with the commitment before it sends it."""
    key = site.keys["alice"]
    info = hpke.wrap_info(bytes.fromhex(sealed.manifest.sharing.digest), 0, 1, key.key_id)
    framed = hpke.seal(key.xwing_public, info, bytearray(rng(31) + b"\0"))
    bobs = next(wrap for wrap in sealed.manifest.wraps if wrap.slot.index == 2)

    def shown(wrapped: bytes) -> Any:
        def lie(self: Calls, name: str) -> VersionReply:
            reply = Calls.get_version(self, name)
            (wrap,) = reply.wraps
            return replace(reply, wraps=[Wrap(slot=wrap.slot, device=wrap.device, wrapped=wrapped)])

        return lie

    refused(site, request_, "commit|share", get_version=shown(framed))
    refused(site, request_, "share|sealed", get_version=shown(bobs.wrapped))
    refused(
        site,
        request_,
        "no wrapped share",
        get_version=lambda self, name: replace(Calls.get_version(self, name), wraps=[]),
    )


def test_an_old_answer_to_a_new_hello(site: Site, request_: str) -> None:
    with site.calls("alice") as alice:
        old = alice.hello(site.hello("alice"))
    refused(site, request_, "another entry", hello=lambda *_: old)


def sends_no_share(site: Site, request: str, match: str, **lies: Any) -> None:
    """The tool is asked for the share alone, and refuses by itself: the broker is sent nothing."""
    sent: list[object] = []
    with desk(site, release_share=lambda _self, *what: sent.append(what), **lies) as at:
        shown = reviewed(site, at, request)
        with pytest.raises((IntegrityError, DeniedError), match=match):
            release(at, shown, DeviceSigner(site.keys["alice"]), clock=now)
    assert not sent


def test_a_stop_is_hidden_and_the_share_asked_for_again(site: Site, sealed: Sealed) -> None:
    """A view from before the revocation: every receipt in it is true. The log knows of the stop."""
    view, lease = site.granted(sealed)
    with site.calls("alice") as alice:
        before = alice.get_request(view.request)
    with desk(site) as at:
        assert reviewed(site, at, view.request).view.found.phase == "granted"
    with site.calls("bob") as bob:
        bob.stop(site.stop_document("bob", "revoke", lease))
    sends_no_share(site, view.request, "stop|hid|does not show", get_request=lambda *_, **__: before)
