"""A broker's clock proves nothing: what it grants at a time long past is held to the time at which witnesses saw it."""

from collections.abc import Callable

import pytest

from custody.values import Time
from tests.doubles.case import Case
from tests.doubles.world import HOUR, World
from tests.unit.audit.published import Published, codes
from tests.unit.audit.wrong import approved, granted, opened, requested

Step = Callable[[World, Case], object]


def begun(world: World, case: Case) -> object:
    return case.begin(world.ca.issue("spiffe://example.org/job/serve", world.now - 60, 100 * HOUR))


def sent(world: World) -> Case:
    case = granted(world)
    for person in case.quorum:
        case.send(person)
    return case


@pytest.mark.parametrize(
    ("prepare", "step", "fine", "late", "text"),
    [
        pytest.param(
            approved,
            lambda _, case: case.grant(),
            HOUR,
            HOUR + 300,
            "the approvals that count were no quorum any more at 2026-11-22T09:00:00Z",
            id="a grant from approvals that have expired",
        ),
        pytest.param(
            sent,
            lambda _, case: case.begin_opening(),
            24 * HOUR,
            24 * HOUR + 300,
            "the lease could not be opened any more at 2026-11-23T08:00:00Z",
            id="an opening after the start window",
        ),
        pytest.param(
            opened,
            begun,
            26 * HOUR,
            26 * HOUR + 300,
            "the lease ended at 2026-11-23T10:00:00Z",
            id="a session after the end of its lease",
        ),
    ],
)
def test_what_was_over_when_witnesses_saw_it_is_found_whatever_time_it_states(
    prepare: Callable[[World], Case], step: Step, fine: int, late: int, text: str
) -> None:
    for seconds, expected in ((fine, False), (late, True)):
        world = World()
        case = prepare(world)
        log = Published.each(world)
        index = len(world.log.entries)
        step(world, case)  # at the time when it was allowed, as the entry states
        log.publish(time=world.now + seconds)
        report = log.audit()
        assert codes(report) == ([(index, "time")] if expected else [])
        assert all(text in finding.text for finding in report.findings)


def test_a_grant_holds_as_long_as_approvals_that_make_a_quorum() -> None:
    for hours, expected in ((2, False), (3, True)):
        world = World()
        case = requested(world)
        for who, expires in (("alice", 3), ("bob", 1), ("carol", 3)):
            case.log_decision(case.decision(who, expires=Time(world.now + expires * HOUR)), who)
        log = Published.each(world)
        index = len(world.log.entries)
        case.grant()
        log.publish(time=world.now + hours * HOUR + 300)
        assert codes(log.audit()) == ([(index, "time")] if expected else [])


def test_an_entry_that_grants_nothing_may_be_witnessed_late() -> None:
    world = World()
    case = approved(world)
    log = Published.each(world)
    case.log_stop(case.stop("withdraw", "frank"), "frank")
    world.append("system", reason="witness-down")
    log.publish(time=world.now + 100 * HOUR)
    assert log.audit().ok


def test_an_entry_from_the_future_of_its_witnesses_is_found() -> None:
    world = World()
    log = Published.each(world)
    world.append("system", reason="clock", time=Time(world.now + 301))
    log.publish()
    assert codes(log.audit()) == [(1, "time")]
