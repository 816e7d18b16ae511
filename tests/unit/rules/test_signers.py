"""Who signed: persons and brokers by the root, workloads by a chain that leads to its authorities."""

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from custody.crypto import svid
from custody.documents.actor import Actor, Broker, Person
from custody.documents.dsse import Envelope
from custody.documents.hello import Hello
from custody.entries.entry import Party
from custody.errors import CustodyError, FormatError, IntegrityError
from custody.rules.signers import verify_actor
from tests.doubles.actors import CertificateAuthority, Workload
from tests.doubles.world import HOUR, JOB, World


def greeting(world: World, who: str | Workload) -> Envelope:
    """Anything that somebody signed."""
    hello = world.hello("alice").document(Hello)
    return world.sign(hello, who)


@pytest.mark.parametrize(
    ("who", "actor"),
    [
        ("alice", Person(person="alice")),
        ("alice/token", Person(person="alice")),
        ("broker-2", Broker(broker="broker-2")),
    ],
)
def test_a_person_or_broker_is_known_by_the_key_used(who: str, actor: Actor) -> None:
    world = World()
    party = verify_actor(greeting(world, who), actor, world.root, world.now)
    assert party.credential == world.signer(who).key_id


@pytest.mark.parametrize(
    ("who", "actor"),
    [
        ("alice", Person(person="bob")),
        ("alice", Person(person="zoe")),
        ("alice", Broker(broker="broker-1")),
        ("alice", Broker(broker="zoe")),
        ("broker-1", Broker(broker="broker-2")),
        ("broker-1", Person(person="alice")),
    ],
)
def test_a_signature_in_another_name_is_refused(who: str, actor: Actor) -> None:
    world = World()
    with pytest.raises(IntegrityError, match="not signed with"):
        verify_actor(greeting(world, who), actor, world.root, world.now)


@pytest.mark.parametrize("who", ["alice", "broker-1"])
def test_the_key_id_of_the_right_key_is_not_its_signature(who: str) -> None:
    world = World()
    actor: Actor = Broker(broker=who) if who.startswith("broker") else Person(person=who)
    forged = greeting(world, "bob")
    renamed = msgspec.structs.replace(forged.signatures[0], keyid=world.signer(who).key_id)
    with pytest.raises(IntegrityError, match="does not verify"):
        verify_actor(msgspec.structs.replace(forged, signatures=(renamed,)), actor, world.root, world.now)


def below(world: World, depth: int) -> CertificateAuthority:
    """An authority that many steps below the root's."""
    authority = world.ca
    for level in range(depth):
        authority = CertificateAuthority(world.rng, world.now, f"level-{level}", authority)
    return authority


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_a_chain_through_intermediate_authorities_is_accepted(depth: int) -> None:
    world = World()
    job = below(world, depth).issue(JOB, world.now)
    assert len(job.chain) == depth + 1
    party = verify_actor(greeting(world, job), job.actor, world.root, world.now)
    assert party == Party(id=JOB, credential=job.key_id)


def test_a_chain_that_is_too_long_is_refused() -> None:
    world = World()
    job = below(world, 5).issue(JOB, world.now)
    with pytest.raises(IntegrityError, match="does not verify"):
        verify_actor(greeting(world, job), job.actor, world.root, world.now)


def test_a_chain_with_a_gap_is_refused() -> None:
    world = World()
    job = below(world, 2).issue(JOB, world.now)
    gap = Workload(job.spiffe, job.key, (job.chain[0], job.chain[2]))
    with pytest.raises(IntegrityError, match="not in order"):
        verify_actor(greeting(world, gap), gap.actor, world.root, world.now)


def test_a_leaf_does_not_issue_certificates() -> None:
    world = World()
    job = world.job()
    child = CertificateAuthority(world.rng, world.now, "")  # a leaf's subject is empty
    child._key = job.key  # type: ignore[assignment]  # the stolen key of a job
    forged = child.issue("spiffe://example.org/job/other", world.now)
    named = child._builder("thief", forged.key, world.now, world.now + HOUR).add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(forged.spiffe)]), critical=True
    )
    for leaf, match in ((forged.chain[0], "not in order"), (child._sign(named), "does not verify")):
        chained = Workload(forged.spiffe, forged.key, (leaf, *job.chain))
        with pytest.raises(IntegrityError, match=match):
            verify_actor(greeting(world, chained), chained.actor, world.root, world.now)


def test_a_key_of_another_curve_is_refused() -> None:
    world = World()
    job = world.job()
    other = world.ca.issue(JOB, world.now, kind="p384")
    envelope = greeting(world, job)
    renamed = msgspec.structs.replace(envelope.signatures[0], keyid=other.key_id)
    with pytest.raises(FormatError, match="is not P-256, Ed25519 or RSA"):
        verify_actor(msgspec.structs.replace(envelope, signatures=(renamed,)), other.actor, world.root, world.now)


def test_a_root_that_no_longer_names_an_authority_refuses_its_certificates() -> None:
    world = World()
    job = world.job()
    envelope = greeting(world, job)
    other = CertificateAuthority.beside(world.ca, world.rng, world.now)
    newer = msgspec.structs.replace(world.root, spiffe_roots=(other.certificate,))
    assert verify_actor(envelope, job.actor, world.root, world.now).id == JOB
    with pytest.raises(IntegrityError, match="does not verify"):
        verify_actor(envelope, job.actor, newer, world.now)


@pytest.mark.parametrize(("at", "message"), [(-61, "valid only from"), (HOUR - 59, "expired at")])
def test_a_certificate_is_judged_at_the_time_of_its_entry(at: int, message: str) -> None:
    world = World()
    job = world.job()  # from a minute ago for an hour
    for moment in (-60, HOUR - 60):
        assert verify_actor(greeting(world, job), job.actor, world.root, world.now + moment).id == JOB
    with pytest.raises(IntegrityError, match=message):
        verify_actor(greeting(world, job), job.actor, world.root, world.now + at)
    assert svid.validity(job.chain[0]) == (world.now - 60, world.now + HOUR - 60)


def test_the_actor_of_a_document_does_not_choose_the_certificate() -> None:
    """The signature's key id is SHA-256 of the leaf that the payload holds; another leaf in the payload is refused."""
    world = World()
    job, twin = world.job(), world.job()
    with pytest.raises(IntegrityError, match="certificate is not that of"):
        verify_actor(greeting(world, job), twin.actor, world.root, world.now)


@pytest.mark.filterwarnings("ignore")  # outside tests the library only warns of it
@pytest.mark.parametrize("serial", [0, -1])
def test_a_serial_number_that_later_libraries_refuse_is_refused_today(serial: int) -> None:
    world = World()
    honest = x509.load_der_x509_certificate(world.job().chain[0])
    der = honest.public_bytes(Encoding.DER)
    number = honest.serial_number.to_bytes((honest.serial_number.bit_length() + 8) // 8, "big")
    wrong = bytes([0x80 if serial < 0 else 0]) + (number[1:] if serial < 0 else bytes(len(number) - 1))
    with pytest.raises(FormatError, match=r"^certificate: "):
        svid.identity_of(der.replace(number, wrong, 1))


def test_a_certificate_with_an_extension_twice_is_refused() -> None:
    world = World()
    der = world.job().chain[0]
    san = bytes.fromhex("0603551d11")  # subjectAltName
    ski = bytes.fromhex("0603551d0e")  # subjectKeyIdentifier becomes a second one
    assert der.count(san) == der.count(ski) == 1
    with pytest.raises(CustodyError, match="certificate: malformed extensions"):
        svid.identity_of(der.replace(ski, san))
