"""What a shape matches, the parser accepts: a log that is glanced at is judged as strictly as one that is parsed."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from custody.documents.codec import Record
from custody.documents.dsse import Envelope, Signature
from custody.documents.glance import PAYLOAD, Opened, glance_open, read_envelope
from custody.documents.session import OpenSession
from custody.documents.shape import Narrow, shape
from custody.entries.entry import Entry
from custody.entries.glance import SHAPES, Glance, glance, read_entry
from custody.errors import FormatError
from custody.values import U64, Digest, Name
from tests.doubles import samples

INTENT: Final = samples.entries()["session-intent"].encode()
OUTCOME: Final = samples.entries()["session-outcome"].encode()
ENTRIES: Final = {"session-intent": INTENT, "session-outcome": OUTCOME}
OPEN: Final = samples.envelopes()["open"]
NASTY: Final = b'09afgzAFZ"\\,:{}[]/.+-_= \n\x00\x7f\x80\xff'


def parsed_entry(data: bytes) -> Glance | None:
    try:
        entry = Entry.parse(data)
    except FormatError:
        return None
    return Glance(entry.type, int(entry.time), entry.documents)


def glanced_entry(data: bytes) -> Glance | None:
    try:
        return glance(data)
    except FormatError:
        return None


def parsed_open(data: bytes) -> Opened | None:
    """What the parser says where exactly one party signed."""
    try:
        envelope = Envelope.parse(data)
        document, signature = envelope.document(OpenSession), envelope.only_signature()
    except FormatError:
        return None
    return Opened(envelope.payload, signature.keyid, signature.sig, document.workload.x5c)


def sound(data: bytes, kind: str) -> bool:
    """Require that what a shape matches is what the parser finds; tell whether it matched."""
    if SHAPES[kind].fullmatch(data) is None:
        return False
    assert glanced_entry(data) == parsed_entry(data)
    if parsed_entry(data) is not None:
        assert read_entry(data).encode() == data
    return True


def sound_open(data: bytes) -> bool:
    opened = glance_open(data)
    if opened is None:
        return False
    assert opened == parsed_open(data)
    read, parsed = read_envelope(data), Envelope.parse(data)
    assert (read, read.digest, read.envelope_digest) == (parsed, parsed.digest, parsed.envelope_digest)
    return True


def sealed(payload: bytes) -> bytes:
    return Envelope(payload=payload, payloadType=OPEN.payloadType, signatures=OPEN.signatures).encode()


def test_what_is_not_common_is_parsed_as_ever() -> None:
    for entry in samples.entries().values():
        assert read_entry(entry.encode()).encode() == entry.encode()
    for envelope in samples.envelopes().values():
        assert read_envelope(envelope.encode()) == envelope
    for data in (b"", INTENT + b" ", b" " * 70_000, OUTCOME[:-1]):
        with pytest.raises(FormatError):
            read_entry(data)
        with pytest.raises(FormatError):
            read_envelope(data)


def one_off(data: bytes) -> Iterator[bytes]:
    """Every way to leave out one byte, to write it twice, or to put another one in its place."""
    for place in range(len(data)):
        yield data[:place] + data[place + 1 :]
        yield data[:place] + data[place : place + 1] + data[place:]
        for byte in NASTY:
            yield data[:place] + bytes([byte]) + data[place + 1 :]


def test_what_a_log_is_full_of_is_glanced_at() -> None:
    assert sound(INTENT, "session-intent")
    assert sound(OUTCOME, "session-outcome")
    assert sound_open(OPEN.encode())


@pytest.mark.parametrize("kind", ENTRIES)
def test_one_byte_that_is_wrong_in_an_entry_is_as_wrong_at_a_glance(kind: str) -> None:
    matched = sum(sound(data, kind) for data in one_off(ENTRIES[kind]))
    assert matched > 1000, "other digests are good ones"


def test_one_byte_that_is_wrong_in_an_open_document_is_as_wrong_at_a_glance() -> None:
    assert sum(sound_open(sealed(data)) for data in one_off(OPEN.payload)) > 1000
    assert any(sound_open(data) for data in one_off(OPEN.encode()))


MEMBERS: Final[dict[str, list[Any]]] = {
    "actor": [{"credential": "0" * 64, "id": "person:" + "a" * length} for length in (0, 1, 513, 514)],
    "beneficiary": [
        *("spiffe://a", "spiffe://a/", "spiffe://a/b", "spiffe://a/..", "spiffe://a/../b", "spiffe://a/.b", "a/b"),
        *("spiffe://a/b/.", "spiffe://a/...", "spiffe://-a/b", "spiffe://a-/b", "spiffe://A/b", "spiffe://a//b"),
        *("spiffe://a/" + "b" * 501, "spiffe://a/" + "b" * 502, "spiffe://" + "a" * 256 + "/b", None),
    ],
    "broker": ["a" * 40, "a" * 41, "a-", "a.b-c", "1a", ""],
    "ceiling": ["0", "00", "01", "-0", "9" * 19, "18446744073709551615", "18446744073709551616", 1, None],
    "documents": [
        [],
        [{"document": "0" * 64, "envelope": "1" * 64, "kind": "open"}] * 2,
        [{"document": "0" * 64, "envelope": "1" * 64, "kind": "stop"}],
        [{"document": "0" * 64, "envelope": "1" * 63 + "G", "kind": "open"}],
    ],
    "files": [
        [],
        [{"first": "0", "last": "0"}] * 1000,
        [{"first": "0", "last": "0"}] * 1001,
        [{"first": "2", "last": "1"}],
    ],
    "id": ["0" * 31, "0" * 33],
    "mode": ["direct", "stream", None],
    "outcome": ["ok", "lost"],
    "reason": ["a" * 80, "a" * 81, "a-", "a-1", "1"],
    "schema": ["custody/entry/v2"],
    "served": [
        [],
        [{"bytes": "1", "file": "9"}, {"bytes": "1", "file": "10"}],
        [{"bytes": "1", "file": "10"}, {"bytes": "1", "file": "9"}],
        [{"bytes": "1", "file": "9"}, {"bytes": "1", "file": "9"}],
        [{"bytes": "1", "file": "9", "last": "10"}],
        [{"bytes": "1", "file": "9", "last": "9"}],
    ],
    "slot": [{"group": 0, "index": 1}],
    "time": [
        *("2028-02-28T00:00:00Z", "2028-02-29T00:00:00Z", "2027-02-29T00:00:00Z", "2027-04-31T00:00:00Z"),
        *("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z"),
        *("2027-01-01T24:00:00Z", "2027-01-01T23:60:00Z", "2027-01-01T23:59:60Z", "2027-13-01T00:00:00Z"),
        *("2027-00-01T00:00:00Z", "2027-01-00T00:00:00Z", "2027-01-32T00:00:00Z", "2027-1-01T00:00:00Z"),
    ],
    "type": ["session-intent", "session-outcome", "close", "?"],
    "version": ["a/b/c/d@1", "a/b/c/d/e@1", "a@", "@1", "a", "a@1/b", "a" * 198 + "@1", "a" * 199 + "@1", "A_b@1"],
    "unheard-of": ["x"],
}


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("name", MEMBERS)
def test_members_at_and_beyond_their_limits_are_judged_alike(kind: str, name: str) -> None:
    honest = json.loads(ENTRIES[kind])
    for value in MEMBERS[name]:
        data = json.dumps({**honest, name: value}, sort_keys=True, separators=(",", ":")).encode()
        assert glanced_entry(data) == parsed_entry(data)
    without = json.dumps({k: v for k, v in honest.items() if k != name}, sort_keys=True, separators=(",", ":")).encode()
    assert glanced_entry(without) == parsed_entry(without)


OPENED: Final[dict[str, list[Any]]] = {
    "bytes": ["0", "1", "9" * 19, "9" * 20],
    "deployment": ["a" * 128, "a" * 129, "a//b", "A"],
    "files": [
        [],
        [{"first": "1", "last": "0"}],
        [{"first": "0", "last": "1"}, {"first": "2", "last": "3"}],
        [{"first": "0", "last": "1"}, {"first": "3", "last": "3"}],
        [{"first": "3", "last": "3"}, {"first": "0", "last": "1"}],
    ],
    "workload": [
        {"actor": actor, "spiffe": "spiffe://a/b", "x5c": x5c}
        for actor, x5c in [
            *(("workload", ["IQ=="] * count) for count in (0, 1, 8, 9)),
            *(("workload", [text]) for text in ("IR==", "IQ", "IQ=", "IQ==\n", "", "I", "====", "\u0399Q==", "IQ-=")),
            *(("workload", ["A" * 4 * (size // 3) + "A" * (size % 3 and size % 3 + 1)]) for size in (16383, 16386)),
            ("workload", ["IQ==", 1]),
            ("person", ["IQ=="]),
        ]
    ],
    "xwing": ["IQ==", "A" * 1620 + "AA==", "x"],
}


@pytest.mark.parametrize("name", OPENED)
def test_members_of_an_open_document_at_and_beyond_their_limits_are_judged_alike(name: str) -> None:
    honest = json.loads(OPEN.payload)
    for value in OPENED[name]:
        sound_open(sealed(json.dumps({**honest, name: value}, sort_keys=True, separators=(",", ":")).encode()))
    assert sound_open(sealed(OPEN.payload))


def test_an_envelope_is_judged_alike() -> None:
    honest = OPEN.encode()
    signature = OPEN.only_signature()
    for size in (63, 64, 1024, 1025):
        other = Signature(keyid=signature.keyid, sig=bytes(size))
        data = Envelope(payload=OPEN.payload, payloadType=OPEN.payloadType, signatures=(other,)).encode()
        assert sound_open(data) == (parsed_open(data) is not None)
    assert not sound_open(honest.replace(b".open.", b".stop."))
    assert not sound_open(honest.replace(b'"signatures":[{', b'"signatures":[{"x":1,'))
    assert not sound_open(Envelope.parse(honest).encode() + b"\n")
    two = Signature(keyid="0" * 64, sig=signature.sig)
    both = Envelope(payload=OPEN.payload, payloadType=OPEN.payloadType, signatures=(signature, two)).encode()
    assert not sound_open(both), "two signatures are not of the common shape"


@pytest.mark.parametrize("kind", SHAPES)
@settings(max_examples=15)
@given(data=st.data())
def test_whatever_a_shape_of_entries_matches_is_an_entry(kind: str, data: st.DataObject) -> None:
    drawn = data.draw(st.from_regex(plain(SHAPES[kind]), fullmatch=True))
    if sound(drawn, kind):
        assert parsed_entry(drawn) is None or Entry.parse(drawn).encode() == drawn


@settings(max_examples=15)
@given(data=st.data())
def test_whatever_the_shape_of_open_documents_matches_is_one_once_its_base64_is(data: st.DataObject) -> None:
    drawn = data.draw(st.from_regex(plain(PAYLOAD), fullmatch=True))
    found = PAYLOAD.fullmatch(drawn)
    if found is None:
        return
    begin, end = found.span("workload_x5c")
    sound_open(sealed(drawn))
    whole = drawn[:begin] + b'["IQ=="]' + drawn[end:]
    assert sound_open(sealed(whole)) == (parsed_open(sealed(whole)) is not None)


def plain(pattern: "re.Pattern[bytes]") -> "re.Pattern[bytes]":
    """A shape without the lengths that are looked at ahead, which nobody could draw."""
    return re.compile(re.sub(rb'\(\?=\[\^"\]\{0,[0-9]+\}"\)|\(\?!\\\.[^)]*\)[^)]*\)\)', b"", pattern.pattern))


class Loose(Record, frozen=True, kw_only=True):
    """A record of which no shape can be told."""

    word: str


class Negative(Record, frozen=True, kw_only=True):
    """Its pattern might match a quote."""

    word: Annotated[str, Meta(pattern=r"\A[^a]\Z")]


class Endless(Record, frozen=True, kw_only=True):
    """Its list has no end."""

    names: tuple[Name, ...]


class Sparse(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing must stand there, and one default is like any other value."""

    digest: Digest | None = None
    count: U64 = U64(7)
    kind: Literal["a", "b"] | None = None


@pytest.mark.parametrize(
    ("kind", "narrow"),
    [
        (Loose, Narrow()),
        (Negative, Narrow()),
        (Endless, Narrow()),
        (Sparse, Narrow()),
        (Sparse, Narrow(may=("count",))),
        (Sparse, Narrow(must=("kind",), says={"kind": "c"})),
        (Endless, Narrow(most={"names": 1}, says={"names": "A"})),
    ],
)
def test_no_shape_is_better_than_one_that_matches_too_much(kind: type[Record], narrow: Narrow) -> None:
    with pytest.raises(TypeError):
        shape(kind, narrow)


def test_members_that_may_stand_there_do_not_disturb_the_commas() -> None:
    some = shape(Sparse, Narrow(must=("digest",), may=("kind",)))
    digest = b"0" * 64
    assert some.fullmatch(b'{"digest":"%b"}' % digest)
    assert some.fullmatch(b'{"digest":"%b","kind":"a"}' % digest)
    late = shape(Sparse, Narrow(must=("kind",), may=("digest",)))
    assert late.fullmatch(b'{"kind":"a"}')
    assert late.fullmatch(b'{"digest":"%b","kind":"a"}' % digest)
    assert not late.fullmatch(b'{"digest":"%b""kind":"a"}' % digest)
