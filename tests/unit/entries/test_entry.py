"""Entries: which fields each type has, and that an entry has one spelling."""

import hashlib
import json
from typing import Any, get_args

import msgspec
import pytest

from custody.documents.request import Range
from custody.documents.sharing import Slot
from custody.entries.entry import FIELDS, MAX_ENTRY, DocumentRef, Entry, EntryType, FileBytes, Parent, Party, served_of
from custody.errors import FormatError
from custody.values import U64
from tests.doubles import samples

NONE = "00" * 32
TYPES: tuple[str, ...] = get_args(EntryType)
# One value for each field, as JSON.
VALUES: dict[str, Any] = {
    "actor": {"id": "person:alice", "credential": NONE},
    "parent": {"index": "0", "leaf": NONE},
    "documents": [{"kind": "hello", "document": NONE, "envelope": NONE}],
    "version": "demo/tiny@1",
    "content": NONE,
    "sharing": NONE,
    "request": NONE,
    "terms": NONE,
    "release_key": NONE,
    "slot": {"group": 0, "index": 1},
    "verdict": "approve",
    "beneficiary": "spiffe://example.org/job",
    "session": NONE,
    "files": [{"first": "0", "last": "0"}],
    "ceiling": "0",
    "mode": "direct",
    "served": [{"file": "0", "bytes": "0"}],
    "persons": ["alice"],
    "key_commit": NONE,
    "outcome": "ok",
    "reason": "bad-share",
    "count": "0",
}


def dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def minimal(kind: str) -> dict[str, Any]:
    """An entry of a type with the fields it must have."""
    header = {
        "schema": "custody/entry/v1",
        "type": kind,
        "id": "0" * 32,
        "time": "2026-11-22T08:00:00Z",
        "broker": "broker-1",
        "build": NONE,
        "root": NONE,
        "policy": NONE,
    }
    return header | {name: VALUES[name] for name in FIELDS[kind][0]}


def test_fields_and_values_are_complete() -> None:
    assert set(FIELDS) == set(TYPES)
    assert {name for required, optional in FIELDS.values() for name in required | optional} == set(VALUES)
    assert not any(required & optional for required, optional in FIELDS.values())


@pytest.mark.parametrize("kind", TYPES)
def test_an_entry_has_the_fields_of_its_type(kind: str) -> None:
    required, optional = FIELDS[kind]
    entry = Entry.parse(dump(minimal(kind)))
    assert entry.encode() == dump(minimal(kind))
    for name in optional:
        Entry.parse(dump(minimal(kind) | {name: VALUES[name]}))
    for name in required:
        with pytest.raises(FormatError, match=f"entry: {name}: missing in a {kind} entry"):
            Entry.parse(dump({key: value for key, value in minimal(kind).items() if key != name}))
    for name in set(VALUES) - required - optional:
        with pytest.raises(FormatError, match=f"entry: {name}: not a field of a {kind} entry"):
            Entry.parse(dump(minimal(kind) | {name: VALUES[name]}))


@pytest.mark.parametrize("kind", TYPES)
def test_honest_entries_of_a_history_are_read_as_they_were_written(kind: str) -> None:
    entry = samples.entries()[kind]
    data = entry.encode()
    assert Entry.parse(data) == entry
    assert entry.leaf == hashlib.sha256(b"\0" + data).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "custody/entry/v2"},
        {"type": "gift"},
        {"id": "0" * 31},
        {"time": "2026-11-22T08:00:00.000Z"},
        {"broker": "Broker 1"},
        {"actor": None},
        {"actor": {"id": "alice", "credential": NONE}},
        {"actor": {"id": "person:alice bob", "credential": NONE}},
        {"actor": {"id": "person:alice\n", "credential": NONE}},
        {"actor": {"id": "spiffe://" + "a" * 520, "credential": NONE}},
        {"actor": {"id": "person:alice", "credential": "alice"}},
        {"documents": []},
        {"documents": VALUES["documents"] * 17},
        {"documents": [{"kind": "HELLO", "document": NONE, "envelope": NONE}]},
        {"secret": "s"},
        {"count": 1},
    ],
    ids=lambda changes: ascii(changes)[:50],
)
def test_refused_as_an_entry(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"^entry: "):
        Entry.parse(dump(minimal("hello") | changes))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("decision", {"verdict": "maybe"}),
        ("grant", {"persons": []}),
        ("grant", {"persons": ["Alice"]}),
        ("grant", {"persons": ["alice"] * 1001}),
        ("session-intent", {"ceiling": "-1"}),
        ("session-intent", {"files": []}),
        ("session-outcome", {"outcome": "fine"}),
        ("session-outcome", {"served": [{"file": "1", "bytes": "1", "last": "1"}]}),
        ("session-outcome", {"served": [{"file": "1", "bytes": "1", "last": "0"}]}),
        ("session-outcome", {"served": [{"file": "1", "bytes": "1", "last": None}]}),
        ("session-outcome", {"served": [{"file": "1", "bytes": "1"}, {"file": "0", "bytes": "1"}]}),
        ("session-outcome", {"served": [{"file": "0", "bytes": "1"}, {"file": "0", "bytes": "1"}]}),
        ("session-outcome", {"served": [{"file": "0", "bytes": "1", "last": "1"}, {"file": "1", "bytes": "1"}]}),
        ("opening-outcome", {"reason": "Bad share"}),
        ("opening-outcome", {"reason": "x" * 81}),
        ("system", {"count": "1.5"}),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_refused_as_an_entry_of_its_type(kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"^entry: "):
        Entry.parse(dump(minimal(kind) | changes))


def test_an_absent_field_has_no_second_spelling() -> None:
    for name in VALUES:
        value: object = [] if name in ("documents", "files", "served", "persons") else None
        with pytest.raises(FormatError):
            Entry.parse(dump(minimal("system") | {name: value}))


def test_an_entry_beyond_a_bundles_record_is_refused_on_both_sides() -> None:
    entry = Entry.parse(dump(minimal("session-outcome")))
    step = 10**18
    served = tuple(FileBytes(file=U64(step + 2 * i), last=U64(step + 2 * i + 1), bytes=U64(step)) for i in range(1000))
    with pytest.raises(FormatError, match=r"entry of type session-outcome: .* at most 65535 are allowed"):
        msgspec.structs.replace(entry, served=served).encode()
    with pytest.raises(FormatError, match="at most 65535 are allowed"):
        Entry.parse(b" " * (MAX_ENTRY + 1))


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 50_000])
def test_an_outcome_fits_however_many_files_were_served(count: int) -> None:
    ranges = (Range(first=U64(0), last=U64(49_999)),)
    served = served_of(dict.fromkeys(range(count), 2**40), ranges)
    entry = Entry.parse(msgspec.structs.replace(Entry.parse(dump(minimal("session-outcome"))), served=served).encode())
    assert sum(item.bytes for item in entry.served) == count * 2**40


def test_an_outcome_of_scattered_files_fits_as_well() -> None:
    ranges = tuple(Range(first=U64(50 * i), last=U64(50 * i + 1)) for i in range(1000))
    counts = {int(file): 1 for item in ranges for file in (item.first, item.last)}
    served = served_of(counts, ranges)
    assert [(item.file, item.last, item.bytes) for item in served] == [(50 * i, 50 * i + 1, 2) for i in range(1000)]
    assert (
        len(msgspec.structs.replace(Entry.parse(dump(minimal("session-outcome"))), served=served).encode()) < MAX_ENTRY
    )


def test_an_entry_names_one_document_of_a_kind() -> None:
    entry = samples.entries()["manifest"]
    assert entry.document("content").kind == "content"
    for kind in ("root", "contents"):
        with pytest.raises(FormatError, match=f"manifest entry: 0 documents of kind {kind}, expected one"):
            entry.document(kind)
    twice = msgspec.structs.replace(entry, documents=entry.documents[:1] * 2)
    with pytest.raises(FormatError, match="2 documents of kind content"):
        twice.document("content")


def test_no_text_that_a_person_wrote_stands_in_an_entry() -> None:
    for entry in samples.entries().values():
        assert b"nightly evaluation" not in entry.encode()
        assert b"EVAL-1" not in entry.encode()
        assert b"no longer needed" not in entry.encode()


def test_parts_of_an_entry_are_equal_by_value() -> None:
    assert Parent(index=U64(1), leaf=NONE) == Parent(index=U64(1), leaf=NONE)
    assert Party(id="person:alice", credential=NONE) != Party(id="person:bob", credential=NONE)
    assert DocumentRef(kind="a", document=NONE, envelope=NONE).kind == "a"
    assert FileBytes(file=U64(5), bytes=U64(1)).range == Range(first=U64(5), last=U64(5))
    assert Slot(group=0, index=1) < Slot(group=1, index=1)
