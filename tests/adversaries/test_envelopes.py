"""Games with signed bytes, over the wire: types, spellings, signatures. What verified is what is parsed."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.crypto.sodium import L
from custody.documents.dsse import Envelope, Signature
from custody.documents.request import Request
from custody.documents.stop import Stop
from custody.errors import ConflictError, CustodyError, FormatError, IntegrityError
from custody.wire.calls import Calls
from custody.wire.messages import RequestReply
from custody.wire.v1 import broker_pb2 as pb
from tests.doubles import malice
from tests.doubles.site import PERSONS, Site

P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
METHODS = {"Hello": "hello", "SubmitRequest": "request", "Decide": "decision", "Stop": "stop", "OpenSession": "open"}


@pytest.fixture
def view(site: Site, sealed: Sealed) -> RequestReply:
    with site.calls("dave") as dave:
        return dave.submit_request(site.request(sealed))


def send(calls: Calls, method: str, data: bytes) -> Any:
    """Send any bytes as an envelope."""
    return calls._call(getattr(calls._stub, method), pb.Envelope(envelope=data))


def envelopes(site: Site, view: RequestReply) -> dict[str, Envelope]:
    """One good document of each kind that a call takes, by kind."""
    decision, release, _ = site.decide(view, "alice")
    return {
        "hello": site.hello("dave"),
        "request": view.envelopes[0],
        "decision": decision,
        "release": release,
        "stop": site.stop_document("dave", "withdraw", view.request),
        "open": site.open_document(site.lease_of(view), {0}, 10),
        "root": site.root_envelope,
    }


def test_one_document_as_another(site: Site, view: RequestReply) -> None:
    good = envelopes(site, view)
    with site.calls("dave") as dave:
        for method, wanted in METHODS.items():
            for kind, envelope in good.items():
                if kind != wanted:
                    with pytest.raises(FormatError, match=f"payload type is .*{kind}.*, expected .*{wanted}"):
                        send(dave, method, envelope.encode())
                    # With the wanted type written on it the signature is over other bytes, and the fields are others.
                    relabelled = replace(envelope, payloadType=good[wanted].payloadType)
                    with pytest.raises(FormatError):
                        send(dave, method, relabelled.encode())
        assert send(dave, "Hello", good["hello"].encode()).entry
        assert dave.get_request(view.request).phase == "requested"


def test_the_same_fields_under_another_type(site: Site) -> None:
    """What differs in its type only would verify, were the type not signed."""
    hello = site.hello("dave")
    for payload_type in ("application/vnd.custody.hello.v2+json", "application/json", "hello", ""):
        with site.calls("dave") as dave, pytest.raises(FormatError):
            send(dave, "Hello", hello.encode().replace(hello.payloadType.encode(), payload_type.encode()))


def spelled(data: bytes, payload: Callable[[bytes], bytes]) -> bytes:
    """Envelope bytes with the payload's base64 spelled otherwise."""
    text = json.loads(data)["payload"].encode()
    return data.replace(text, payload(text), 1)


def loose_bits(text: bytes) -> bytes:
    """`IQ==` as `IR==`: the same bytes for a lax decoder."""
    stripped = text.rstrip(b"=")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(stripped[-1:]) + 1]
    assert base64.b64decode(stripped[:-1] + bytes([last]) + text[len(stripped) :]) == base64.b64decode(text)
    return stripped[:-1] + bytes([last]) + text[len(stripped) :]


def padded_hello(site: Site) -> bytes:
    """A hello whose payload ends in base64 padding, so that there are bits to play with."""
    hellos = (site.hello(person) for person in PERSONS)
    return next(hello.encode() for hello in hellos if len(hello.payload) % 3)


@pytest.mark.parametrize(
    "respell",
    [
        pytest.param(lambda data: spelled(data, loose_bits), id="loose bits of base64"),
        pytest.param(lambda data: spelled(data, lambda text: text.rstrip(b"=")), id="no padding"),
        pytest.param(lambda data: spelled(data, lambda text: text + b"===="), id="more padding"),
        pytest.param(lambda data: spelled(data, lambda text: text[:8] + b"\\n" + text[8:]), id="a line feed in base64"),
        pytest.param(lambda data: spelled(data, lambda text: text.replace(b"e", b"\\u0065", 1)), id="an escape"),
        pytest.param(lambda data: data + b"\n", id="a line feed behind"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="byte order mark"),
        pytest.param(lambda data: data.replace(b'{"payload"', b'{ "payload"', 1), id="white space"),
        pytest.param(lambda data: data[:-1] + b',"extra":1}', id="extra key"),
        pytest.param(lambda data: data[:-1] + b',"payload":"e30="}', id="payload twice"),
        pytest.param(lambda data: b"[" * 100_000, id="deep"),
        pytest.param(lambda data: b"", id="nothing"),
        pytest.param(lambda data: data[:-2], id="cut"),
        pytest.param(lambda data: data.replace(b'"signatures":[', b'"signatures":[],"x":[', 1), id="no signature"),
    ],
)  # fmt: skip
def test_another_spelling_of_the_envelope(site: Site, respell: Callable[[bytes], bytes]) -> None:
    hello = padded_hello(site)
    with site.calls("alice") as alice:
        with pytest.raises(FormatError, match="envelope"):
            send(alice, "Hello", respell(hello))
        send(alice, "Hello", hello)


@pytest.mark.parametrize(
    "respell",
    [
        pytest.param(lambda data: data[:-1] + b',"zzz":"extra"}', id="extra key"),
        pytest.param(lambda data: data.replace(b'"sessions":"2"', b'"sessions":"2","sessions":"2"'), id="key twice"),
        pytest.param(lambda data: data.replace(b'"sessions":"2"', b'"sessions":2'), id="number for a decimal string"),
        pytest.param(lambda data: data.replace(b'"sessions":"2"', b'"sessions":"02"'), id="leading zero"),
        pytest.param(lambda data: data.replace(b'"sessions":"2"', b'"sessions":"+2"'), id="sign"),
        pytest.param(lambda data: data.replace(b'"sessions":"2"', b'"sessions":"\xd9\xa2"'), id="arabic digit"),
        pytest.param(lambda data: data.replace(b'"sessions":"2"', b'"sessions":"18446744073709551618"'), id="overflow"),
        pytest.param(lambda data: data.replace(b'"sessions":"2"', b'"sessions":"1e1"'), id="exponent"),
        pytest.param(lambda data: data.replace(b'"reason":"a test"', b'"reason":"\\u0061 test"'), id="escape"),
        pytest.param(lambda data: data.replace(b'"lifts":[]', b'"lifts":null'), id="null for a list"),
        pytest.param(lambda data: data + b" ", id="trailing space"),
    ],
)
def test_another_spelling_of_the_payload(site: Site, sealed: Sealed, respell: Callable[[bytes], bytes]) -> None:
    """Well signed, and not what a strict parser writes: two readers could see two requests."""
    honest = site.request(sealed)
    lying = respell(honest.payload)
    assert lying != honest.payload
    with site.calls("dave") as dave:
        with pytest.raises(FormatError, match="request"):
            dave.submit_request(malice.sign_raw(lying, honest.payloadType, site.signer("dave")))
        assert dave.submit_request(honest).phase == "requested"


def test_signatures_of_another_key_or_under_another_id(site: Site) -> None:
    hello = site.hello("alice")
    (good,) = hello.signatures
    bob = site.signer("bob")
    forged = Signature(keyid=good.keyid, sig=bob.sign(hello.signed_bytes))
    r, s = good.sig[:32], int.from_bytes(good.sig[32:], "little")
    cases: list[tuple[tuple[Signature, ...], type[CustodyError], str]] = [
        ((forged,), IntegrityError, "does not verify"),
        ((Signature(keyid=bob.key_id, sig=bob.sign(hello.signed_bytes)),), IntegrityError, "not signed with a device"),
        ((Signature(keyid="ab" * 32, sig=good.sig),), IntegrityError, "not signed with a device"),
        ((Signature(keyid=good.keyid, sig=r + (s + L).to_bytes(32, "little")),), IntegrityError, "does not verify"),
        ((good, Signature(keyid=bob.key_id, sig=good.sig)), FormatError, "2 signatures"),
    ]
    with site.calls("alice") as alice:
        for signatures, error, match in cases:
            with pytest.raises(error, match=match):
                alice.hello(replace(hello, signatures=signatures))
        line = f'{{"keyid":"{good.keyid}","sig":"{base64.b64encode(good.sig).decode()}"}}'.encode()
        with pytest.raises(FormatError, match="two under one key id"):
            send(alice, "Hello", hello.encode().replace(line, line + b"," + line))
        alice.hello(hello)
        with pytest.raises(ConflictError, match="used before"):
            alice.hello(hello)


def test_a_second_signature_over_one_open_document(site: Site, sealed: Sealed) -> None:
    """ECDSA is malleable: (r, n - s) verifies too. One document is one session all the same."""
    _, lease = site.granted(sealed)
    first = site.open_document(lease, {0}, 300)
    (good,) = first.signatures
    r, s = decode_dss_signature(good.sig)
    second = replace(first, signatures=(Signature(keyid=good.keyid, sig=encode_dss_signature(r, P256 - s)),))
    assert second.digest == first.digest
    with site.calls("job") as job:
        assert job.open_session(first).session == first.digest
        for again in (first, second):
            with pytest.raises(ConflictError, match="session was used before"):
                job.open_session(again)


def test_a_stop_signed_by_one_and_sent_in_the_name_of_another(site: Site, view: RequestReply) -> None:
    stop = site.stop_document("dave", "withdraw", view.request)
    stolen = site.sign_as("carol", stop.document(Stop))
    with site.calls("carol") as carol, pytest.raises(IntegrityError, match="not signed with a device of dave"):
        carol.stop(stolen)
    request = site.sign_as("carol", view.envelopes[0].document(Request))
    with site.calls("carol") as carol:
        before = len(carol.get_request(view.request).receipts)
        carol.submit_request(request)  # the document is known: nothing new is filed
        assert len(carol.get_request(view.request).receipts) == before
    with site.calls("dave") as dave:
        dave.stop(stop)
