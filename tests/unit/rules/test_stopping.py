"""Who may stop what, when a lease is over, and which reasons for a close do not hold."""

from functools import partial
from typing import Any

import msgspec
import pytest

from custody.documents.stop import Stop
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, NotFoundError
from custody.rules.stopping import overdue
from custody.values import U64
from tests.doubles.actors import Workload
from tests.doubles.case import Case
from tests.doubles.refusal import Act, Attack, params, refused
from tests.doubles.world import HOUR, World

NONE = "00" * 32
OTHER_JOB = "spiffe://example.org/job/other"


def signed(case: Case, action: str, who: str | Workload, **changes: Any) -> Act:
    """A stop that was changed before it was signed."""
    return partial(case.log_stop, case.stop(action, who, **changes), who)


def entered(case: Case, action: str = "revoke", who: str = "carol", **changes: Any) -> Act:
    """An honest stop in an entry that was changed."""
    return partial(case.log_stop, case.stop(action, who), who, **changes)


def replayed_from_another_deployment(world: World, case: Case) -> Act:
    staging = World(deployment="staging.example.org/log")
    stop = staging.opened().stop("revoke", "carol", target=case.lease)
    return partial(case.log_stop, stop, "carol")


def signed_by_somebody_else(world: World, case: Case) -> Act:
    stop = case.stop("revoke", "carol").document(Stop)
    return partial(case.log_stop, world.sign(stop, "sam"), "carol")


def of_another_request(world: World, case: Case) -> Act:
    return entered(case, request=world.file("demo/tiny@1", "frank", reason="another one").digest)


def by_a_custodian_who_left(world: World, case: Case) -> Act:
    root = world.state.root
    people = tuple(person for person in root.persons if person.id != "carol")
    rosters = tuple(
        msgspec.structs.replace(
            roster,
            groups=tuple(
                msgspec.structs.replace(group, members=tuple(name for name in group.members if name != "carol"))
                for group in roster.groups
            ),
        )
        for roster in root.rosters
    )
    world.replace_root(persons=people, rosters=rosters)
    return signed(case, "revoke", "carol")


@params(
    [
        ("of another deployment", replayed_from_another_deployment, IntegrityError, "of another deployment"),
        (
            "of no request",
            lambda _, c: signed(c, "withdraw", "frank", target=NONE),
            NotFoundError,
            "there is no request",
        ),
        ("of no lease", lambda _, c: signed(c, "revoke", "carol", target=NONE), NotFoundError, "there is no lease"),
        (
            "withdrawn by an owner",
            lambda _, c: signed(c, "withdraw", "erin"),
            DeniedError,
            "person:erin may not withdraw",
        ),
        ("withdrawn by a custodian", lambda _, c: signed(c, "withdraw", "alice"), DeniedError, "may not withdraw this"),
        ("withdrawn by the job", lambda w, c: signed(c, "withdraw", w.job()), DeniedError, "may not withdraw this"),
        ("returned by a person", lambda _, c: signed(c, "return", "frank"), DeniedError, "frank may not return this"),
        (
            "returned by another job",
            lambda w, c: signed(c, "return", w.job(OTHER_JOB)),
            DeniedError,
            "spiffe://example.org/job/other may not return this",
        ),
        (
            "revoked by a stranger",
            lambda _, c: signed(c, "revoke", "sam"),
            DeniedError,
            "person:sam may not revoke this",
        ),
        ("revoked by the job", lambda w, c: signed(c, "revoke", w.job()), DeniedError, "may not revoke this"),
        (
            "revoked by a custodian who left",
            by_a_custodian_who_left,
            IntegrityError,
            "not signed with a device of carol",
        ),
        ("signed by somebody else", signed_by_somebody_else, IntegrityError, "not signed with a device of carol"),
        ("entry of another request", of_another_request, IntegrityError, "it stops another request"),
        ("entry of another reason", lambda _, c: entered(c, reason="returned"), IntegrityError, "another action"),
        ("entry of another lease", lambda _, c: entered(c, terms=NONE), IntegrityError, "it stops another lease"),
        ("entry of no lease", lambda _, c: entered(c, terms=None), IntegrityError, "it stops another lease"),
        (
            "entry of a lease that is only withdrawn",
            lambda _, c: entered(c, "withdraw", "frank", terms=c.lease),
            IntegrityError,
            "it stops another lease",
        ),
        ("entry of another actor", lambda w, c: entered(c, actor=w.party("bob")), IntegrityError, "the actor is not"),
        ("entry of another parent", lambda _, c: entered(c, parent=c.version.entry), IntegrityError, "does not follow"),
    ]
)
def test_refused_as_a_stop(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    case = world.opened()
    act = attack(world, case)
    with refused(world, error, message):
        act()
    case.log_stop(case.stop("revoke", "bob"), "bob")
    case.close("revoked")


@pytest.mark.parametrize("who", ["alice", "bob", "carol", "frank", "erin", "dave", "grace"])
def test_who_answers_for_version_or_workload_revokes_at_once(who: str) -> None:
    world = World()
    case = world.opened()  # custodians, requester, owner, governance
    case.log_stop(case.stop("revoke", who), who)
    with refused(world, DeniedError, "the lease is being stopped"):
        case.begin()
    case.close("revoked")


@pytest.mark.parametrize("phase", ["requested", "granted", "open"])
@pytest.mark.parametrize(("action", "reason"), [("withdraw", "withdrawn"), ("revoke", "revoked")])
def test_a_stop_works_in_every_phase(phase: str, action: str, reason: str) -> None:
    world = World()
    world.seal()
    case = {"requested": world.file, "granted": world.granted, "open": world.opened}[phase]("demo/tiny@1")
    if (phase, action) == ("requested", "revoke"):
        # One custodian does not end what the others may still approve: before the grant they deny.
        with refused(world, DeniedError, "these terms are not granted"):
            case.log_stop(case.stop("revoke", "carol"), "carol")
        return
    case.log_stop(case.stop(action, "frank"), "frank")
    assert overdue(world.state, case.found, world.now) == reason
    case.close(reason)
    assert (case.found.phase, case.found.reason) == ("closed", reason)


def test_a_stop_acts_once() -> None:
    world = World()
    case = world.opened()
    stop = case.stop("revoke", "carol")
    case.log_stop(stop, "carol")
    with refused(world, ConflictError, "this stop was used before"):
        case.log_stop(stop, "carol")


def test_a_second_stop_is_on_record_and_the_first_names_the_reason() -> None:
    world = World()
    case = world.opened()
    case.log_stop(case.stop("withdraw", "frank"), "frank")
    case.log_stop(case.stop("revoke", "carol"), "carol")
    with refused(world, IntegrityError, "the reason revoked does not hold"):
        case.close("revoked")
    case.close("withdrawn")


def test_what_is_closed_is_not_stopped() -> None:
    world = World()
    case = world.opened()
    world.tick(26 * HOUR)
    case.close("expired")
    with refused(world, ConflictError, "it is closed already: expired"):
        case.log_stop(case.stop("revoke", "carol"), "carol")


def test_an_old_stop_that_its_host_could_not_log_is_still_good() -> None:
    world = World()
    case = world.opened()
    stop = case.stop("revoke", "carol")
    world.tick(20 * HOUR)
    case.log_stop(stop, "carol")


@params(
    [
        ("of no request", lambda c: partial(c.close, "expired", request=NONE), NotFoundError, "there is no request"),
        ("of another lease", lambda c: partial(c.close, "expired", terms=NONE), IntegrityError, "another lease"),
        ("of no lease", lambda c: partial(c.close, "expired", terms=None), IntegrityError, "it closes another lease"),
        (
            "of another parent",
            lambda c: partial(c.close, "expired", parent=c.version.entry),
            IntegrityError,
            "does not follow",
        ),
        *(
            (f"as {reason}", lambda c, reason=reason: partial(c.close, reason), IntegrityError, "does not hold")
            for reason in ("denied", "expired", "withdrawn", "returned", "revoked", "budget", "lockdown", "bored")
        ),
    ]
)
def test_refused_as_a_close(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    case = world.opened()
    with refused(world, error, message):
        attack(case)()
    world.tick(26 * HOUR)
    case.close("expired")


def test_a_close_is_final() -> None:
    world = World()
    case = world.opened()
    world.tick(26 * HOUR)
    case.close("expired")
    with refused(world, IntegrityError, "it is closed already"):
        case.close("expired")
    assert overdue(world.state, case.found, world.now) == ""
    assert world.state.live == {}


@pytest.mark.parametrize(
    ("phase", "hours"),
    [("requested", 24), ("granted", 24), ("open", 26)],
)
def test_what_has_run_out_is_over_to_the_second(phase: str, hours: int) -> None:
    world = World()
    world.seal()
    case = {"requested": world.file, "granted": world.granted, "open": world.opened}[phase]("demo/tiny@1")
    world.tick(hours * HOUR - 1)
    with refused(world, IntegrityError, "the reason expired does not hold"):
        case.close("expired")
    world.tick(1)
    case.close("expired")


def test_the_budget_is_over_when_it_is_spent_and_nobody_is_served() -> None:
    world = World()
    case = world.opened()
    session = case.begin(bytes=U64(10_000))
    with refused(world, IntegrityError, "the reason budget does not hold"):
        case.close("budget")
    case.end(session, (0, 5000), (1, 5000))
    case.close("budget")


def test_the_budget_is_over_when_all_sessions_were_had() -> None:
    world = World()
    case = world.opened(sessions=U64(1), bytes=U64(5700))
    session = case.begin()
    case.end(session, (0, 1))
    case.close("budget")
