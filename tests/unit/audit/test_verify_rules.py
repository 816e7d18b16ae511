"""A broker that breaks rules and signs its log all the same, witnesses included: the audit derives every rule anew."""

from collections.abc import Callable
from typing import Any

import pytest

from custody.documents.decision import Decision
from custody.documents.root import Log
from custody.entries.entry import FileBytes
from custody.tlog.note import COSIGNATURE, ED25519, NoteSigner
from custody.values import U64, Time
from tests.doubles.case import Case
from tests.doubles.world import HOUR, World
from tests.unit.audit.published import Published, codes, forced

KEY = bytes(1216)
Wrong = Callable[[World, Case], Any]


def lying(prepare: Callable[[World], Case], lie: Wrong) -> tuple[Published, int]:
    """A log that is honest up to one entry, and that entry's index."""
    world = World()
    case = prepare(world)
    honest = Published.each(world)
    assert honest.audit().ok
    index = len(world.log.entries)
    forced(world, lambda: lie(world, case))
    honest.publish()
    return honest, index


def requested(world: World) -> Case:
    world.seal()
    return world.file()


def opened(world: World) -> Case:
    return world.opened()


def in_session(world: World) -> Case:
    case = world.opened()
    case.begin()
    return case


def direct(world: World) -> Case:
    return world.opened(mode="direct")


def in_direct_session(world: World) -> Case:
    case = direct(world)
    case.begin(xwing=KEY, bytes=U64(5700))
    return case


def direct_that_says_stream(world: World, case: Case) -> object:
    job = world.job()
    return case.log_session(case.session(job, xwing=KEY, bytes=U64(5700)), job, mode=None)


def direct_terms_for_a_stream(world: World) -> Case:
    world.seal()
    case = Case.of(world, "demo/tiny@1")
    case.terms = case.make_terms(mode="direct")
    return case


def session_without_grant(world: World, case: Case) -> object:
    job = world.job()
    return case.log_session(case.session(job), job, parent=case.found.entry)


def approved_by_alice(world: World) -> Case:
    case = requested(world)
    case.decide("alice")
    return case


def session_at(seconds: int, **changes: Any) -> Wrong:
    def lie(world: World, case: Case) -> object:
        world.tick(seconds)
        return case.begin(world.job(), **changes)

    return lie


def outcome(served: int) -> Wrong:
    def lie(world: World, case: Case) -> object:
        name = next(iter(case.found.live_sessions))
        return case.end(name, served=(FileBytes(file=U64(0), bytes=U64(served)),))

    return lie


def wrong_signer(world: World, case: Case) -> object:
    return case.log_decision(world.sign(case.decision("bob").document(Decision), "carol"), "bob")


@pytest.mark.parametrize(
    ("prepare", "lie", "code", "text"),
    [
        pytest.param(
            approved_by_alice,
            lambda _, case: case.grant(persons=("alice",)),
            "rule-grant",
            "there is no quorum on these terms",
            id="a grant without a quorum",
        ),
        pytest.param(
            approved_by_alice,
            lambda _, case: case.grant(persons=("alice", "bob")),
            "rule-grant",
            "does not name the persons whose approvals count",
            id="a grant that claims an approval nobody signed",
        ),
        pytest.param(
            requested, wrong_signer, "rule-decision", "not signed with a device of bob", id="a forged decision"
        ),
        pytest.param(
            requested,
            lambda world, case: case.log_decision(case.decision("frank"), "frank"),
            "rule-decision",
            "frank does not hold slot",
            id="a decision of the requester",
        ),
        pytest.param(opened, session_at(30 * HOUR), "rule-session-intent", "the lease ended", id="a session too late"),
        pytest.param(
            opened,
            session_at(0, bytes=U64(10_001)),
            "rule-session-intent",
            "10000 left in the lease",
            id="a session beyond the lease's bytes",
        ),
        pytest.param(
            requested,
            session_without_grant,
            "rule-session-intent",
            "it is of another lease",
            id="a session without a grant",
        ),
        pytest.param(
            in_session,
            outcome(1001),
            "rule-session-outcome",
            "more than the session's ceiling",
            id="an outcome too large",
        ),
        pytest.param(
            direct,
            session_at(0, xwing=KEY, bytes=U64(5699)),
            "rule-session-intent",
            "direct mode counts the whole files, 5700 bytes",
            id="a direct session that counts less than its files",
        ),
        pytest.param(
            direct,
            session_at(0, bytes=U64(5700)),
            "rule-session-intent",
            "xwing: the lease is of mode direct",
            id="a direct session whose keys are sealed to nobody",
        ),
        pytest.param(
            opened,
            session_at(0, xwing=KEY, bytes=U64(5700)),
            "rule-session-intent",
            "xwing: the lease is of mode stream",
            id="a direct session of a lease that was granted as a stream",
        ),
        pytest.param(
            direct,
            direct_that_says_stream,
            "rule-session-intent",
            "it names another mode",
            id="a direct session that does not say so",
        ),
        pytest.param(
            in_direct_session,
            outcome(100),
            "rule-session-outcome",
            "direct mode serves whole files",
            id="a direct session that gives budget back",
        ),
        pytest.param(
            direct_terms_for_a_stream,
            lambda _, case: case.log_request(),
            "rule-request",
            "mode is wider than the request",
            id="direct terms for a request to stream",
        ),
        pytest.param(
            opened,
            lambda _, case: case.close("expired"),
            "rule-close",
            "the reason expired does not hold",
            id="a close for no reason",
        ),
        pytest.param(
            opened,
            lambda world, _: world.append("system", reason="x", root="ab" * 32),
            "rule-system",
            "another trust root than the one in force",
            id="an entry under a stale root",
        ),
        pytest.param(
            opened,
            lambda world, _: world.append("system", reason="x", time=Time(world.now - 60)),
            "rule-system",
            "60 seconds before the entry before it",
            id="a clock that goes back",
        ),
        pytest.param(
            opened,
            lambda world, _: world.log_root(world.sign_root(world.next_root(), "alice")),
            "rule-root",
            "lacks the governance quorum",
            id="a root without governance",
        ),
    ],
)
def test_an_entry_that_breaks_a_rule_is_named(
    prepare: Callable[[World], Case], lie: Wrong, code: str, text: str
) -> None:
    log, index = lying(prepare, lie)
    report = log.audit()
    assert codes(report) == [(index, code)]
    assert text in report.findings[0].text
    assert set(report.findings[0].documents) == {item.envelope for item in log.world.log.entries[-1].documents}
    assert (report.ok, report.audited) == (False, index + 1)


def test_what_builds_on_a_false_grant_is_found_and_names_it() -> None:
    world = World()
    case = approved_by_alice(world)
    index = len(world.log.entries)
    forced(world, lambda: case.grant(persons=("alice",)))
    forced(world, lambda: case.begin_opening(persons=("alice",), parent=case.found.entry))
    forced(world, lambda: world.append("system", reason="clock"))
    report = Published.each(world).audit()
    assert codes(report) == [(index, "rule-grant"), (index + 1, "rule-opening-intent")]
    assert [finding.follows for finding in report.findings] == [None, index]
    assert report.audited == index + 3


# ----------------------------------------------------------------------------------------------------- certificates


def test_a_certificate_that_had_expired_when_witnesses_saw_it_is_refused_whatever_the_entry_says() -> None:
    world = World()
    case = opened(world)
    log = Published.each(world)
    index = len(world.log.entries)
    case.begin(world.job())  # a valid certificate, at the time that the broker states
    log.publish(time=world.now + 2 * HOUR)  # but the witnesses saw it two hours later
    report = log.audit()
    assert codes(report) == [(index, "certificate")]
    assert "it expired at 2026-11-22T08:59:00Z" in report.findings[0].text
    assert "cosigned at 2026-11-22T10:00:00Z" in report.findings[0].text


def test_the_first_checkpoint_that_covers_an_entry_judges_its_certificate_not_a_later_one() -> None:
    world = World()
    opened(world).begin(world.job())
    log = Published.each(world)
    world.tick(300 * HOUR)
    world.append("system", reason="clock")
    log.publish()
    assert log.audit().ok


def test_one_witness_of_the_quorum_that_saw_it_too_late_is_enough_to_refuse() -> None:
    world = World()
    case = opened(world)
    log = Published.each(world)
    case.begin(world.job())
    log.publish()
    size = log.tree.size
    text = log.note(size).partition(b"\n\n")[0] + b"\n"
    late = text + b"\n" + world.log_key.sign(text)
    late += world.witnesses[0].sign(text, world.now) + world.witnesses[1].sign(text, world.now + 2 * HOUR)
    log.files["checkpoint"] = log.files[f"checkpoints/{size}"] = late
    assert codes(log.audit()) == [(size - 1, "certificate")]


# ---------------------------------------------------------------------------------------------- a change of the root


def rekeyed(world: World) -> tuple[NoteSigner, list[NoteSigner]]:
    """Let a root come into force that names another log key and other witnesses."""
    key = NoteSigner(world.deployment, ED25519, b"n" * 32)
    witnesses = [NoteSigner(f"witness.example.net/{i}", COSIGNATURE, bytes([i + 1]) * 32) for i in range(3)]
    vkey = key.vkey.encode()
    named = [f"witness w{i} {signer.vkey.encode()}" for i, signer in enumerate(witnesses)]
    world.replace_root(
        log=Log(vkey=vkey, predecessor=None),
        witness_policy=(f"log {vkey}", *named, "group all 2 w0 w1 w2", "quorum all"),
    )
    return key, witnesses


def test_the_checkpoint_that_covers_a_change_of_keys_satisfies_old_and_new() -> None:
    world = World()
    log = Published.each(world)
    key, witnesses = rekeyed(world)
    log.publish()
    size = log.tree.size
    old, text = log.files["checkpoint"], log.files["checkpoint"].partition(b"\n\n")[0] + b"\n"
    new = key.sign(text) + b"".join(witness.sign(text, world.now) for witness in witnesses[:2])
    log.files["checkpoint"] = log.files[f"checkpoints/{size}"] = old + new
    assert log.audit().ok
    for one_side in (old, text + b"\n" + new):
        log.files["checkpoint"] = log.files[f"checkpoints/{size}"] = one_side
        assert codes(log.audit()) == [(None, "checkpoint-signature")]
    log.files["checkpoint"] = log.files[f"checkpoints/{size}"] = old + new
    log.key, log.witnesses = key, witnesses[:2]
    world.append("system", reason="clock")
    log.publish()
    report = log.audit()
    assert report.ok, "after the change the new keys are enough"
    assert [remark.text for remark in report.remarks] == ["the key of custody.example.org/log was changed by entry 1"]
    log.key, log.witnesses = None, None
    world.append("system", reason="clock")
    log.publish()
    assert codes(log.audit()) == [(None, "checkpoint-signature")], "and the old ones are not"


def test_a_single_witness_is_remarked_upon() -> None:
    world = World()
    vkey = world.log_key.vkey.encode()
    witness = f"witness w0 {world.witnesses[0].vkey.encode()}"
    log = Published.each(world)
    assert log.audit().remarks == []
    world.replace_root(witness_policy=(f"log {vkey}", witness, "quorum w0"))
    log.publish()
    (remark,) = log.audit().remarks
    assert remark.code == "one-witness"
