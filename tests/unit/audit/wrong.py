"""Wrong histories: an honest one, really signed, and then one step that a lying broker adds and has witnessed."""

import ast
import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
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
    "half_used",
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
    "unprovoked",
    "used_up",
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


@cache
def judge(prepare: Prepare, text: str, lie: Lie) -> str:
    """The honest history passes. With one step more exactly that step is found, under the rule of its type.

    Returns what the finding says.
    """
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
    return report.findings[0].text


def unprovoked(rows: Iterable[Any], *modules: str) -> set[str]:
    """Return the refusals in the source of ``custody.rules`` that no row provokes, as patterns.

    The rows follow the specification, and this is no part of it: it shows only whether a rule was forgotten.
    """
    said = [judge(*row.values) for row in rows]
    found = {pattern for module in modules for pattern in _refusals(module)}
    return {pattern for pattern in found if not any(re.search(pattern, text) for text in said)}


def _refusals(module: str) -> Iterator[str]:
    source = importlib.import_module(f"custody.rules.{module}").__file__
    for node in ast.walk(ast.parse(Path(str(source)).read_text(encoding="utf-8"))):
        message: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "require":
            message = node.args[1]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "message":
            message = node.value
        if isinstance(message, ast.Constant):
            yield re.escape(str(message.value))
        elif isinstance(message, ast.JoinedStr):
            yield "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in message.values
            )


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


def half_used(world: World) -> Case:
    """One session has ended, one is open."""
    case = opened(world)
    case.end(case.begin(), (0, 700))
    case.begin()
    return case


def used_up(world: World) -> Case:
    """All three sessions have begun."""
    case = opened(world)
    for _ in range(3):
        case.begin()
    return case


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
