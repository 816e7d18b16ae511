"""One document, one byte string: everything that says the same in other bytes is refused, and so is everything else."""

import json

import pytest
import rfc8785

from custody.documents.actor import Actor, Person
from custody.documents.codec import Record, decode, encode
from custody.documents.dsse import Envelope
from custody.documents.hello import Hello
from custody.documents.request import Range
from custody.documents.sharing import Slot
from custody.entries.entry import Entry
from custody.errors import FormatError
from custody.values import U64, Text, Time
from tests.doubles import samples

ACTOR = '{"actor":"person","person":"alice"}'
NONCE = "0" * 64
HELLO = f'{{"actor":{ACTOR},"deployment":"a.example","issued":"2026-11-22T08:00:00Z","nonce":"{NONCE}"}}'.encode()


class Words(Record, frozen=True, kw_only=True):
    """A record with free text."""

    words: Text
    count: U64 = U64(0)
    at: Time = Time(0)
    data: bytes = b""


def altered(old: str, new: str) -> bytes:
    assert old.encode() in HELLO
    return HELLO.replace(old.encode(), new.encode(), 1)


def test_the_honest_bytes_of_all_these_are_accepted() -> None:
    assert Hello.parse(HELLO).encode() == HELLO


SAME = {
    "a space": altered(":", ": "),
    "a space in front": b" " + HELLO,
    "a newline behind": HELLO + b"\n",
    "a byte order mark": b"\xef\xbb\xbf" + HELLO,
    "a tab": altered(",", ",\t"),
    "an escaped letter": altered('"alice"', '"\\u0061lice"'),
    "an escaped letter in a key": altered('"nonce"', '"n\\u006fnce"'),
    "an escaped slash": altered("a.example", "a.example\\/b"),
    "keys in another order": json.dumps(dict(reversed(json.loads(HELLO).items())), separators=(",", ":")).encode(),
    "a key twice": altered('"issued"', '"deployment":"a.example","issued"'),
    "a key twice with two values": altered('"issued"', '"deployment":"b.example","issued"'),
    "a key twice in an inner object": altered('"person":"alice"', '"person":"alice","person":"alice"'),
}
OTHER = {
    "an unknown key": altered('"issued"', '"hint":"","issued"'),
    "an unknown key in an inner object": altered('"person":"alice"', '"person":"alice","role":"admin"'),
    "a missing key": altered(',"deployment":"a.example"', ""),
    "a null": altered('"a.example"', "null"),
    "a number for a string": altered('"a.example"', "1"),
    "a list for a string": altered('"a.example"', '["a.example"]'),
    "a time with a fraction": altered("08:00:00Z", "08:00:00.0Z"),
    "a time with an offset": altered("08:00:00Z", "08:00:00+00:00"),
    "a time as a number": altered('"2026-11-22T08:00:00Z"', "1795334400"),
    "an actor of another kind": altered('"actor":"person"', '"actor":"robot"'),
    "an actor of a kind that may not greet": altered(
        '{"actor":"person","person":"alice"}', '{"actor":"broker","broker":"broker-1"}'
    ),
    "an actor of no kind": altered('"actor":"person",', ""),
    "a capital digest": altered("0" * 64, "A" * 64),
    "bytes behind": HELLO + b"{}",
    "a second document": HELLO + HELLO,
    "a cut": HELLO[:-1],
    "nothing": b"",
    "another type": b"[]",
    "null": b"null",
    "no UTF-8": altered("alice", "al\x00ice").replace(b"\x00", b"\xff"),
    "an overlong form": altered("alice", "al\x00ice").replace(b"\x00", b"\xc0\x80"),
    "a raw NUL": altered("alice", "al\x00ice"),
    "half a surrogate pair": altered("alice", "al\\ud800ice"),
    "the bytes of half a surrogate pair": altered("alice", "al\x00ice").replace(b"\x00", b"\xed\xa0\x80"),
    "a full-width letter": altered("alice", "\uff41lice"),
    "deep nesting": b'{"actor":' * 100_000,
    "deep nesting in an unknown key": b'{"x":' + b"[" * 1_000_000,
    "a deep list": b"[" * 1_000_000,
    "a huge number": b'{"deployment":' + b"9" * 1_000_000,
    "a huge string": altered("alice", "a" * 10_000_000),
    "NaN": altered('"a.example"', "NaN"),
}


@pytest.mark.parametrize("name", [*SAME, *OTHER])
def test_refused_as_a_hello(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        Hello.parse({**SAME, **OTHER}[name])
    assert caught.value.message.startswith("hello: ")
    assert len(caught.value.message) < 400
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SAME["a key twice"], "hello: duplicate key 'deployment'"),
        (SAME["a key twice in an inner object"], "hello: duplicate key 'person'"),
        (SAME["a space"], "hello: not canonical JSON"),
        (OTHER["an unknown key"], "hello: Object contains unknown field `hint`"),
        (OTHER["a missing key"], "hello: Object missing required field `deployment`"),
        (OTHER["a time as a number"], "hello: expected a string, got int - at `issued`"),
        (OTHER["a capital digest"], "hello: Expected `str` of the required form - at `nonce`"),
        (OTHER["an actor of another kind"], "hello: Invalid value 'robot' - at `actor.actor`"),
        (OTHER["no UTF-8"], "hello: text that is not UTF-8"),
    ],
)
def test_a_refusal_names_the_field(data: bytes, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        Hello.parse(data)
    assert caught.value.message.startswith(message)


def test_a_refusal_that_quotes_the_input_cannot_redraw_a_screen() -> None:
    data = altered('"issued"', '"\\u001b[2J\\u202e","issued"').replace(b',"issued"', b':1,"issued"', 1)
    with pytest.raises(FormatError) as caught:
        Hello.parse(data)
    assert "\\x1b[2J\\u202e" in caught.value.message


NUMBERS = [
    "1",
    "1.0",
    '"+1"',
    '"01"',
    '"1.0"',
    '"1e0"',
    '" 1"',
    '"-0"',
    '"-1"',
    '"\uff11"',
    '"0x1"',
    '""',
    "true",
    "null",
]


@pytest.mark.parametrize(
    "number", [*NUMBERS, '"18446744073709551616"', '"' + "9" * 100_000 + '"'], ids=lambda t: ascii(t)[:16]
)
def test_refused_as_a_u64(number: str) -> None:
    assert decode(b'{"first":"1","last":"1"}', Range, "range") == Range(first=U64(1), last=U64(1))
    with pytest.raises(FormatError):
        decode(f'{{"first":{number},"last":"1"}}'.encode(), Range, "range")


@pytest.mark.parametrize(
    "number", ["0.0", "1.5", "1e1", "-0", "-1", '"1"', "00", "01", "16", "1" * 5000, "true", "null"]
)
def test_refused_as_a_small_number(number: str) -> None:
    assert decode(b'{"group":0,"index":1}', Slot, "slot") == Slot(group=0, index=1)
    with pytest.raises(FormatError):
        decode(f'{{"group":{number},"index":1}}'.encode(), Slot, "slot")


@pytest.mark.parametrize(
    "encoded", ["IQ=", "IQ", "IR==", "IQ==\\n", " IQ==", "I Q==", "IQ==IQ==", "I_==", "-Q==", "\u0399Q==", "=", "===="]
)
def test_refused_as_base64(encoded: str) -> None:
    honest = '{"at":"1970-01-01T00:00:00Z","count":"0","data":"IQ==","words":""}'
    assert decode(honest.encode(), Words, "words").data == b"!"
    with pytest.raises(FormatError):
        decode(honest.replace("IQ==", encoded).encode(), Words, "words")


HIDDEN = [
    "\\u0000",
    "\\n",
    "\\t",
    "\\b",
    "\\f",
    "\\r",
    "\\u001b[2J",
    "\x7f",
    "\x9b",
    "\u202e",
    "\u200b",
    "\xad",
    "\u2028",
    "e\u0301",
]


@pytest.mark.parametrize("text", HIDDEN, ids=ascii)
@pytest.mark.parametrize("around", ["{}", "a{}b", "\\\\{}", '\\"{}', '\\\\\\"{}\\\\'])
def test_text_that_hides_or_moves_is_refused_wherever_it_stands(text: str, around: str) -> None:
    honest = '{"at":"1970-01-01T00:00:00Z","count":"0","data":"","words":"%s"}'
    plain = honest % around.format("n")
    assert decode(plain.encode(), Words, "words").count == 0
    with pytest.raises(FormatError):
        decode((honest % around.format(text)).encode(), Words, "words")


def test_backslashes_and_quotes_are_plain_text() -> None:
    for text in ("\\", '"', "\\n", "\\\\n", '\\"', "C:\\new\\table", "\\u0000", '\\\\"\\'):
        data = encode(Words(words=text))
        assert decode(data, Words, "words").words == text


@pytest.mark.parametrize("text", ["\\" * 100_000, '\\"' * 50_000, "\\\\n" * 33_000])
def test_text_of_backslashes_is_checked_in_linear_time(text: str) -> None:
    class Long(Record, frozen=True, kw_only=True):
        words: str

    assert decode(encode(Long(words=text)), Long, "long").words == text


def test_text_that_utf8_cannot_say_is_not_encoded() -> None:
    with pytest.raises(FormatError, match="surrogate"):
        encode(Words(words="\ud800"))


def test_what_has_no_canonical_form_is_not_encoded() -> None:
    with pytest.raises(TypeError, match="no canonical form for complex"):
        encode(Words(words=1j))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", samples.KINDS)
def test_the_encoding_of_a_document_is_rfc8785(kind: str) -> None:
    payload = samples.envelopes()[kind].payload
    assert rfc8785.dumps(json.loads(payload)) == payload
    assert samples.KINDS[kind].parse(payload).encode() == payload


def test_the_encoding_of_envelopes_entries_and_manifests_is_rfc8785() -> None:
    stored = [envelope.encode() for envelope in samples.envelopes().values()]
    stored += [entry.encode() for entry in samples.entries().values()]
    stored.append(samples.manifest().encode())
    for data in stored:
        assert rfc8785.dumps(json.loads(data)) == data


def test_records_are_immutable_and_equal_by_value() -> None:
    first, second = Hello.parse(HELLO), Hello.parse(HELLO)
    assert first == second
    assert hash(first) == hash(second)
    with pytest.raises(AttributeError):
        first.nonce = "1" * 64  # type: ignore[misc]
    assert isinstance(first.actor, Actor)
    assert first.actor == Person(person="alice")


def test_an_entry_is_no_envelope_and_an_envelope_no_entry() -> None:
    with pytest.raises(FormatError):
        Envelope.parse(samples.entries()["hello"].encode())
    with pytest.raises(FormatError):
        Entry.parse(samples.envelopes()["hello"].encode())
