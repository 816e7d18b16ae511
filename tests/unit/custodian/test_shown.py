"""What a custodian reads at three in the morning."""

from datetime import timedelta, timezone
from typing import Any

import pytest

from custody.custodian.acting import look
from custody.custodian.review import Review
from custody.custodian.shown import (
    ahead,
    decided_rows,
    differences,
    freshness_text,
    moment,
    request_rows,
    signed_rows,
    span,
    version_rows,
)
from custody.custodian.signing import draft_decision
from custody.documents.request import ranges_of
from custody.errors import FormatError
from custody.values import U64
from tests.doubles.world import START, World
from tests.unit.custodian.counter import Counter

NAME = "demo/tiny@1"
CET = timezone(timedelta(hours=1), "CET")


class Scene:
    def __init__(self, version: str = NAME, **changes: Any) -> None:
        self.world = World()
        self.world.seal(version)
        self.case = self.world.file(version, **changes)
        self.counter = Counter(self.world, "alice", self.case)

    def look(self, person: str = "alice", *, compare: bool = False) -> Review:
        desk = self.counter.desk()
        device = self.world.devices[person].key_id
        view = desk.request(self.case.digest)
        return look(desk, view, person=person, device=device, clock=lambda: self.world.now, compare=compare)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (61, "1 minute 1 second"),
        (3600, "1 hour"),
        (3605, "1 hour"),
        (7500, "2 hours 5 minutes"),
        (90061, "1 day 1 hour"),
        (-61, "1 minute 1 second"),
    ],
)
def test_spans_are_written_in_their_two_largest_units(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_a_time_stands_in_local_time_in_utc_and_as_how_far_away_it_is() -> None:
    assert moment(START + 3600, START, CET) == "Sun 2026-11-22 10:00:00 CET (2026-11-22T09:00:00Z), in 1 hour"
    assert moment(START, START + 90, CET).endswith("CET (2026-11-22T08:00:00Z), 1 minute 30 seconds ago")
    assert ahead(START, START) == "now"


def test_utc_is_not_said_twice() -> None:
    assert moment(START, START, timezone.utc) == "Sun 2026-11-22 08:00:00 UTC, now"  # noqa: UP017 - a tzinfo of its own


def test_a_request_is_shown_with_everything_that_is_signed() -> None:
    seen = Scene().look()
    rows = dict(request_rows(seen, CET))
    assert rows["asked by"] == "frank (person)"
    assert rows["for"] == "spiffe://example.org/job/serve"
    assert rows["owned by"] == "erin"
    assert rows["version"] == NAME
    assert rows["content"] == seen.terms.content
    assert rows["sealed by"].startswith("sam, ")
    assert rows["files"] == "all 3 files, 5.6 KiB (5700 bytes)"
    assert rows["reason"] == "nightly evaluation"
    assert rows["ends"].endswith("in 1 day 2 hours")
    assert rows["bytes"] == "at most 9.8 KiB (10000 bytes), 1.8 times these files"
    assert rows["mode"] == "stream: can be cut off"


def test_files_that_are_many_are_counted() -> None:
    rows = request_rows(Scene(files=ranges_of({0, 2}), bytes=U64(2000)).look())
    text = [value for label, value in rows if label in ("files", "")]
    assert text == ["2 of 3 files, 700 bytes", "config.json, 700 bytes", "weights/1.safetensors, 0 bytes"]


def test_direct_mode_shouts() -> None:
    assert ("mode", "direct: PERMANENT, NOT REVOCABLE") in request_rows(Scene(mode="direct").look())


def test_who_decided_and_who_is_missing() -> None:
    scene = Scene()
    assert ("missing", "2 of alice, bob, carol") in decided_rows(scene.look())
    scene.case.decide("bob")
    rows = decided_rows(scene.look(), CET)
    assert ("missing", "1 of alice, carol") in rows
    assert ("decided", "bob: approve, Sun 2026-11-22 09:00:00 CET (2026-11-22T08:00:00Z), now") in rows
    scene.case.decide("carol", "deny")
    assert ("missing", "1 of alice") in decided_rows(scene.look())


def test_a_quorum_that_is_impossible_is_called_so() -> None:
    scene = Scene()
    scene.case.decide("bob", "deny")
    scene.case.decide("carol", "deny")
    assert ("missing", "2 of custodians: impossible") in decided_rows(scene.look())


def test_a_decision_under_an_older_root_is_shown_as_void() -> None:
    scene = Scene()
    scene.case.decide("bob")
    scene.world.tick(60)
    scene.world.replace_root()
    rows = [value for label, value in decided_rows(scene.look()) if label == "decided"]
    assert rows[0].endswith("(does not count any more)")


def test_the_digests_that_are_signed_stand_whole() -> None:
    scene = Scene()
    seen = scene.look()
    decision = draft_decision(seen, "approve", "as agreed", issued=scene.world.now)
    rows = dict(signed_rows(seen, decision))
    assert rows["request"] == scene.case.digest
    assert rows["terms"] == scene.case.lease
    assert rows["trust root"].startswith(scene.world.state.root_digest)
    assert rows["you"] == "alice, slot 0/1, device laptop"
    assert rows["release key"] == scene.case.key.digest
    assert rows["note"] == "as agreed"
    assert "release key" not in dict(signed_rows(seen, draft_decision(seen, "deny", "", issued=scene.world.now)))


def test_a_roster_with_a_cool_off_says_when_the_share_goes() -> None:
    scene = Scene("frontier/llm@1")
    seen = scene.look()
    rows = dict(signed_rows(seen, draft_decision(seen, "approve", "", issued=scene.world.now)))
    assert rows["your share"] == "stays with you: it is sent later, with custody release, 1 hour after the grant"


def test_only_what_differs_from_the_last_lease_is_listed() -> None:
    scene = Scene()
    scene.case.decide("alice")
    scene.case.decide("bob")
    scene.case.grant()
    assert differences(scene.look(compare=True)) == []
    scene.world.tick(10)
    scene.case = scene.world.file(NAME, purpose="serving", bytes=U64(5_000))
    scene.counter.cases.append(scene.case)
    assert differences(scene.look(compare=True)) == [
        ("purpose", "evaluation", "serving"),
        ("bytes", "9.8 KiB (10000 bytes)", "4.9 KiB (5000 bytes)"),
    ]


def test_freshness_says_how_it_is_known() -> None:
    seen = Scene().look()
    assert freshness_text(seen) == "as of now: the last of 3 log entries, witnessed then, names trust root 0"


def test_a_version_is_shown_with_its_files_and_guards() -> None:
    scene = Scene()
    view = scene.counter.desk().version(NAME)
    rows = version_rows(view, scene.world.now, CET)
    assert ("guarded by", "roster custodians: 2 of alice, bob, carol") in rows
    assert next(value for label, value in rows if label == "file") == "config.json, 700 bytes"


@pytest.mark.parametrize("text", ["\x1b[2Jyes", "ab\u202ecd", "zero\u200bwidth", "two\nlines", "x" * 1001])
def test_text_that_could_redraw_a_screen_never_reaches_a_review(text: str) -> None:
    with pytest.raises(FormatError):
        Scene(reason=text)
