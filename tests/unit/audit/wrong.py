"""Wrong histories: an honest one, really signed, and then one step that a lying broker adds and has witnessed."""

from collections.abc import Callable
from typing import Any

import pytest

from custody.documents.root import Owner
from custody.entries.entry import Entry
from tests.doubles.actors import CertificateAuthority, Workload, deterministic
from tests.doubles.case import Case
from tests.doubles.world import DOMAIN, HOUR, World
from tests.unit.audit.published import Published, codes, forced

__all__ = [
    "AB",
    "OTHER",
    "Lie",
    "Prepare",
    "approved",
    "approved_once",
    "board_granted",
    "board_requested",
    "closed",
    "granted",
    "in_session",
    "judge",
    "later",
    "opened",
    "opening",
    "refile",
    "requested",
    "sealed",
    "stopped",
    "stranger",
    "withdrawn",
    "wrong",
]

Prepare = Callable[[World], Case | None]
Lie = Callable[[World, Case], object]

AB = "ab" * 32
OTHER = "custody.example.org/staging"

_HONEST: set[Prepare] = set()


def wrong(name: str, prepare: Prepare, text: str, lie: Lie) -> Any:
    """One row: what is wrong, after what, how the finding says it, and the step itself."""
    return pytest.param(prepare, text, lie, id=name)


def judge(prepare: Prepare, text: str, lie: Lie) -> None:
    """The honest history passes. With one step more exactly that step is found, under the rule of its type."""
    world = World()
    case = prepare(world)
    log = Published.each(world)
    if prepare not in _HONEST:
        report = log.audit()
        assert (report.ok, report.findings) == (True, []), "the honest history must pass"
        _HONEST.add(prepare)
    index = len(world.log.entries)
    forced(world, lambda: lie(world, case or Case.of(world, "demo/tiny@1")))
    entries = world.log.entries[index:]
    assert len(entries) == 1, "one wrong step"
    log.publish()
    report = log.audit()
    assert codes(report) == [(index, f"rule-{entries[0].type}")]
    assert text in report.findings[0].text
    assert set(report.findings[0].documents) == {item.envelope for item in entries[0].documents}
    assert report.audited == index + 1


# ------------------------------------------------------------------------------------------------- honest beginnings


def sealed(world: World) -> None:
    """A root, a sealed version, and an owner of the jobs who is a custodian as well."""
    world.replace_root(owners=(Owner(workload=f"spiffe://{DOMAIN}/job/*", persons=("erin", "carol")),))
    world.seal()


def requested(world: World) -> Case:
    world.seal()
    return world.file()


def approved_once(world: World) -> Case:
    case = requested(world)
    case.decide("alice")
    return case


def approved(world: World) -> Case:
    case = approved_once(world)
    case.decide("bob")
    return case


def granted(world: World) -> Case:
    return world.granted()


def opening(world: World) -> Case:
    case = granted(world)
    for person in case.quorum:
        case.send(person)
    case.begin_opening()
    return case


def opened(world: World) -> Case:
    return world.opened()


def in_session(world: World) -> Case:
    case = opened(world)
    case.begin()
    return case


def withdrawn(world: World) -> Case:
    """Approved once, and withdrawn by the requester."""
    case = approved_once(world)
    case.log_stop(case.stop("withdraw", "frank"), "frank")
    return case


def stopped(world: World) -> Case:
    """Stopped, not closed yet."""
    case = in_session(world)
    case.log_stop(case.stop("revoke", "carol"), "carol")
    return case


def closed(world: World) -> Case:
    return world.closed()


def board_requested(world: World) -> Case:
    """Under the roster that releases after the quorum, and cools off for an hour."""
    world.seal("frontier/llm@1")
    return world.file("frontier/llm@1")


def board_granted(world: World) -> Case:
    return world.granted("frontier/llm@1")


# ----------------------------------------------------------------------------------------------------------- helpers


def stranger(world: World, spiffe: str) -> Workload:
    """A certificate with a SPIFFE ID of the deployment, from a CA that only has the right name."""
    other = CertificateAuthority.beside(world.ca, deterministic(b"stranger"), world.now)
    return other.issue(spiffe, world.now - 60)


def refile(world: World, who: str | Workload = "frank", /, **changes: Any) -> Entry:
    """Log a second request of a sealed version."""
    return Case.of(world, "demo/tiny@1", who, **changes).log_request()


def later(hours: float, lie: Lie) -> Lie:
    """Let time pass first."""

    def step(world: World, case: Case) -> object:
        world.tick(int(hours * HOUR))
        return lie(world, case)

    return step
