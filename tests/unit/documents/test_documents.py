"""Each document refuses what contradicts itself. Each row changes one thing in an honest document."""

import json
from typing import Any

import msgspec
import pytest

from custody.documents.actor import Broker, Person, Workload, actor_name
from custody.documents.content import Content, File
from custody.documents.dsse import MAX_ENVELOPE, sign
from custody.documents.request import Range, Request, indexes, is_subset, ranges_of
from custody.documents.sharing import Sharing, Slot
from custody.documents.terms import Terms
from custody.errors import FormatError
from custody.values import U64
from tests.doubles import samples
from tests.doubles.actors import ServerKey

LONG = "x" * 1001
NONE = "00" * 32


def members(kind: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(samples.envelopes()[kind].payload)
    return value


def dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_with(*paths: str) -> dict[str, Any]:
    (first, *_) = members("content")["files"]
    return {"files": [first | {"path": path} for path in paths]}


def sharing_with(**changes: Any) -> dict[str, Any]:
    first, second = members("sharing")["groups"]
    return {"groups": [first | changes, second]}


def slots_of(*persons: str) -> list[dict[str, str]]:
    return [{"person": person, "commitment": NONE} for person in persons]


def spans(*items: tuple[int, int]) -> dict[str, Any]:
    return {"files": [{"first": str(first), "last": str(last)} for first, last in items]}


RANGES = "files: ranges must ascend, be disjoint and not touch"
ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("content", {"segment": "1000000"}, "segment: not a power of two between 4096 and 16777216"),
    ("content", {"segment": "2048"}, "segment: not a power of two"),
    ("content", {"segment": "33554432"}, "segment: not a power of two"),
    ("content", {"segment": "0"}, "segment: not a power of two"),
    ("content", {"files": []}, "Expected `array` of length >= 1 - at `files`"),
    ("content", content_with("b", "a"), "files: paths are not sorted and distinct"),
    ("content", content_with("a", "a"), "files: paths are not sorted and distinct"),
    ("content", content_with("a", "a/b"), "files: a is both a file and a folder"),
    ("content", content_with("a/b", "a/b/c/d"), "files: a/b is both a file and a folder"),
    ("content", content_with("a-b", "a/b", "a/b/c"), "files: a/b is both a file and a folder"),
    ("content", content_with("../a"), "is not a relative path inside a version - at `files[0]`"),
    ("content", content_with("/a"), "is not a relative path inside a version"),
    ("content", content_with("a\u202e"), "path: character U+202E at position 1 is not allowed"),
    ("content", {"key_kind": "series"}, "Invalid enum value 'series' - at `key_kind`"),
    ("content", {"series": NONE}, "Expected `null`, got `str` - at `series`"),
    ("content", {"vid": NONE[:-2]}, "at `vid`"),
    ("content", {"retention": ""}, "at `retention`"),
    ("content", {"labels": [{"name": "a", "value": "x" * 201}]}, "at `labels[0].value`"),
    (
        "content",
        {"labels": [{"name": "a", "value": "a\u202eb"}]},
        "content.labels[0].value: character U+202E at position 1 is not allowed",
    ),
    ("content", {"lineage": [NONE] * 65}, "Expected `array` of length <= 64 - at `lineage`"),
    ("content", {"sealer": {"actor": "broker", "broker": "broker-1"}}, "Invalid value 'broker' - at `sealer.actor`"),
    ("sharing", sharing_with(slots=slots_of("alice", "bob", "dave")), "groups: a person holds more than one slot"),
    ("sharing", sharing_with(slots=slots_of("alice", "alice", "bob")), "groups: a person holds more than one slot"),
    ("sharing", sharing_with(threshold=4), "groups: security asks 4 of 3"),
    ("sharing", sharing_with(threshold=0), "Expected `int` >= 1 - at `groups[0].threshold`"),
    ("sharing", sharing_with(threshold=256), "Expected `int` <= 255 - at `groups[0].threshold`"),
    ("sharing", sharing_with(slots=[]), "at `groups[0].slots`"),
    ("sharing", {"groups": []}, "at `groups`"),
    ("sharing", {"generation": "1"}, "reshare: generation 0 has none, every later one names the approved terms"),
    ("sharing", {"reshare": NONE}, "reshare: generation 0 has none"),
    ("request", spans(), "Expected `array` of length >= 1 - at `files`"),
    ("request", spans((1, 0)), RANGES),
    ("request", spans((0, 0), (0, 0)), RANGES),
    ("request", spans((0, 1), (1, 2)), RANGES),
    ("request", spans((0, 0), (1, 1)), RANGES),
    ("request", spans((2, 2), (0, 0)), RANGES),
    ("request", {"open_before": members("request")["not_before"]}, "open_before: the start window is empty"),
    ("request", {"duration": str(2**64 - 1)}, "duration: the lease would end after the year 9999"),
    ("request", {"duration": "0"}, "duration: must be more than zero"),
    ("request", {"sessions": "0"}, "sessions: must be more than zero"),
    ("request", {"bytes": "0"}, "bytes: must be more than zero"),
    ("request", {"lifts": [NONE]}, "lifts: named by a request of kind lift, and by no other"),
    ("request", {"kind": "lift"}, "lifts: named by a request of kind lift, and by no other"),
    ("request", {"roster": "board"}, "roster: named by a request of kind reshare, and by no other"),
    ("request", {"kind": "reshare"}, "roster: named by a request of kind reshare, and by no other"),
    ("request", {"kind": "grant"}, "Invalid enum value 'grant' - at `kind`"),
    ("request", {"mode": "both"}, "Invalid enum value 'both' - at `mode`"),
    ("request", {"reason": ""}, "Expected `str` of length >= 1 - at `reason`"),
    ("request", {"reason": LONG}, "Expected `str` of length <= 1000 - at `reason`"),
    ("request", {"reason": "a\u200bb"}, "request.reason: character U+200B at position 1 is not allowed"),
    ("request", {"reason": "<b>\x1b[8m</b>"}, "request.reason: character U+001B at position 3 is not allowed"),
    ("request", {"ticket": "x" * 201}, "Expected `str` of length <= 200 - at `ticket`"),
    ("request", {"beneficiary": "spiffe://example.org/../job"}, "of the required form - at `beneficiary`"),
    ("request", {"version": "../../etc@1"}, "of the required form - at `version`"),
    ("request", {"requester": {"actor": "broker", "broker": "broker-1"}}, "Invalid value 'broker'"),
    ("terms", spans((1, 0)), RANGES),
    ("terms", {"open_before": members("terms")["not_before"]}, "not_before, open_before and not_after must ascend"),
    ("terms", {"not_after": members("terms")["open_before"]}, "not_before, open_before and not_after must ascend"),
    ("terms", {"sessions": "0"}, "sessions and bytes: must be more than zero"),
    ("terms", {"bytes": "0"}, "sessions and bytes: must be more than zero"),
    ("decision", {"expires": members("decision")["issued"]}, "expires: not after issued"),
    ("decision", {"verdict": "abstain"}, "Invalid enum value 'abstain' - at `verdict`"),
    ("decision", {"slot": {"group": 0, "index": 0}}, "Expected `int` >= 1 - at `slot.index`"),
    ("decision", {"slot": {"group": 16, "index": 1}}, "Expected `int` <= 15 - at `slot.group`"),
    ("decision", {"note": LONG}, "at `note`"),
    ("release", {"recipients": []}, "at `recipients`"),
    ("release", {"recipients": members("release")["recipients"] * 2}, "recipients: one broker occurs twice"),
    ("release-key", {"xwing": "AAAA"}, "Expected `bytes` of length >= 1216 - at `xwing`"),
    ("open", spans((1, 0)), RANGES),
    ("open", {"bytes": "0"}, "bytes: must be more than zero"),
    ("open", {"xwing": "AAAA"}, "at `xwing`"),
    ("open", {"workload": {"actor": "person", "person": "alice"}}, "Invalid value 'person' - at `workload.actor`"),
    ("open", {"workload": members("open")["workload"] | {"x5c": []}}, "at `workload.x5c`"),
    ("open", {"workload": members("open")["workload"] | {"x5c": ["AAAA"] * 9}}, "at `workload.x5c`"),
    ("stop", {"action": "lockdown"}, "Invalid enum value 'lockdown' - at `action`"),
    ("stop", {"reason": ""}, "at `reason`"),
    ("hello", {"nonce": "00"}, "at `nonce`"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), ROWS, ids=[f"{row[0]}-{row[2][:50]}" for row in ROWS])
def test_refused_as_a_document(kind: str, changes: dict[str, Any], message: str) -> None:
    document = samples.KINDS[kind]
    assert document.parse(dump(members(kind))).encode() == samples.envelopes()[kind].payload
    with pytest.raises(FormatError) as caught:
        document.parse(dump(members(kind) | changes))
    assert message in caught.value.message


@pytest.mark.parametrize("kind", samples.KINDS)
def test_no_member_of_a_document_may_be_left_out_or_null_unless_it_says_so(kind: str) -> None:
    may_be_null = {
        "root": {"previous"},
        "content": {"series"},
        "sharing": {"reshare"},
        "request": {"roster"},
        "open": {"xwing"},
    }
    for name, value in members(kind).items():
        with pytest.raises(FormatError, match="missing required field"):
            samples.KINDS[kind].parse(dump({key: value for key, value in members(kind).items() if key != name}))
        if name not in may_be_null.get(kind, set()) or value is not None:
            with pytest.raises(FormatError):
                samples.KINDS[kind].parse(dump(members(kind) | {name: None if value is not None else ""}))


@pytest.mark.parametrize("kind", samples.KINDS)
def test_every_document_names_its_deployment(kind: str) -> None:
    assert members(kind)["deployment"] == "custody.example.org/log"


def test_a_content_knows_the_sizes_of_its_files() -> None:
    content = samples.envelopes()["content"].document(Content)
    assert content.size == 5700
    assert content.size_of(ranges_of({0, 2})) == 700
    assert content.size_of(ranges_of({0, 1, 2})) == 5700
    with pytest.raises(IndexError):
        content.size_of(ranges_of({3}))


def test_a_sharing_knows_its_slots() -> None:
    sharing = samples.envelopes()["sharing"].document(Sharing)
    assert [(str(slot), holder.person) for slot, holder in sharing.slots().items()] == [
        ("0/1", "alice"),
        ("0/2", "bob"),
        ("0/3", "carol"),
        ("1/1", "dave"),
        ("1/2", "grace"),
    ]
    assert sharing.slot_of("grace") == Slot(group=1, index=2)
    assert sharing.slot_of("frank") is None
    assert sharing.quorum_text() == "2 of alice, bob, carol; and 1 of dave, grace"


def test_ranges_and_sets_of_files_are_the_same() -> None:
    files = {0, 1, 2, 5, 7, 8}
    ranges = ranges_of(files)
    assert [(item.first, item.last) for item in ranges] == [(0, 2), (5, 5), (7, 8)]
    assert set(indexes(ranges)) == files
    assert ranges_of(set()) == ()


@pytest.mark.parametrize(
    ("inner", "inside"),
    [
        ([(0, 2)], True),
        ([(1, 1)], True),
        ([(0, 0), (2, 2), (7, 8)], True),
        ([(3, 3)], False),
        ([(2, 3)], False),
        ([(0, 5)], False),
        ([(4, 5)], False),
        ([(8, 9)], False),
        ([(0, 0), (9, 9)], False),
        ([(2**64 - 1, 2**64 - 1)], False),
        ([(0, 2**64 - 1)], False),
        ([], True),
    ],
)
def test_a_part_of_the_files(inner: list[tuple[int, int]], *, inside: bool) -> None:
    outer = ranges_of({0, 1, 2, 5, 7, 8})
    assert is_subset(tuple(Range(first=U64(a), last=U64(b)) for a, b in inner), outer) is inside


def test_the_end_of_a_request_follows_from_its_window_and_duration() -> None:
    request = samples.envelopes()["request"].document(Request)
    terms = samples.envelopes()["terms"].document(Terms)
    assert request.not_after == request.open_before + request.duration == terms.not_after


def test_actors_have_names() -> None:
    assert actor_name(Person(person="alice")) == "alice"
    assert actor_name(Broker(broker="broker-1")) == "broker broker-1"
    assert actor_name(Workload(spiffe="spiffe://a/b", x5c=(b"",))) == "spiffe://a/b"


def test_a_content_of_more_files_than_an_envelope_holds_is_not_signed() -> None:
    content = samples.envelopes()["content"].document(Content)
    digest = "00" * 32
    long = [f"{'/'.join('d' * 240 for _ in range(4))}/{i}" for i in range(12_000)]
    files = tuple(File(path=path, size=U64(1), ciphertext=digest, digests=digest) for path in sorted(long))
    with pytest.raises(FormatError, match="content: more than 16777216 bytes when signed"):
        sign(msgspec.structs.replace(content, files=files), [ServerKey(bytes(32))])
    usual = tuple(File(path=f"{i:030}", size=U64(2**40), ciphertext=digest, digests=digest) for i in range(50_000))
    assert len(msgspec.structs.replace(content, files=usual).encode()) * 4 // 3 < MAX_ENVELOPE - 1024
