"""The worked values of documents and entries, ``proto/spec/vectors/documents.json``: computed again, the same bytes.

For whoever writes a client or an auditor in another language: one whole history, every document and every entry in it,
and bytes that must be refused, each for one cause. All keys are SHAKE-256 of a label and nobody's secret.

After a deliberate change: ``CUSTODY_WRITE_VECTORS=1 pytest tests/unit/documents/test_worked_values.py``; read the diff.
"""

import base64
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from custody.documents.dsse import Envelope
from custody.entries.entry import Entry, EntryType
from custody.errors import FormatError
from custody.rules.state import State
from custody.rules.step import step
from custody.values import U64
from tests.doubles import samples
from tests.doubles.world import HOUR, World

LONG = 4096
ACTOR = b'"actor":"person","person":"alice"'
ABOUT = (
    "A history from genesis to three closed leases, the last in direct mode. documents: the payload is what is signed "
    "inside the PAE; digest is SHA-256 of the PAE, envelope_digest that of the envelope's bytes. entries: leaf is "
    "SHA-256(00 || entry). refused: bytes (base64) that must be refused as a document of that kind, an envelope or an "
    "entry. Texts are ASCII."
)


@cache
def history() -> World:
    world = World(b"worked values")
    world.append("system", reason="broker-start", actor=world.party("broker-1"))
    world.log_hello(world.hello())
    case = world.opened("frontier/llm@2026-11")
    session = case.begin()
    case.end(session, (0, 700), (1, 100))
    case.close("broker-lost")
    case.key = case.make_key()
    case.log_key(case.key)
    case.log_stop(case.stop("revoke", "carol"), "carol")
    case.close("revoked")
    other = world.opened("demo/tiny@1")
    job = world.job()
    other.log_stop(other.stop("return", job), job)
    other.close("returned")
    direct = world.opened("demo/tiny@1", mode="direct", sessions=U64(1), bytes=U64(5700))
    session = direct.begin(job, xwing=world.devices["alice"].xwing, bytes=U64(5700))
    direct.end(session, (0, 700), (1, 5000))
    direct.close("budget")
    world.tick(HOUR)
    world.replace_root(policy="e0" * 32)
    return world


def documents(world: World) -> list[dict[str, str]]:
    found = []
    for envelope in world.log.envelopes.values():
        item = {
            "kind": envelope.payloadType.removeprefix("application/vnd.custody.").removesuffix(".v1+json"),
            "digest": envelope.digest,
            "envelope_digest": envelope.envelope_digest,
            "envelope": envelope.encode().decode("ascii"),
        }
        if len(envelope.payload) < LONG:
            item |= {"payload": envelope.payload.decode("ascii"), "pae": envelope.signed_bytes.decode("ascii")}
        found.append(item)
    return found


def device_keys(world: World) -> dict[str, dict[str, str]]:
    return {
        name: {
            "ed25519_seed": bytes(device.seed.view).hex(),
            "xwing_seed": bytes(device.xwing_seed.view).hex(),
            "key_id": device.key_id,
        }
        for name, device in world.devices.items()
    }


def refused(world: World) -> list[dict[str, str]]:
    hello = world.log.envelopes[world.log.entries[2].documents[0].envelope]
    payload, envelope, entry = hello.payload, hello.encode(), world.log.entries[2].encode()
    (signature,) = json.loads(envelope)["signatures"]
    one = json.dumps(signature, separators=(",", ":")).encode()
    deployment = b'"deployment":"custody.example.org/log"'
    rows = [
        ("hello", "white space", payload.replace(b":", b": ", 1)),
        ("hello", "bytes behind", payload + b"\n"),
        ("hello", "a byte order mark", b"\xef\xbb\xbf" + payload),
        ("hello", "an escape that is not needed", payload.replace(b'"alice"', b'"\\u0061lice"')),
        ("hello", "a duplicate key", payload.replace(deployment, deployment + b"," + deployment)),
        ("hello", "an unknown key", payload.replace(b'"issued"', b'"hint":"","issued"')),
        ("hello", "a missing key", payload.replace(deployment + b",", b"")),
        ("hello", "keys in another order", payload.replace(ACTOR, b'"person":"alice","actor":"person"')),
        ("hello", "a time with an offset", payload.replace(b'Z","nonce"', b'+00:00","nonce"')),
        ("hello", "a time with a fraction", payload.replace(b'Z","nonce"', b'.0Z","nonce"')),
        ("hello", "a capital in hex", payload[:-3] + b"A" + payload[-2:]),
        ("hello", "a digit too few", payload[:-3] + payload[-2:]),
        ("hello", "a letter that looks like another", payload.replace(b'"alice"', '"\u0430lice"'.encode())),
        ("hello", "no UTF-8", payload.replace(b'"alice"', b'"\xffalice"')),
        ("envelope", "a payload type of nobody", envelope.replace(b"vnd.custody.hello", b"vnd.example.hello")),
        ("envelope", "base64 without padding", envelope.replace(b'=="}]', b'"}]')),
        ("envelope", "base64 with bits left over", _left_over(envelope)),
        ("envelope", "two signatures under one key id", envelope.replace(one, one + b"," + one)),
        ("envelope", "no signature", envelope.replace(one, b"")),
        ("envelope", "an unknown key", envelope.replace(b'"signatures"', b'"signature":"","signatures"')),
        ("entry", "a null for a field that is absent", entry.replace(b',"policy"', b',"parent":null,"policy"')),
        ("entry", "a field of another type of entry", entry.replace(b',"policy"', b',"outcome":"ok","policy"')),
        ("entry", "a missing field", entry[: entry.index(b'"actor"')] + entry[entry.index(b'"broker"') :]),
        ("entry", "another schema", entry.replace(b"custody/entry/v1", b"custody/entry/v2")),
    ]
    rows += [
        ("request", f"the number {text}", _request(world).replace(b'"sessions":"3"', f'"sessions":{text}'.encode()))
        for text in ("3", '"03"', '"+3"', '"3.0"', '"\uff13"', '"18446744073709551616"')
    ]
    rows += [
        ("request", f"text with {what}", _request(world).replace(b"nightly evaluation", text.encode()))
        for what, text in (
            ("an ANSI escape", "\\u001b[2J"),
            ("a raw delete", "\x7f"),
            ("a right-to-left override", "\u202e"),
            ("a zero-width space", "\u200b"),
            ("two spellings of one letter", "u\u0308"),
        )
    ]
    return [
        {"as": kind, "because": because, "bytes": base64.b64encode(data).decode("ascii")}
        for kind, because, data in rows
    ]


def _request(world: World) -> bytes:
    return next(item.payload for item in world.log.envelopes.values() if item.payloadType.endswith("request.v1+json"))


def _left_over(envelope: bytes) -> bytes:
    """The last letter before the padding of a signature stands for bits that nobody reads."""
    place = envelope.index(b'=="}]')
    letter = envelope[place - 1 : place]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return envelope[: place - 1] + alphabet[alphabet.index(letter) + 1 :][:1] + envelope[place:]


def computed() -> dict[str, Any]:
    world = history()
    return {
        "about": ABOUT,
        "deployment": world.deployment,
        "genesis": world.genesis.digest,
        "keys": device_keys(world),
        "documents": documents(world),
        "entries": [
            {"type": entry.type, "entry": entry.encode().decode("ascii"), "leaf": entry.leaf}
            for entry in world.log.entries
        ],
        "refused": refused(world),
    }


@pytest.fixture
def stored(repository: Path) -> dict[str, Any]:
    path = repository / "proto/spec/vectors/documents.json"
    if os.environ.get("CUSTODY_WRITE_VECTORS"):
        path.write_text(json.dumps(computed(), indent=1) + "\n")
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_the_worked_values_are_what_is_computed(stored: dict[str, Any]) -> None:
    assert stored == computed()


def test_the_worked_values_have_every_kind_of_document_and_entry(stored: dict[str, Any]) -> None:
    assert {item["kind"] for item in stored["documents"]} == set(samples.KINDS)
    assert {item["type"] for item in stored["entries"]} == set(get_args(EntryType))


def test_the_worked_history_keeps_every_rule(stored: dict[str, Any]) -> None:
    state = State(stored["deployment"], stored["genesis"])
    envelopes = {item["envelope_digest"]: Envelope.parse(item["envelope"].encode()) for item in stored["documents"]}
    for item in stored["entries"]:
        step(state, Entry.parse(item["entry"].encode()), envelopes)
    assert [found.reason for found in state.requests.values()] == ["revoked", "returned", "budget"]
    assert state.root.epoch == 1


def test_each_refused_value_is_refused_for_what_it_is(stored: dict[str, Any]) -> None:
    parsers: dict[str, Callable[[bytes], object]] = {kind: cls.parse for kind, cls in samples.KINDS.items()}
    parsers |= {"envelope": Envelope.parse, "entry": Entry.parse}
    assert len({(item["as"], item["because"]) for item in stored["refused"]}) == len(stored["refused"]) == 35
    for item in stored["refused"]:
        with pytest.raises(FormatError):
            parsers[item["as"]](base64.b64decode(item["bytes"]))
