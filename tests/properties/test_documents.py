"""Whatever bytes come in: a ``CustodyError``, or a record that is written as exactly these bytes."""

import copy
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from custody.crypto import svid
from custody.documents.codec import Record, decode, encode
from custody.documents.dsse import Envelope
from custody.documents.manifest import Manifest
from custody.documents.request import Range, indexes, is_subset, ranges_of
from custody.entries.entry import Entry
from custody.errors import CustodyError, FormatError
from custody.rules.state import State
from custody.rules.step import step
from custody.values import MAX_U64, U64, Time, check_path, check_text, covering, matches
from tests.doubles import samples
from tests.doubles.world import World

PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    **{kind: (samples.KINDS[kind].parse, envelope.payload) for kind, envelope in samples.envelopes().items()},
    **{f"{kind}-envelope": (Envelope.parse, item.encode()) for kind, item in samples.envelopes().items()},
    **{f"{kind}-entry": (Entry.parse, entry.encode()) for kind, entry in samples.entries().items()},
    "manifest": (Manifest.parse, samples.manifest().encode()),
}
names = st.sampled_from(sorted(PARSERS))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def judged(parse: Callable[[bytes], Any], data: bytes) -> bool:
    """Whether the bytes are accepted; then they must be the one spelling of what was read."""
    try:
        record = parse(data)
    except CustodyError as error:
        assert error.message.isprintable()  # noqa: PT017 - any message must be
        return False
    assert record.encode() == data
    return True


@given(names, st.data())
def test_a_flipped_bit_is_refused_or_written_as_it_was_read(name: str, data: st.DataObject) -> None:
    parse, honest = PARSERS[name]
    position = data.draw(st.integers(0, 8 * len(honest) - 1))
    flipped = bytearray(honest)
    flipped[position // 8] ^= 1 << position % 8
    judged(parse, bytes(flipped))


@given(names, st.data())
def test_a_truncation_is_refused(name: str, data: st.DataObject) -> None:
    parse, honest = PARSERS[name]
    assert not judged(parse, honest[: data.draw(st.integers(0, len(honest) - 1))])


@given(names, st.binary(min_size=1, max_size=8), st.data())
def test_inserted_bytes_are_refused_or_written_as_they_were_read(name: str, extra: bytes, data: st.DataObject) -> None:
    parse, honest = PARSERS[name]
    place = data.draw(st.integers(0, len(honest)))
    judged(parse, honest[:place] + extra + honest[place:])


@given(names, st.binary(max_size=200))
def test_garbage_is_refused(name: str, garbage: bytes) -> None:
    assert not judged(PARSERS[name][0], garbage)


@given(names, json_values)
def test_other_json_is_refused(name: str, value: Any) -> None:
    assert not judged(PARSERS[name][0], json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> bytes:
    value = copy.deepcopy(value)
    place = value
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = new
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


@given(names, json_values, st.data())
def test_any_value_in_any_place_is_refused_or_written_as_it_was_read(name: str, new: Any, data: st.DataObject) -> None:
    parse, honest = PARSERS[name]
    value = json.loads(honest)
    judged(parse, replaced(value, data.draw(st.sampled_from(places(value))), new))


class Words(Record, frozen=True, kw_only=True):
    """A record with everything that is encoded in a way of its own."""

    words: str
    count: U64
    at: Time
    data: bytes
    small: int
    some: tuple[str, ...]
    nothing: None


@given(
    st.builds(
        Words,
        words=st.text(),
        count=st.integers(0, MAX_U64).map(U64),
        at=st.integers(0, 253402300799).map(Time),
        data=st.binary(),
        small=st.integers(-(2**53) + 1, 2**53 - 1),
        some=st.lists(st.text(max_size=5), max_size=5).map(tuple),
        nothing=st.none(),
    )
)
def test_the_encoding_is_rfc8785_and_is_read_back(record: Words) -> None:
    data = encode(record)
    assert data == rfc8785.dumps(json.loads(data))
    try:
        assert decode(data, Words, "words") == record
    except FormatError as error:
        assert "is not allowed" in error.message or "NFC" in error.message  # noqa: PT017 - else it must be read


@given(st.integers(0, MAX_U64))
def test_a_u64_is_read_as_it_was_written(number: int) -> None:
    assert U64.parse(str(U64(number))) == number


@given(st.integers(0, 253402300799))
def test_a_time_is_read_as_it_was_written(seconds: int) -> None:
    assert Time.parse(str(Time(seconds))) == seconds


@given(st.text(max_size=30))
def test_a_text_has_at_most_one_number_and_one_time(text: str) -> None:
    for kind in (U64, Time):
        try:
            value = kind.parse(text)
        except ValueError:
            continue
        assert str(value) == text


@given(st.text())
def test_text_that_passes_moves_no_cursor(text: str) -> None:
    try:
        check_text(text, "text")
    except FormatError as error:
        assert error.message.isprintable()  # noqa: PT017 - any message must be
        return
    assert text.isprintable()


@given(st.text(alphabet="ab./\\:*é\u2215 ", max_size=20))
def test_a_path_that_passes_stays_inside(path: str) -> None:
    try:
        check_path(path)
    except FormatError:
        return
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert "" not in path.split("/")
    assert "\\" not in path


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_ranges_are_sets(inner: set[int], outer: set[int]) -> None:
    assert set(indexes(ranges_of(inner))) == inner
    assert is_subset(ranges_of(inner), ranges_of(outer)) == (inner <= outer)


@given(st.integers(0, MAX_U64), st.integers(0, MAX_U64), st.sets(st.integers(0, 100)))
def test_a_range_far_out_is_in_no_small_set(first: int, last: int, outer: set[int]) -> None:
    if first <= last:
        one = (Range(first=U64(first), last=U64(last)),)
        assert is_subset(one, ranges_of(outer)) == (last <= 100 and set(range(first, last + 1)) <= outer)


@given(st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4), st.sampled_from(["", "/*"]), st.data())
def test_a_pattern_covers_what_is_below_it_and_nothing_else(parts: list[str], end: str, data: st.DataObject) -> None:
    below = data.draw(st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3))
    pattern, name = "/".join(parts) + end, "/".join([*parts, *below])
    assert matches(pattern, name) == (bool(below) if end else not below)
    assert len(set(covering(name))) == len(list(covering(name)))


@cache
def certified() -> tuple[World, tuple[bytes, ...]]:
    world = World()
    return world, world.job().chain


@given(st.data())
def test_a_certificate_with_a_flipped_bit_is_refused(data: st.DataObject) -> None:
    world, (leaf,) = certified()
    position = data.draw(st.integers(0, 8 * len(leaf) - 1))
    flipped = bytearray(leaf)
    flipped[position // 8] ^= 1 << position % 8
    with pytest.raises(CustodyError) as caught:
        svid.check_chain([bytes(flipped)], world.root.spiffe_roots, world.root.trust_domain, world.now)
    assert caught.value.message.isprintable()


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=3))
def test_garbage_for_certificates_is_refused(chain: list[bytes]) -> None:
    world, _ = certified()
    for check in (svid.identity_of, svid.validity, svid.check_authority):
        with pytest.raises(FormatError):
            check(chain[0])
    with pytest.raises(FormatError):
        svid.check_chain(chain, world.root.spiffe_roots, world.root.trust_domain, world.now)


@cache
def history() -> tuple[World, list[dict[str, Any]]]:
    world = World()
    world.log_hello(world.hello())
    case = world.opened("frontier/llm@1")
    case.end(case.begin(), (0, 700))
    case.log_stop(case.stop("revoke", "carol"), "carol")
    case.close("revoked")
    return world, [json.loads(entry.encode()) for entry in world.log.entries]


# What nothing but the entry says: the broker's clock within its tolerance, the digest of its code, a fresh id; how
# many bytes were served, and how a session ended.
FREE = {"id", "time", "build", "served", "outcome"}
STRANGE = ("00" * 32, "0" * 32, "0", "1", "alice", "bob", "ok", "failed", 1, 2)


@given(st.data())
def test_an_entry_with_one_value_from_elsewhere_is_refused_and_changes_nothing(data: st.DataObject) -> None:
    world, entries = history()
    place = data.draw(st.integers(0, len(entries) - 1))
    path = data.draw(st.sampled_from(places(entries[place])))
    donors = [_at(entry, path) for entry in entries] + list(STRANGE)
    new = data.draw(st.sampled_from([donor for donor in donors if donor is not None]))
    if new == _at(entries[place], path) or path[0] in FREE:
        return
    state = State(world.deployment, world.genesis.digest)
    for entry in world.log.entries[:place]:
        step(state, entry, world.log.envelopes)
    before = copy.deepcopy(state)
    with pytest.raises(CustodyError):
        step(state, Entry.parse(replaced(entries[place], path, new)), world.log.envelopes)
    assert state == before


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


@given(st.data())
def test_a_history_in_which_one_signature_is_another_is_refused(data: st.DataObject) -> None:
    """A lying database that serves, for one envelope, its payload with a signature from elsewhere or a broken one."""
    world, _ = history()
    digest = data.draw(st.sampled_from(sorted(world.log.envelopes)))
    honest = world.log.envelopes[digest]
    other = data.draw(st.sampled_from(sorted(world.log.envelopes)))
    signature = world.log.envelopes[other].signatures[0]
    if data.draw(st.booleans()):
        signature = msgspec.structs.replace(honest.signatures[0], sig=bytes(64))
    forged = msgspec.structs.replace(honest, signatures=(signature,))
    if forged == honest:
        return
    envelopes = {**world.log.envelopes, digest: forged}
    with pytest.raises(CustodyError):
        fold(world, envelopes)


def fold(world: World, envelopes: Mapping[str, Envelope]) -> None:
    state = State(world.deployment, world.genesis.digest)
    for entry in world.log.entries:
        step(state, entry, envelopes)
