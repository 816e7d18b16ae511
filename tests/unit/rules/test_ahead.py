"""What is verified ahead of a fold: all that one key signed, and nothing that it did not."""

from collections import Counter

import pytest
from msgspec.structs import replace

from custody.crypto import svid
from custody.documents.dsse import Envelope, Signature
from custody.documents.session import OpenSession
from custody.errors import IntegrityError
from custody.rules.ahead import Claims, believe, claims_of, prove
from tests.doubles.world import HOUR, World
from tests.unit.audit.busy import busy


def claims(world: World) -> Claims:
    """All claims of a world, under its root."""
    return claims_of(world.log.entries, world.log.envelopes, world.root)


def forged(envelope: Envelope) -> Envelope:
    """The same with a bit of its signature flipped."""
    (signature,) = envelope.signatures
    flipped = signature.sig[:-1] + bytes([signature.sig[-1] ^ 1])
    return replace(envelope, signatures=(Signature(keyid=signature.keyid, sig=flipped),))


def test_everything_that_one_party_signed_is_proven() -> None:
    world = busy()
    proofs = prove(claims(world))
    kinds = Counter(world.log.envelopes[proof.envelope].payloadType.split(".")[-2] for proof in proofs)
    single = [envelope for envelope in world.log.envelopes.values() if len(envelope.signatures) == 1]
    assert len(proofs) == len(single) > 30
    assert kinds.keys() >= {
        "open",
        "request",
        "terms",
        "release-key",
        "decision",
        "release",
        "stop",
        "hello",
        "content",
    }
    assert {bool(proof.path) for proof in proofs} == {True, False}


def test_a_forged_signature_is_not_proven() -> None:
    world = busy()
    honest = {proof.envelope for proof in prove(claims(world))}
    for digest in honest:
        entries = [entry for entry in world.log.entries if digest in {item.envelope for item in entry.documents}]
        (claim,) = [
            claim
            for claim in claims_of(entries, {digest: forged(world.log.envelopes[digest])}, world.root).claims
            if claim.envelope == digest
        ][:1]
        assert prove(Claims([claim], world.root.spiffe_roots, world.root.trust_domain)) == []


def test_a_certificate_that_was_not_valid_then_is_not_proven() -> None:
    world = busy()
    made = claims(world)
    later = [claim._replace(at=claim.at + 100 * HOUR) for claim in made.claims if claim.chain]
    assert later
    assert prove(made._replace(claims=later)) == []


def test_a_proof_for_one_key_is_none_for_another() -> None:
    """Whoever signs with a key of their own is proven to have done so, and it helps nobody."""
    world = World()
    envelope = world.hello("bob")
    other = forged(envelope)
    other.believe_signature(world.devices["alice"].ed25519)
    with pytest.raises(IntegrityError):
        other.require_signature(world.devices["bob"].ed25519)
    with pytest.raises(IntegrityError):
        envelope.require_signature(world.devices["alice"].ed25519)
    envelope.require_signature(world.devices["bob"].ed25519)


def test_what_is_believed_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = busy()
    (entry,) = [entry for entry in world.log.entries if entry.type == "session-intent"][:1]
    digest = entry.documents[0].envelope
    again = {digest: Envelope.parse(world.log.envelopes[digest].encode())}
    made = claims_of([entry], again, world.root)
    proofs = prove(made)
    svid._place.cache_clear()
    believe(made, proofs, again)
    monkeypatch.setattr(svid, "_check_path", None)  # to call it would be an error
    workload = again[digest].document(OpenSession).workload
    assert svid.check_chain(workload.x5c, world.root.spiffe_roots, "example.org", int(entry.time)) == workload.spiffe
    with pytest.raises(TypeError):
        svid.check_chain(workload.x5c, world.root.spiffe_roots, "example.org", int(entry.time) + 100 * HOUR)
