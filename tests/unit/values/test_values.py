"""Names, identities, numbers, times and text have one spelling each."""

import re
import typing
from typing import Any

import msgspec
import pytest

from custody import values
from custody.errors import FormatError
from custody.values import MAX_U64, U64, Time, check_path, check_text, covering, matches


def pattern(kind: Any) -> re.Pattern[str]:
    (meta,) = (item for item in typing.get_args(kind) if isinstance(item, msgspec.Meta))
    assert meta.pattern is not None
    return re.compile(meta.pattern)


def accepts(kind: Any, text: str) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


GOOD = [
    (values.Deployment, ["custody.example.org/log", "a", "a-b_c.d/e/f"]),
    (values.Digest, ["0" * 64, "0123456789abcdef" * 4]),
    (values.Hex16, ["0" * 32]),
    (values.Name, ["board", "a-1", "2-of-3"]),
    (values.PersonId, ["alice", "alice.b", "a1-b2"]),
    (values.VersionId, ["demo@1", "frontier/llm@2026-11", "a/b/c/d@v1.2_3", "Qwen2/0.5B-Instruct@r_1"]),
    (values.NamePattern, ["*", "frontier/*", "frontier/llm", "a/b/c/d/*"]),
    (values.SpiffeId, ["spiffe://example.org/job", "spiffe://a/B/c.d-e_f", "spiffe://a/..."]),
    (values.WorkloadPattern, ["spiffe://example.org/*", "spiffe://example.org/job/*", "spiffe://example.org/job"]),
    (values.SealerId, ["alice", "spiffe://example.org/train/*", "spiffe://example.org/job"]),
]
BAD = [
    (values.Deployment, ["", "A", "a/", "/a", "a//b", "a..b", "https://a", "a b", "a\n", "a:1", "é", "a" * 129]),
    (values.Digest, ["0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "\u0660" * 64, ""]),
    (values.Hex16, ["0" * 31, "0" * 33, "F" * 32]),
    (values.Name, ["", "-a", "a-", "a--b", "A", "a_b", "a.b", "a/b", "a\0", "a" * 41, "ä"]),
    (values.PersonId, ["", "1a", "Alice", "a..b", "a-", "a b", "a/b", "person:a", "\u0430"]),
    (
        values.VersionId,
        ["", "@", "a@", "@1", "a", "a@1@2", "a//b@1", "/a@1", "a/@1", "../a@1", "a/../b@1", "a@..", "a@1/2", "a@1\n"],
    ),
    (values.VersionId, ["a\0@1", "a/b/c/d/e@1", "a@1 ", "á@1", "a" * 199 + "@1", "x" * 10_000_000]),
    (values.NamePattern, ["", "**", "*/a", "a*", "a/*/b", "a/**", "/*", "a@1"]),
    (
        values.SpiffeId,
        [
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/.",
            "spiffe://a/../b",
            "spiffe:/a/b",
        ],
    ),
    (
        values.SpiffeId,
        ["SPIFFE://a/b", "spiffe://A/b", "spiffe://a:1/b", "spiffe://u@a/b", "spiffe://a/b?c", "spiffe://a/b#c"],
    ),
    (values.SpiffeId, ["spiffe://a/%2e", "spiffe://a/b\n", "spiffe://a/é", "spiffe://a/" + "b" * 512, "spiffe://-a/b"]),
    (values.WorkloadPattern, ["*", "spiffe://*", "spiffe://a", "spiffe://a/b*", "spiffe://a/*/b", "alice"]),
    (values.SealerId, ["", "*", "Alice", "spiffe://a", "spiffe://a/../b", "alice/*", "spiffe://a/b "]),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in GOOD for text in texts])
def test_accepted_as_a_name(kind: Any, text: str) -> None:
    assert accepts(kind, text)


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in BAD for text in texts], ids=lambda v: ascii(v)[:40]
)
def test_refused_as_a_name(kind: Any, text: str) -> None:
    assert not accepts(kind, text)


@pytest.mark.parametrize("kind", [kind for kind, _ in GOOD])
def test_a_pattern_is_anchored_at_both_ends(kind: Any) -> None:
    text = pattern(kind).pattern
    assert text.startswith(r"\A")
    assert text.endswith(r"\Z")


@pytest.mark.parametrize("kind", [kind for kind, _ in GOOD])
@pytest.mark.parametrize(
    "text", ["a" * 50_000, "a-" * 25_000, "spiffe://" + "a." * 25_000, "spiffe://a" + "/a" * 25_000]
)
def test_a_pattern_answers_at_once_for_text_made_to_slow_it(kind: Any, text: str) -> None:
    assert not accepts(kind, text + "!")


@pytest.mark.parametrize("number", [0, 1, 2**63, MAX_U64])
def test_a_u64_has_one_spelling(number: int) -> None:
    assert U64.parse(str(number)) == number == U64(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+1",
        "-1",
        "01",
        "00",
        "1.0",
        "1e3",
        " 1",
        "1 ",
        "1\n",
        "1_0",
        "0x1",
        "\uff11",
        "\u0661",
        "\u00b2",
        str(2**64),
        "9" * 21,
        "9" * 10**6,
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_refused_as_a_u64(text: str) -> None:
    with pytest.raises(ValueError):
        U64.parse(text)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_u64_is_not_made_of_what_does_not_fit(number: int) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 2\*\*64 - 1"):
        U64(number)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T17:00:00Z", 1795366800),
        ("2028-02-29T23:59:59Z", 1835481599),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_a_time_has_one_spelling(text: str, seconds: int) -> None:
    assert Time.parse(text) == seconds
    assert str(Time(seconds)) == text
    assert repr(Time(seconds)) == f"Time({text})"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22",
        "2026-11-22T17:00:00",
        "2026-11-22T17:00:00z",
        "2026-11-22t17:00:00Z",
        "2026-11-22 17:00:00Z",
        "2026-11-22T17:00:00+00:00",
        "2026-11-22T17:00:00.0Z",
        "2026-11-22T17:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "+2026-11-22T17:00:00Z",
        "\uff12026-11-22T17:00:00Z",
        "2026-11-22T17:00:00Z\n",
        "10000-01-01T00:00:00Z",
    ],
    ids=ascii,
)
def test_refused_as_a_time(text: str) -> None:
    with pytest.raises(ValueError):
        Time.parse(text)


@pytest.mark.parametrize("seconds", [-1, 253402300800])
def test_a_time_is_not_made_of_what_cannot_be_written(seconds: int) -> None:
    with pytest.raises(ValueError, match="between 1970 and 9999"):
        Time(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain ~text~!",
        "Grüße",
        "\u30e2\u30c7\u30eb 2",
        "na\u00efve \u2014 \u201cquoted\u201d",
        "5 \u00b5m\u00b2, \u00bd",
    ],
)
def test_visible_text_is_accepted(text: str) -> None:
    assert check_text(text, "reason") == text


HIDDEN = {
    "NUL": "\0",
    "newline": "\n",
    "tab": "\t",
    "ANSI escape": "\x1b[31m",
    "one-byte CSI": "\x9b31m",
    "delete": "\x7f",
    "backspace": "\b",
    "line separator": "\u2028",
    "next line": "\x85",
    "no-break space": "\xa0",
    "ideographic space": "\u3000",
    "soft hyphen": "\xad",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "byte order mark": "\ufeff",
    "right-to-left override": "\u202e",
    "left-to-right mark": "\u200e",
    "isolate": "\u2066",
    "tag character": "\U000e0041",
    "variation selector": "\ufe0f",
    "variation selector 17": "\U000e0100",
    "grapheme joiner": "\u034f",
    "hangul filler": "\u3164",
    "empty braille cell": "\u2800",
    "private use": "\ue000",
    "unassigned": "\u0378",
    "half a surrogate pair": "\ud800",
    "noncharacter": "\uffff",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_text_that_hides_or_moves_is_refused_by_code_point(name: str) -> None:
    character = HIDDEN[name]
    with pytest.raises(
        FormatError, match=rf"^reason: character U\+{ord(character[0]):04X} at position 2 is not allowed$"
    ):
        check_text(f"ab{character}c", "reason")


def test_two_spellings_of_one_text_are_refused() -> None:
    with pytest.raises(FormatError, match="normalization form NFC"):
        check_text("u\u0308", "reason")
    assert check_text("\u00fc", "reason") == "\u00fc"


@pytest.mark.parametrize(
    "path", ["a", "config.json", "weights/model-00001-of-00002.safetensors", "a b/c", ".gitignore", "Grüße/ü"]
)
def test_a_path_inside_a_version_is_accepted(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a/..",
        "a\\b",
        "C:\\a",
        "C:a",
        "c:/a",
        "a\0b",
        "a\nb",
        "\uff0e\uff0e/a",
        "a\uff0fb",
        "a\u2215b",
        "a\u2044b",
        "a\u29f5b",
        "\u2025/a",
        "\ufb01le",
        "a" * 256,
        "a/" * 512 + "a",
        "é" * 128,
    ],
    ids=lambda path: ascii(path)[:30],
)
def test_refused_as_a_path(path: str) -> None:
    with pytest.raises(FormatError):
        check_path(path)


def test_the_message_about_a_path_is_plain() -> None:
    with pytest.raises(FormatError) as caught:
        check_path("é" * 500 + "/../" + "x" * 10_000)
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 600


def test_covering_patterns_come_the_most_specific_first() -> None:
    assert list(covering("a/b/c@1")) == ["a/b/c", "a/b/*", "a/*", "*"]
    assert list(covering("a@1")) == ["a", "*"]


@pytest.mark.parametrize(
    ("text", "name", "covered"),
    [
        ("*", "a@1", True),
        ("frontier/*", "frontier/llm@1", True),
        ("frontier/*", "frontier/llm/tiny@1", True),
        ("frontier/*", "frontier@1", False),
        ("frontier/*", "frontier-2/llm@1", False),
        ("frontier/*", "frontierx/llm@1", False),
        ("frontier", "frontier/llm@1", False),
        ("frontier/llm", "frontier/llm@1", True),
        ("frontier/llm", "frontier/llm2@1", False),
        ("a", "b/a@1", False),
        ("spiffe://example.org/*", "spiffe://example.org/job", True),
        ("spiffe://example.org/*", "spiffe://example.org.evil.com/job", False),
        ("spiffe://example.org/job/*", "spiffe://example.org/job", False),
        ("spiffe://example.org/job", "spiffe://example.org/job2", False),
    ],
)
def test_a_pattern_covers_a_name_and_what_is_below_it(text: str, name: str, *, covered: bool) -> None:
    assert matches(text, name) is covered
