"""Each pattern: what wakes somebody up, and what is usual and does not."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from custody.audit.patterns.alert import Alert, finding_alert, plain
from custody.audit.patterns.habits import DAY, Habits
from custody.audit.patterns.look import look
from custody.audit.patterns.thresholds import Thresholds
from custody.audit.patterns.trouble import silent_witnesses
from custody.audit.report import Finding
from custody.entries.entry import Entry, FileBytes
from custody.values import U64, Time
from tests.doubles.world import World
from tests.unit.audit.busy import BATCH, SERVE, published


def told(entries: list[Entry], limits: Thresholds | None = None) -> list[tuple[int | None, str, str]]:
    habits = Habits()
    alerts = [
        alert for index, entry in enumerate(entries) for alert in look(habits, index, entry, limits or Thresholds())
    ]
    return [(alert.entry, alert.code, alert.about) for alert in alerts]


def test_a_busy_log_tells_what_is_new_and_what_was_hasty() -> None:
    assert told(published().world.log.entries) == [
        (4, "first-identity", SERVE),
        (16, "first-identity", BATCH),
        (21, "haste", "carol"),
        (33, "haste", "alice"),
        (34, "haste", "bob"),
    ]


def test_patterns_that_are_switched_off_say_nothing() -> None:
    off = Thresholds(denials=0, haste=0, volume=0, strangers=0)
    assert {code for _, code, _ in told(published().world.log.entries, off)} == {"first-identity"}


def test_an_approval_is_hasty_below_the_threshold_and_not_at_it() -> None:
    entries = published().world.log.entries
    assert (21, "haste", "carol") in told(entries, Thresholds(haste=4))
    assert (21, "haste", "carol") not in told(entries, Thresholds(haste=3))
    assert (17, "haste", "alice") not in told(entries), "a denial may be fast"


def _denied(world: World, who: str = "frank") -> None:
    case = world.file("demo/tiny@1", who)
    world.tick(60)
    case.decide("alice", "deny")
    case.decide("bob", "deny")
    case.close("denied")


def test_denials_in_a_row_are_told_at_each_third_and_a_grant_ends_the_row() -> None:
    world = World(b"denials")
    world.seal()
    _denied(world)
    _denied(world)
    world.tick(60)
    world.granted()
    for _ in range(3):
        _denied(world)
    _denied(world, "sam")
    _denied(world)
    found = [about for _, code, about in told(world.log.entries) if code == "denials"]
    assert found == ["frank"]
    assert len([1 for _, code, _ in told(world.log.entries, Thresholds(denials=1)) if code == "denials"]) == 7


def _read(entries: list[Entry], sizes: list[tuple[int, int]]) -> list[Entry]:
    """A log with one request, and session outcomes at (day, bytes)."""
    request = next(entry for entry in entries if entry.type == "request")
    outcome = next(entry for entry in entries if entry.type == "session-outcome")

    def of(day: int, size: int) -> Entry:
        time = Time(request.time - request.time % DAY + day * DAY + 100)
        return replace(outcome, request=request.request, time=time, served=(FileBytes(file=U64(0), bytes=U64(size)),))

    return [request, *(of(day, size) for day, size in sizes)]


GIB = 1 << 30


@pytest.mark.parametrize(
    ("sizes", "codes"),
    [
        ([(0, GIB)] * 5 + [(0, 10 * GIB)], []),
        ([(0, GIB)] * 5 + [(0, 11 * GIB)], ["volume-session"]),
        ([(0, GIB)] * 4 + [(0, 90 * GIB)], []),
        ([(0, 10)] * 5 + [(0, GIB - 1)], []),
        ([(day, GIB) for day in range(5)] + [(5, 6 * GIB), (5, 4 * GIB)], []),
        ([(day, GIB) for day in range(5)] + [(5, 6 * GIB), (5, 5 * GIB), (5, 5 * GIB)], ["volume-day"]),
        ([(day, GIB) for day in range(5)] + [(5, 40 * GIB), (6, GIB)], ["volume-session", "volume-day"]),
    ],
    ids=["ten times", "more", "too new", "below the floor", "a busy day", "over the bound once", "both"],
)
def test_bytes_far_above_habit(sizes: list[tuple[int, int]], codes: list[str]) -> None:
    entries = _read(published().world.log.entries, sizes)
    assert [code for _, code, _ in told(entries) if code.startswith("volume")] == codes


def test_another_build_and_another_root_are_told() -> None:
    world = World(b"builds")
    world.append("system", reason="broker-start", build="b2" * 32)
    world.append("system", reason="broker-stop", build="b2" * 32)
    world.tick(10)
    world.replace_root()
    assert told(world.log.entries) == [(1, "first-build", "broker-1"), (3, "new-root", "")]


@pytest.mark.parametrize(
    ("reason", "count", "codes"),
    [
        ("witness-failed", None, ["trouble"]),
        ("clock-jump", 400, ["trouble"]),
        ("refused-strangers", 1000, ["strangers"]),
        ("refused-strangers", 999, []),
        ("broker-start", None, []),
    ],
)
def test_what_a_broker_says_of_itself(reason: str, count: int | None, codes: list[str]) -> None:
    world = World(b"trouble")
    fields: dict[str, Any] = {} if count is None else {"count": U64(count)}
    world.append("system", reason=reason, **fields)
    assert [code for _, code, _ in told(world.log.entries)] == codes


def test_a_witness_that_falls_silent_is_told_once() -> None:
    assert [alert.about for alert in silent_witnesses(["w0", "w1", "w2"], ["w0"], ["w0", "w1"])] == ["w1"]
    assert silent_witnesses(["w0", "w1"], ["w0"], ["w0"]) == []
    assert silent_witnesses(["w0"], ["w0"], ["w0", "gone"]) == []


def test_patterns_change_nothing_that_they_are_given() -> None:
    from custody.audit.patterns.look import PATTERNS

    habits, entries = Habits(), published().world.log.entries
    for index, entry in enumerate(entries):
        before = repr(habits)
        for pattern in PATTERNS:
            list(pattern(habits, index, entry, Thresholds()))
        assert repr(habits) == before
        habits.learn(entry)


@pytest.mark.parametrize(
    "make", [lambda text: Alert(text, text, text), lambda text: finding_alert(Finding(1, "x", text))]
)
def test_an_alert_is_one_line_of_printable_text(make: Callable[[str], Alert]) -> None:
    data = make("a\x1b[2J\u202eb\n" + "x" * 1000).data("d")
    assert data["text"].startswith("a\\u{001B}[2J\\u{202E}b\\u{000A}x")
    assert len(data["text"]) < 540
    assert plain("naïve — ok") == "naïve — ok"
