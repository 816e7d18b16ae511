"""Whoever signs sees all of it."""

from typing import Any

import msgspec
import pytest

from custody.documents.dsse import Document
from custody.documents.release import Recipient, Release, ReleaseKey
from custody.documents.sharing import Slot
from custody.documents.show import changes, duration_text, fingerprint, rows, size_text
from custody.values import U64, Time
from tests.doubles.world import World


def _documents() -> dict[str, Document]:
    """One of each kind that is in the log after a version was opened, and the rest made for it."""
    world = World()
    case = world.opened()
    case.begin()
    world.log_hello(world.hello())
    kinds = {kind.payload_type: kind for kind in Document.__subclasses__()}
    found = {
        kinds[envelope.payloadType].document_kind(): envelope.document(kinds[envelope.payloadType])
        for envelope in world.log.envelopes.values()
    }
    stop = case.stop("revoke", "alice")
    found["stop"] = stop.document(kinds[stop.payloadType])
    return found


DOCUMENTS = _documents()


def test_every_kind_of_document_can_be_shown() -> None:
    kinds = {kind.document_kind() for kind in Document.__subclasses__()}
    assert kinds == set(DOCUMENTS), "a kind that this test has no example of"
    for document in DOCUMENTS.values():
        shown = rows(document)
        assert shown
        assert all(label and value and "\n" not in label + value for label, value in shown)


def _leaves(value: Any) -> list[str]:
    """Every text, number and digest in a document."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in _leaves(inner)]
    if isinstance(value, str | int) and not isinstance(value, bool):
        return [str(value)]
    return []


# Shown under another spelling: keys as ids, durations in words, the names of JSON unions.
_ELSEWHERE = {
    "root": {"ed25519", "xwing", "predecessor", "spiffe_roots", "cool_off", "release", "epoch"},
    "content": {"actor", "segment", "series"},
    "sharing": {"actor", "threshold", "index", "group", "name"},
    "request": {"actor", "duration", "x5c", "bytes"},
    "terms": {"actor", "bytes"},
    "decision": {"index", "group"},
    "release": {"index", "group"},
    "open": {"actor", "x5c", "bytes"},
    "stop": {"actor"},
    "hello": {"actor"},
    "release-key": {"xwing"},
}


def _pruned(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(inner, names) for name, inner in value.items() if name not in names}
    if isinstance(value, list):
        return [_pruned(inner, names) for inner in value]
    return value


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_nothing_that_is_signed_is_left_out(kind: str) -> None:
    document = DOCUMENTS[kind]
    text = "\n".join(f"{label} {value}" for label, value in rows(document))
    plain = _pruned(msgspec.json.decode(document.encode()), _ELSEWHERE[kind])
    assert [leaf for leaf in _leaves(plain) if leaf and leaf not in text] == []


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_any_change_changes_what_is_shown(kind: str) -> None:
    """Two documents that differ are never shown alike, whichever field differs."""
    document = DOCUMENTS[kind]
    shown = rows(document)
    changed = 0
    for field in msgspec.structs.fields(document):
        value = getattr(document, field.name)
        other = _other(value)
        if other is None:
            continue
        try:
            different = msgspec.structs.replace(document, **{field.name: other})
        except ValueError:
            continue
        changed += 1
        assert rows(different) != shown, field.name
    assert changed >= 3


def _other(value: Any) -> Any:
    match value:
        case Time():
            return Time(value + 1)
        case U64():
            return U64(value + 1)
        case str() if len(value) == 64:
            return "0123456789abcdef" * 4
        case str():
            return f"{value}x"
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1])
        case Slot():
            return Slot(group=value.group + 1, index=value.index)
        case tuple() if len(value) > 1:
            return value[1:]
        case _:
            return None


def test_a_release_names_each_broker_and_key() -> None:
    release = DOCUMENTS["release"]
    assert isinstance(release, Release)
    more = Recipient(broker="broker-2", release_key="1" * 64, wrapped="2" * 64)
    shown = dict(rows(msgspec.structs.replace(release, recipients=(*release.recipients, more))))
    assert "1" * 64 in shown["for broker broker-2"]
    assert isinstance(DOCUMENTS["release-key"], ReleaseKey)


def test_direct_mode_is_shouted() -> None:
    shown = dict(rows(msgspec.structs.replace(DOCUMENTS["terms"], mode="direct")))
    assert "PERMANENT, NOT REVOCABLE" in shown["mode"]


def test_changes_name_what_went_and_what_came() -> None:
    old = [("a", "1"), ("b", "2"), ("c", "3")]
    assert changes(old, [("a", "1"), ("b", "4"), ("d", "5")]) == [
        ("-", "b", "2"),
        ("+", "b", "4"),
        ("+", "d", "5"),
        ("-", "c", "3"),
    ]
    assert changes(old, old) == []


def test_numbers_for_people_keep_the_exact_value() -> None:
    assert size_text(0) == "0 bytes"
    assert size_text(1288490189) == "1.2 GiB (1288490189 bytes)"
    assert [duration_text(n) for n in (0, 1, 3600, 93784)] == [
        "0 seconds",
        "1 second",
        "1 hour",
        "1 day 2 hours 3 minutes 4 seconds",
    ]
    assert fingerprint("0123456789ab") == "0123 4567 89ab"


def test_a_kind_that_nobody_taught_is_refused_and_not_shown_empty() -> None:
    with pytest.raises(TypeError, match="has no way to be shown"):
        rows(Document())
