"""What is verified ahead, and in other processes, changes no verdict."""

from functools import partial
from pathlib import Path

import pytest

from custody.adapters.local_reader import LocalReader
from custody.app import audit_pool
from custody.app.audit_pool import directory_source, pooled
from custody.audit.examine import Bundle, Examiner, Task
from custody.audit.report import Report
from custody.audit.verify import Pins, Way, verify_log
from custody.crypto import keys
from custody.documents.dsse import Envelope, Signature
from custody.documents.session import OpenSession
from custody.values import U64
from tests.doubles.actors import CertificateAuthority, Workload, deterministic
from tests.doubles.case import Case
from tests.doubles.world import JOB, World
from tests.unit.audit.published import Published, codes, forced
from tests.unit.audit.wrong import stranger


def beyond_the_first_bundle(world: World) -> Case:
    """An open lease; what follows is examined ahead, under the trust root that is in force now."""
    case = world.opened(sessions=U64(100), bytes=U64(100_000))
    while len(world.log.entries) < 260:
        world.append("system", reason="clock")
    return case


def resigned(world: World, case: Case, job: Workload) -> object:
    """An honest document under the signature of another key."""
    envelope = world.sign(case.session(job).document(OpenSession), world.job())
    signature = type(envelope.signatures[0])(keyid=job.key_id, sig=envelope.signatures[0].sig)
    return case.log_session(
        type(envelope)(payload=envelope.payload, payloadType=envelope.payloadType, signatures=(signature,)), job
    )


def test_an_honest_session_is_accepted_and_a_forged_one_is_found() -> None:
    world = World()
    case = beyond_the_first_bundle(world)
    case.begin()
    forced(world, lambda: resigned(world, case, world.job()))
    forced(world, lambda: case.begin(stranger(world, JOB)))
    case.begin()
    log = Published(world)
    log.publish()
    report = log.audit()
    assert codes(report) == [(261, "rule-session-intent"), (262, "rule-session-intent")]
    assert next(finding.text for finding in report.findings) == "SVID signature does not verify"
    assert "does not verify" in report.findings[1].text


def test_certificates_are_judged_under_the_root_that_the_entry_names_not_the_one_they_were_examined_under() -> None:
    world = World()
    case = beyond_the_first_bundle(world)
    old = world.job()
    other = CertificateAuthority(deterministic(b"other"), world.now, "other")
    new = other.issue(JOB, world.now - 60)
    forced(world, lambda: case.begin(new))  # 260: not yet
    world.replace_root(spiffe_roots=(other.certificate,))
    forced(world, lambda: case.begin(old))  # 262: not any more
    case.begin(new)
    log = Published(world)
    log.publish()
    assert codes(log.audit()) == [(260, "rule-session-intent"), (262, "rule-session-intent")]


def test_an_expired_certificate_is_found_although_its_path_was_verified_before() -> None:
    world = World()
    case = beyond_the_first_bundle(world)
    job = world.job()
    case.begin(job)
    world.tick(3541)
    forced(world, lambda: case.begin(job))
    log = Published(world)
    log.publish(world.log.entries[:261], time=world.now - 3541)
    log.publish()
    report = log.audit()
    assert codes(report) == [(261, "rule-session-intent")]
    assert "it expired at" in report.findings[0].text


def without_a_quorum(note: bytes) -> bytes:
    return b"\n".join(note.split(b"\n")[:-2]) + b"\n"


def test_a_checkpoint_that_was_verified_ahead_is_good_only_with_its_quorum() -> None:
    world = World()
    case = beyond_the_first_bundle(world)
    log = Published(world)
    log.publish()
    for _ in range(3):
        case.begin()
        log.publish()
    honest = log.audit()
    assert (honest.ok, honest.checkpoints) == (True, 4)
    size = log.tree.size - 1
    log.files[f"checkpoints/{size}"] = without_a_quorum(log.files[f"checkpoints/{size}"])
    report = log.audit()
    assert codes(report) == [(None, "checkpoint-signature")]
    assert report.findings[0].place == f"checkpoints/{size}"
    assert report.checkpoints == 3


def test_a_checkpoint_is_judged_by_the_roots_in_force_not_by_the_one_it_was_verified_under_ahead() -> None:
    world = World()
    case = beyond_the_first_bundle(world)
    log = Published(world)
    log.publish()
    vkey, witness = world.log_key.vkey.encode(), world.witnesses[2].vkey.encode()
    world.replace_root(witness_policy=(f"log {vkey}", f"witness w2 {witness}", "quorum w2"))
    case.begin()
    log.publish()  # cosigned as the old root says only
    assert codes(log.audit()) == [(None, "checkpoint-signature")]
    log.witnesses = world.witnesses
    size = log.tree.size
    log.files["checkpoint"] = log.files[f"checkpoints/{size}"] = log.note(size)
    assert log.audit().ok


def written(log: Published, directory: Path) -> Path:
    for path, data in log.files.items():
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return directory


def pooled_audit(log: Published, directory: Path, processes: int) -> Report:
    with LocalReader(directory) as reader:
        source = directory_source(reader)
        way = Way(pooled(directory, source, processes))
        return verify_log(source, Pins(log.world.genesis.digest, log.world.deployment), None, way)[0]


def test_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    case = beyond_the_first_bundle(world)
    for number in range(40):
        job = world.job()
        session = case.begin(job)
        if number % 3 == 0:
            forced(world, partial(resigned, world, case, job))
        if number % 4:
            case.end(session, (0, 500))
    while len(world.log.entries) < 3000:
        world.append("system", reason="clock")
    log = Published(world)
    log.publish()
    documents = [item.envelope for entry in world.log.entries[300:] for item in entry.documents]
    log.change_document(documents[5], lambda data: data[:-1] + b"?")
    directory = written(log, tmp_path)
    expected = log.audit()
    assert expected.found > 14
    assert expected.open
    monkeypatch.setattr(audit_pool, "_ALONE", 1)
    for processes in (1, 2):
        assert pooled_audit(log, directory, processes).data() == expected.data()


def test_signatures_of_persons_are_verified_where_bundles_are_examined_and_forged_ones_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    beyond_the_first_bundle(world)
    world.seal("demo/other@1")
    for _ in range(3):
        world.file("demo/other@1").decide("alice")
    forged = world.file("demo/other@1")
    envelope = forged.decision("bob")
    other = Signature(keyid=envelope.only_signature().keyid, sig=bytes(64))
    begun = len(world.log.entries)
    forced(
        world,
        lambda: forged.log_decision(
            Envelope(payload=envelope.payload, payloadType=envelope.payloadType, signatures=(other,)), "bob"
        ),
    )
    log = Published(world)
    log.publish()
    verified: list[str] = []
    in_hand = ""

    def verify(public: bytes, signature: bytes, message: bytes) -> None:
        verified.append(in_hand)
        honest(public, signature, message)

    def bundle(self: Examiner, task: Task, index: int) -> Bundle:
        nonlocal in_hand
        in_hand = "ahead" if index else ""
        found = examined(self, task, index)
        in_hand = "judge" if index else ""
        return found

    honest, examined = keys.verify, Examiner.bundle
    monkeypatch.setattr(keys, "verify", verify)
    monkeypatch.setattr(Examiner, "bundle", bundle)
    report = log.audit()
    assert codes(report) == [(begun, "rule-decision")]
    assert report.findings[0].text == "Ed25519 signature does not verify"
    assert verified.count("ahead") > 6
    assert verified.count("judge") == 1, "only what was not found good is verified again"
