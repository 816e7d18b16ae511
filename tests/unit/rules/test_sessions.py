"""What is refused as a session of an open lease, or as its outcome."""

from functools import partial
from typing import Any

import msgspec
import pytest
from cryptography import x509

from custody.documents.actor import Person
from custody.documents.request import Range
from custody.documents.session import OpenSession
from custody.entries.entry import FileBytes, served_of
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.values import U64, Time
from tests.doubles.actors import CertificateAuthority, Workload
from tests.doubles.case import Case
from tests.doubles.refusal import Act, Attack, params, refused
from tests.doubles.world import HOUR, JOB, World

NONE = "00" * 32
OTHER_JOB = "spiffe://example.org/job/other"


def span(first: int, last: int) -> tuple[Range, ...]:
    return (Range(first=U64(first), last=U64(last)),)


def signed(world: World, case: Case, job: Workload | None = None, **changes: Any) -> Act:
    """A session whose document was changed before it was signed."""
    job = job or world.job()
    return partial(case.log_session, case.session(job, **changes), job)


def entered(world: World, case: Case, **changes: Any) -> Act:
    """An honest session in an entry that was changed."""
    job = world.job()
    return partial(case.log_session, case.session(job), job, **changes)


def with_certificate(**changes: Any) -> Attack:
    """A session signed with a certificate that is wrong in one way."""
    return lambda world, case: signed(world, case, world.job(**changes))


def foreign(world: World, case: Case) -> Act:
    """A CA of the same name issues the same SPIFFE ID."""
    return signed(world, case, CertificateAuthority.beside(world.ca, world.rng, world.now).issue(JOB, world.now))


def foreign_with_its_root(world: World, case: Case) -> Act:
    """As before, and the document brings the foreign root along."""
    other = CertificateAuthority.beside(world.ca, world.rng, world.now)
    job = other.issue(JOB, world.now)
    return signed(world, case, Workload(job.spiffe, job.key, (*job.chain, other.certificate)))


def expired(world: World, case: Case) -> Act:
    return signed(world, case, world.ca.issue(JOB, world.now - 2 * HOUR))


def not_yet_valid(world: World, case: Case) -> Act:
    return signed(world, case, world.ca.issue(JOB, world.now + 1))


def another_domain(world: World, case: Case) -> Act:
    return signed(world, case, world.ca.issue("spiffe://example.com/job/serve", world.now))


def claiming_another_identity(world: World, case: Case) -> Act:
    other = world.job(OTHER_JOB)
    return signed(world, case, Workload(JOB, other.key, other.chain))


def with_anothers_key(world: World, case: Case) -> Act:
    """The certificate of the beneficiary, but a signature by another key."""
    return signed(world, case, Workload(JOB, world.job().key, world.job().chain))


def signed_by_a_person(world: World, case: Case) -> Act:
    job = world.job()
    document = case.session(job).document(OpenSession)
    return partial(case.log_session, world.sign(document, "frank"), job)


def with_the_key_id_of_a_person(world: World, case: Case) -> Act:
    job = world.job()
    envelope = case.session(job)
    (signature,) = envelope.signatures
    renamed = msgspec.structs.replace(signature, keyid=world.devices["frank"].key_id)
    return partial(case.log_session, msgspec.structs.replace(envelope, signatures=(renamed,)), job)


def of_another_lease(world: World, case: Case) -> Act:
    other = world.opened(reason="another one")
    job = world.job()
    return partial(case.log_session, other.session(job), job)


def entry_of_another_lease(world: World, case: Case) -> Act:
    other = world.opened(reason="another one")
    job = world.job()
    return partial(case.log_session, case.session(job), job, terms=other.lease)


def of_another_deployment(world: World, case: Case) -> Act:
    staging = World(deployment="staging.example.org/log")
    job = world.job()
    return partial(case.log_session, staging.opened().session(job, lease=case.lease), job)


KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@params(
    [
        ("of another deployment", of_another_deployment, IntegrityError, "of another deployment"),
        ("of another lease", of_another_lease, IntegrityError, "it opens another lease"),
        ("of no lease", lambda w, c: signed(w, c, lease=NONE), IntegrityError, "it opens another lease"),
        ("of another identity", with_certificate(spiffe=OTHER_JOB), DeniedError, "the lease is for spiffe://example"),
        ("claiming another identity", claiming_another_identity, IntegrityError, "certificate is not that of"),
        ("signed with another key", with_anothers_key, IntegrityError, "SVID signature does not verify"),
        ("signed by a person", signed_by_a_person, IntegrityError, "certificate is not that of"),
        ("with the key id of a person", with_the_key_id_of_a_person, IntegrityError, "certificate is not that of"),
        ("with an expired SVID", expired, IntegrityError, "it expired at"),
        ("with an SVID of tomorrow", not_yet_valid, IntegrityError, "it is valid only from"),
        ("of a foreign CA", foreign, IntegrityError, "does not verify"),
        ("of a foreign CA that it brings", foreign_with_its_root, IntegrityError, "does not verify"),
        ("of another trust domain", another_domain, IntegrityError, "not in the trust domain example.org"),
        ("with two URI SANs", with_certificate(uris=[JOB, OTHER_JOB]), FormatError, "2 URI names"),
        ("with the same URI SAN twice", with_certificate(uris=[JOB, JOB]), FormatError, "2 URI names"),
        ("with no URI SAN", with_certificate(uris=[]), FormatError, "0 URI names"),
        ("with no SPIFFE ID", with_certificate(uris=["https://example.org/job"]), FormatError, "is not a SPIFFE ID"),
        (
            "with a CA certificate",
            with_certificate(extensions=[x509.BasicConstraints(ca=True, path_length=None)]),
            IntegrityError,
            "is a CA certificate",
        ),
        ("with a key that signs certificates", with_certificate(extensions=[KEY_USAGE]), IntegrityError, "key usage"),
        ("of files beyond the lease", lambda w, c: signed(w, c, files=span(0, 3)), DeniedError, "not all of them"),
        ("of files far beyond", lambda w, c: signed(w, c, files=span(9, 2**64 - 1)), DeniedError, "not all of them"),
        ("of more bytes than left", lambda w, c: signed(w, c, bytes=U64(10_001)), DeniedError, "10000 left"),
        ("of all bytes there are", lambda w, c: signed(w, c, bytes=U64(2**64 - 1)), DeniedError, "10000 left"),
        ("with a key for direct mode", lambda w, c: signed(w, c, xwing=bytes(1216)), DeniedError, "of mode stream"),
        ("signed too early", lambda w, c: signed(w, c, issued=Time(w.now - 301)), DeniedError, "301 seconds behind"),
        ("signed in the future", lambda w, c: signed(w, c, issued=Time(w.now + 301)), DeniedError, "301 seconds ahead"),
        ("entry of no lease", lambda w, c: entered(w, c, terms=NONE), NotFoundError, "there is no lease"),
        ("entry of other lease", entry_of_another_lease, IntegrityError, "it is of another lease"),
        ("entry of other request", lambda w, c: entered(w, c, request=NONE), IntegrityError, "of another lease"),
        ("entry of other session", lambda w, c: entered(w, c, session=NONE), IntegrityError, "names another session"),
        ("entry of more files", lambda w, c: entered(w, c, files=span(0, 1)), IntegrityError, "other files or bytes"),
        ("entry of less bytes", lambda w, c: entered(w, c, ceiling=U64(1)), IntegrityError, "other files or bytes"),
        (
            "entry of other beneficiary",
            lambda w, c: entered(w, c, beneficiary=OTHER_JOB),
            IntegrityError,
            "it names another beneficiary",
        ),
        ("entry of other version", lambda w, c: entered(w, c, version="a@1"), IntegrityError, "other version"),
        ("entry of other content", lambda w, c: entered(w, c, content=NONE), IntegrityError, "other version"),
        ("entry of other parent", lambda w, c: entered(w, c, parent=c.found.entry), IntegrityError, "not follow"),
        ("entry of other actor", lambda w, c: entered(w, c, actor=w.party(w.job())), IntegrityError, "actor is not"),
    ]
)
def test_refused_as_a_session(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    case = world.opened()
    act = attack(world, case)
    with refused(world, error, message):
        act()
    case.begin()


def test_an_open_document_opens_one_session_ever() -> None:
    world = World()
    case = world.opened()
    job = world.job()
    envelope = case.session(job)
    case.log_session(envelope, job)
    with refused(world, ConflictError, "this session was used before"):
        case.log_session(envelope, job)
    case.end(envelope.digest)
    with refused(world, ConflictError, "this session was used before"):
        case.log_session(envelope, job)


def test_an_open_document_is_not_replayed_after_the_broker_was_lost() -> None:
    world = World()
    case = world.opened()
    job = world.job()
    envelope = case.session(job)
    case.log_session(envelope, job)
    case.close("broker-lost")
    case.key = case.make_key()
    case.log_key(case.key)
    case.open()
    with refused(world, ConflictError, "this session was used before"):
        case.log_session(envelope, job)


def test_no_more_sessions_than_the_lease_has() -> None:
    world = World()
    case = world.opened()
    for session in [case.begin() for _ in range(3)]:
        case.end(session)
    act = signed(world, case)
    with refused(world, DeniedError, "all 3 sessions of the lease are used"):
        act()


def test_live_sessions_count_their_ceilings() -> None:
    world = World()
    case = world.opened()
    first = case.begin(bytes=U64(6000))
    act = signed(world, case, bytes=U64(4001))
    with refused(world, DeniedError, "bytes: 4001 asked, 4000 left in the lease"):
        act()
    case.end(first, (0, 100))
    act()
    assert case.found.spent == 4101


@pytest.mark.parametrize("phase", ["granted", "stopped", "closed"])
def test_sessions_are_of_open_leases_only(phase: str) -> None:
    world = World()
    case = world.granted() if phase == "granted" else world.opened()
    if phase != "granted":
        case.log_stop(case.stop("revoke", "carol"), "carol")
    if phase == "closed":
        case.close("revoked")
    act = signed(world, case)
    with refused(world, DeniedError, "the lease is granted" if phase == "granted" else "the lease is being stopped"):
        act()


def test_sessions_end_with_the_lease_whatever_the_clock_did() -> None:
    world = World()
    case = world.opened()
    world.tick(26 * HOUR - 1)
    case.begin()
    world.tick(1)
    act = signed(world, case)
    with refused(world, DeniedError, "the lease ended at"):
        act()
    world.tick(365 * 24 * HOUR)
    act = signed(world, case)
    with refused(world, DeniedError, "the lease ended at"):
        act()
    case.close("expired")
    world.tick(-366 * 24 * HOUR)  # the clock jumps back into the lease
    act = signed(world, case)
    with refused(world, IntegrityError, "seconds before the entry before it"):
        act()


def ended(case: Case, **changes: Any) -> Act:
    (session,) = case.found.live_sessions
    return partial(case.end, session, **changes)


def served(case: Case, *items: tuple[int, int]) -> Act:
    (session,) = case.found.live_sessions
    return partial(case.end, session, *items)


def of_another_request(world: World, case: Case) -> Act:
    other = world.file(reason="another one")
    return ended(case, request=other.digest)


@params(
    [
        ("of no lease", lambda _, c: ended(c, terms=NONE), NotFoundError, "there is no lease"),
        ("of another request", of_another_request, IntegrityError, "it is of another request"),
        ("of no session", lambda _, c: ended(c, session=NONE), IntegrityError, "there is no such session open"),
        ("of another parent", lambda _, c: ended(c, parent=c.found.entry), IntegrityError, "does not follow"),
        ("over the ceiling", lambda _, c: served(c, (0, 500), (1, 501)), IntegrityError, "more than the session's"),
        ("over 64 bits", lambda _, c: served(c, (0, 2**63), (1, 2**63)), IntegrityError, "more than the session's"),
        ("of files not in the session", lambda _, c: served(c, (0, 1), (2, 1)), IntegrityError, "outside the session"),
        (
            "of a stretch that leaves the session",
            lambda _, c: ended(c, served=(FileBytes(file=U64(1), bytes=U64(1), last=U64(2)),)),
            IntegrityError,
            "outside the session",
        ),
    ]
)
def test_refused_as_a_session_outcome(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    case = world.opened()
    session = case.begin(files=span(0, 1))
    act = attack(world, case)
    with refused(world, error, message):
        act()
    case.end(session, (0, 500), (1, 500))
    with refused(world, IntegrityError, "there is no such session open"):
        case.end(session)


def test_an_outcome_after_the_close_is_refused_and_the_ceiling_counts() -> None:
    world = World()
    case = world.opened()
    session = case.begin()
    case.log_stop(case.stop("revoke", "carol"), "carol")
    case.close("revoked")
    assert case.found.spent == 1000
    with refused(world, IntegrityError, "there is no such session open"):
        case.end(session)


def test_an_outcome_of_many_files_is_said_by_range() -> None:
    files = (*span(0, 1499), *span(2000, 2999))
    counts = dict.fromkeys([*range(1500), *range(2000, 3000)], 2)
    served = served_of(counts, files)
    assert [(item.file, item.last, item.bytes) for item in served] == [(0, 1499, 3000), (2000, 2999, 2000)]
    assert served_of({5: 1, 2: 3}, files) == (
        FileBytes(file=U64(2), bytes=U64(3)),
        FileBytes(file=U64(5), bytes=U64(1)),
    )


def test_a_persons_actor_is_no_workload() -> None:
    world = World()
    case = world.opened()
    with pytest.raises(FormatError, match="workload"):
        case.session(workload=Person(person="frank"))
