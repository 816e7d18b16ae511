"""Envelopes: what exactly is signed, and that one signed thing has one spelling."""

import hashlib
import json
import re
from typing import Any

import msgspec
import pytest

from custody.documents import dsse
from custody.documents.dsse import MAX_ENVELOPE, Document, Envelope, Signature, sign
from custody.documents.hello import Hello
from custody.documents.request import Request
from custody.errors import FormatError, IntegrityError
from custody.rules.signers import device_signature
from tests.doubles import samples
from tests.doubles.actors import ServerKey
from tests.doubles.world import World

HELLO = samples.envelopes()["hello"]
STORED = HELLO.encode()


def parsed(**changes: Any) -> Envelope:
    """The stored hello with members changed or added, in canonical order."""
    members = json.loads(STORED) | changes
    return Envelope.parse(json.dumps(members, sort_keys=True, separators=(",", ":")).encode())


def test_the_pae_is_that_of_the_specification() -> None:
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("", b"") == b"DSSEv1 0  0 "


def test_the_document_digest_is_that_of_what_is_signed_and_the_envelope_digest_that_of_what_is_stored() -> None:
    assert HELLO.digest == hashlib.sha256(HELLO.signed_bytes).hexdigest()
    assert HELLO.digest == HELLO.document(Hello).digest
    assert HELLO.envelope_digest == hashlib.sha256(STORED).hexdigest()
    assert Envelope.parse(STORED) == HELLO


def test_the_document_digest_stays_when_somebody_else_signs() -> None:
    world = World()
    hello = HELLO.document(Hello)
    first, second = world.sign(hello, "alice"), world.sign(hello, "alice/token")
    assert first.digest == second.digest
    assert first.envelope_digest != second.envelope_digest


@pytest.mark.parametrize("kind", samples.KINDS)
def test_a_document_is_not_read_as_another_kind(kind: str) -> None:
    envelope = samples.envelopes()[kind]
    assert envelope.document(samples.KINDS[kind]).digest == envelope.digest
    for other in set(samples.KINDS) - {kind}:
        with pytest.raises(FormatError, match=re.escape(f"type is {envelope.payloadType}, expected")):
            envelope.document(samples.KINDS[other])


def test_each_kind_has_its_own_payload_type() -> None:
    types = {document.payload_type for document in samples.KINDS.values()}
    assert len(types) == len(samples.KINDS)
    assert all(f"application/vnd.custody.{kind}.v1+json" in types for kind in samples.KINDS)


def test_every_kind_of_document_is_among_the_samples() -> None:
    assert set(Document.__subclasses__()) == set(samples.KINDS.values())


def test_a_signature_is_bound_to_the_payload_type() -> None:
    """The same payload under another payload type is another document, and its signature does not verify."""

    class Farewell(Hello, frozen=True, kw_only=True):
        payload_type = "application/vnd.custody.farewell.v1+json"

    world = World()
    hello = world.hello()
    renamed = msgspec.structs.replace(hello, payloadType=Farewell.payload_type)
    assert renamed.document(Farewell).nonce == hello.document(Hello).nonce
    assert renamed.digest != hello.digest
    assert device_signature(hello, "alice", world.root).id == "person:alice"
    with pytest.raises(IntegrityError, match="does not verify"):
        device_signature(renamed, "alice", world.root)


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": "IR=="},
        {"payload": "IQ"},
        {"payload": "IQ==\n"},
        {"payload": "I_=="},
        {"payload": None},
        {"payloadType": "application/json"},
        {"payloadType": "application/vnd.custody.hello.v2+json"},
        {"payloadType": "application/vnd.custody.HELLO.v1+json"},
        {"payloadType": "application/vnd.custody.hello.v1+json\n"},
        {"payloadType": "application/vnd.custody." + "a" * 100 + ".v1+json"},
        {"signatures": []},
        {"signatures": None},
        {"signatures": [{"keyid": "0" * 64}]},
        {"signatures": [{"sig": "A" * 88}]},
        {"signatures": [{"keyid": "0" * 63, "sig": "A" * 86 + "=="}]},
        {"signatures": [{"keyid": "F" * 64, "sig": "A" * 86 + "=="}]},
        {"signatures": [{"keyid": "0" * 64, "sig": ""}]},
        {"signatures": [{"keyid": "0" * 64, "sig": "A" * 84}]},
        {"signatures": [{"keyid": "0" * 64, "sig": "A" * 85 + "B=="}]},
        {"signatures": [{"keyid": "0" * 64, "sig": "A" * 86 + "==", "public": ""}]},
        {"signatures": [{"keyid": "0" * 64, "sig": "A" * 2000}]},
        {"signatures": [{"keyid": f"{i:064x}", "sig": "A" * 86 + "=="} for i in range(1025)]},
        {"version": 1},
    ],
    ids=lambda changes: ascii(changes)[:60],
)
def test_refused_as_an_envelope(changes: dict[str, Any]) -> None:
    assert parsed() == HELLO
    with pytest.raises(FormatError, match=r"^envelope: "):
        parsed(**changes)


def test_two_signatures_under_one_key_id_are_refused() -> None:
    (signature,) = json.loads(STORED)["signatures"]
    other = {"keyid": "0" * 64, "sig": signature["sig"]}
    assert len(parsed(signatures=[signature, other]).signatures) == 2
    with pytest.raises(FormatError, match="signatures: two under one key id"):
        parsed(signatures=[signature, signature])
    twin = Signature(keyid=signature["keyid"], sig=bytes(64))
    with pytest.raises(ValueError, match="two under one key id"):
        msgspec.structs.replace(HELLO, signatures=(*HELLO.signatures, twin))


def test_a_document_of_one_party_has_one_signature() -> None:
    (signature,) = json.loads(STORED)["signatures"]
    two = parsed(signatures=[signature, {"keyid": "0" * 64, "sig": signature["sig"]}])
    with pytest.raises(FormatError, match="2 signatures on a document that one party signs"):
        two.only_signature()
    assert HELLO.only_signature().keyid == signature["keyid"]


def test_an_envelope_beyond_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(FormatError, match="at most 16777216 are allowed"):
        Envelope.parse(b"[" * (MAX_ENVELOPE + 1))


def test_what_nobody_could_parse_is_not_signed() -> None:
    signer = ServerKey(bytes(32))
    request = samples.envelopes()["request"].document(Request)
    assert sign(request, [signer]).document(Request) == request
    for changes in ({"reason": "\x1b[2J"}, {"reason": ""}, {"duration": 5}, {"nonce": "0"}, {"purpose": "a b"}):
        with pytest.raises(FormatError, match=r"^request[.:]"):
            sign(msgspec.structs.replace(request, **changes), [signer])


def test_signatures_stand_in_the_order_of_the_signers() -> None:
    signers = [ServerKey(bytes([i]) * 32) for i in range(3)]
    envelope = sign(HELLO.document(Hello), signers)
    assert [item.keyid for item in envelope.signatures] == [signer.key_id for signer in signers]
