"""What people type is checked before anything is done with it."""

import pytest

from custody.app.arguments import checked, seconds
from custody.errors import FormatError
from custody.values import VersionId


@pytest.mark.parametrize(
    "text", ["a", "a@", "@1", "a@1\n", "a/../b@1", "A B@1", "a@1/2", "\u0430@1", "a" * 200 + "@1", ""]
)
def test_what_is_no_version_is_refused_and_shown_escaped(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        checked(VersionId, text, "version")
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 200


def test_a_version_is_returned_as_it_is() -> None:
    assert checked(VersionId, "frontier/llm@2026-11", "version") == "frontier/llm@2026-11"


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800)]
)
def test_durations(text: str, value: int) -> None:
    assert seconds(text, "x") == value


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "1h30m", "h", "1 h", "٣", "9" * 10])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="is not a duration"):
        seconds(text, "cool_off")
