"""From what a person wants to a request that says it exactly."""

from datetime import timedelta
from typing import Any

import pytest

from custody.client.asking import Wish, choose_files, make_request, seconds
from custody.documents.actor import Person
from custody.documents.content import Content
from custody.documents.request import Request, indexes
from custody.errors import FormatError
from tests.doubles.world import START, World

SIZE = 5700


@pytest.fixture
def content() -> Content:
    return World().content()


def _ask(content: Content, **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "purpose": "serving",
        "reason": "roll-out",
        "beneficiary": "spiffe://example.org/job/serve",
        "duration": 7200,
    }
    wish = Wish(**(fields | changes))
    return make_request(content, "ab" * 32, wish, Person(person="frank"), now=int(START), nonce="cd" * 32)


def test_defaults_are_all_files_twice_within_a_working_day(content: Content) -> None:
    request = _ask(content)
    assert list(indexes(request.files)) == [0, 1, 2]
    assert (request.sessions, request.bytes) == (2, 2 * SIZE)
    assert request.open_before - request.not_before == 8 * 3600
    assert request.not_after == START + 8 * 3600 + 7200


def test_globs_choose_files_across_folders(content: Content) -> None:
    assert choose_files(content, ["*.safetensors"]) == {1, 2}
    assert choose_files(content, ["config.json", "weights/0*"]) == {0, 1}


def test_a_glob_that_matches_nothing_names_what_there_is(content: Content) -> None:
    with pytest.raises(FormatError, match="no file 'nope'") as caught:
        choose_files(content, ["config.json", "nope"])
    assert "config.json" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"duration": 0}, "duration"),
        ({"sessions": 0}, "sessions"),
        ({"start_within": 0}, "start window"),
        ({"bytes": 0}, "bytes: 0 asked"),
        ({"bytes": 2 * SIZE + 1}, "2 sessions of these files are 11400"),
        ({"bytes": 701, "files": ["config.json"], "sessions": 1}, "701 asked, but 1 sessions"),
        ({"not_before": 1000}, "which is over"),
        ({"reason": "  "}, "reason: say why"),
        ({"reason": "x\x1b[2J"}, "not allowed"),
        ({"reason": "r" * 1001}, "reason"),
        ({"purpose": "two words"}, "purpose"),
        ({"beneficiary": "job"}, "beneficiary"),
        ({"ticket": "\u202eevil"}, "not allowed"),
    ],
)
def test_what_is_wrong_is_named(content: Content, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(FormatError, match=match):
        _ask(content, **changes)


@pytest.mark.parametrize(
    ("span", "expected"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), (5, 5), (timedelta(hours=1), 3600)],
)
def test_spans(span: Any, expected: int) -> None:
    assert seconds(span, "duration") == expected


@pytest.mark.parametrize("span", ["", "0", "-1", "1w", "2 h", "1.5h", "h", "9" * 10, "400d", 0, -5, timedelta(0)])
def test_spans_that_are_none(span: Any) -> None:
    with pytest.raises(FormatError, match="duration"):
        seconds(span, "duration")
