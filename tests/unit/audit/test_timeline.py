"""Entries put together by request, and the answers made from them."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from custody.audit.difference import difference
from custody.audit.questions import Said, Window, asked_data, concerning, decisions_of
from custody.audit.timeline import Timeline
from custody.entries.entry import Entry
from custody.values import Time
from tests.unit.audit.busy import BATCH, SERVE, busy, published


def entries() -> Iterator[tuple[int, Entry]]:
    return enumerate(published().world.log.entries)


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    result = Timeline()
    for index, entry in entries():
        result.add(index, entry)
    return result


def test_every_request_is_told_with_how_it_stands(timeline: Timeline) -> None:
    told = [(asked.version, asked.requester, asked.beneficiary, asked.stands) for asked in timeline.asked.values()]
    assert told == [
        ("demo/tiny@1", "frank", SERVE, "returned"),
        ("demo/large@2", "frank", BATCH, "denied"),
        ("demo/large@2", "frank", BATCH, "revoked"),
        ("demo/tiny@1", "frank", SERVE, "open"),
        ("demo/large@2", "frank", BATCH, "requested"),
    ]
    assert [asked.by("approve") for asked in timeline.asked.values()][:3] == [["alice", "bob"], [], ["carol", "bob"]]
    assert [asked.served for asked in timeline.asked.values()] == [3700, 0, 4000, 5700, 0]
    assert sorted(timeline.sealed) == ["demo/large@2", "demo/tiny@1"]
    assert [event.reason for event in timeline.system] == ["broker-start", "refused-strangers"]


def test_a_session_without_an_outcome_says_so_and_not_zero(timeline: Timeline) -> None:
    running = list(timeline.asked.values())[3]
    assert [session.served for session in running.sessions.values()] == [5700, None]
    data = asked_data(running, Said(), {})
    assert [session["outcome"] for session in data["sessions"]] == ["ok", None]
    assert data["bytes"] is data["reason"] is None


def test_after_a_lost_broker_the_lease_is_granted_until_it_is_opened_again() -> None:
    world = busy(b"lost")
    case = world.granted("demo/tiny@1")
    case.open()
    case.close("broker-lost")
    timeline = Timeline(lambda entry: entry.request == case.digest)
    for index, entry in enumerate(world.log.entries):
        timeline.add(index, entry)
    (asked,) = timeline.asked.values()
    assert (asked.stands, len(asked.lost), asked.closed) == ("granted", 1, None)


def test_what_a_custodian_decided_and_how_fast(timeline: Timeline) -> None:
    found = decisions_of(timeline, "alice", Window(), {17: {"rule-decision"}})
    assert [(item["verdict"], item["after"], item["findings"]) for item in found] == [
        ("approve", 40, []),
        ("deny", 2, ["rule-decision"]),
        ("approve", 0, []),
    ]
    assert decisions_of(timeline, "mallory", Window(), {}) == []


def test_a_window_keeps_what_happened_inside_it(timeline: Timeline) -> None:
    times = {asked.index: (asked.time, asked.last) for asked in timeline.asked.values()}
    first, second = list(times)[:2]
    begin, end = times[second]
    found = [asked.index for asked in concerning(timeline, BATCH, Window(begin, end))]
    assert found == [second]
    assert [asked.index for asked in timeline.within(times[first][1], times[first][1] + 1)] == [first]
    assert list(concerning(timeline, SERVE, Window(until=times[first][0]))) == []
    alice = decisions_of(timeline, "alice", Window(since=begin), {})
    assert [item["time"] >= str(Time(begin)) for item in alice] == [True, True]


def test_findings_stand_at_the_request_they_are_about(timeline: Timeline) -> None:
    asked = next(iter(timeline.asked.values()))
    assert asked_data(asked, Said(), {asked.indexes[-1]: {"rule-close"}, 0: {"rule-root"}})["findings"] == [
        "rule-close"
    ]


def test_entries_that_refer_to_nothing_known_are_passed_over() -> None:
    timeline = Timeline()
    decision = next(entry for _, entry in entries() if entry.type == "decision")
    outcome = next(entry for _, entry in entries() if entry.type == "session-outcome")
    request = next(entry for _, entry in entries() if entry.type == "request")
    assert timeline.add(0, decision) is None
    timeline.add(1, request)
    timeline.add(2, replace(outcome, request=request.request))
    assert timeline.asked[request.request or ""].sessions == {}


def test_a_difference_is_told_in_words() -> None:
    found = difference(10, 20, list(entries())[10:20])
    assert found.words == [
        f"sessions begun: of demo/tiny@1 by {SERVE}",
        f"stopped: returned by {SERVE}",
        "closed: returned, denied",
        f"requested: demo/large@2 by frank for {BATCH}",
        "denied: alice, bob",
        "served: 3.6 KiB (3700 bytes)",
    ]
    assert sum(found.types.values()) == 10
    nothing = difference(4, 4, [])
    assert (nothing.first, nothing.words) == (None, [])


def test_what_happened_often_is_counted_and_the_rest_is_not_lost() -> None:
    request = next(entry for _, entry in entries() if entry.type == "request")
    many = [replace(request, version=f"demo/m{number}@1") for number in range(12)] + [request] * 3
    (words,) = difference(0, 15, enumerate(many)).words
    assert words.startswith(f"requested: demo/tiny@1 by frank for {SERVE} (3 times), ")
    assert words.endswith("and 5 more")
