"""The worked log, ``proto/spec/vectors/log.json``: made again, the same bytes; audited, and the same findings.

For whoever writes an auditor in another language: every object of one published log, what an audit of it says, and what
it says after one change. All keys are SHAKE-256 of a label and nobody's secret.

After a deliberate change: ``CUSTODY_WRITE_VECTORS=1 pytest tests/unit/audit/test_worked_log.py``; read the diff.
"""

import base64
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, leaf_hash
from custody.tlog.tiles import parse_bundle
from tests.doubles.case import Case
from tests.doubles.world import HOUR, World
from tests.unit.audit.published import Published, changed, forced
from tests.unit.rules.test_honest_history import whole

FILE = Path(__file__).parents[3] / "proto/spec/vectors/log.json"
ABOUT = (
    "A log from genesis to two closed leases, published in a checkpoint after each second in which something was "
    "logged. objects: every file below the log's prefix, text where it is ASCII, base64 where it is not. entries: the "
    "leaf bytes. report: what an audit says that was told deployment and genesis. changed: objects to replace or "
    "(null) to remove, one cause each, and the findings: code, entry or null, and, for what may be wrong only because "
    "an earlier entry is, that entry. Texts of findings are not fixed."
)

Objects = Mapping[str, bytes]
Change = Callable[[Published], dict[str, bytes | None]]


def publish(world: World) -> Published:
    log = Published(world)
    log.publish([])
    for _, entries in groupby(world.log.entries, key=lambda entry: entry.time):
        log.publish(entries, time=world.log.entries[log.tree.size].time)
    return log


@cache
def worked() -> Published:
    return publish(whole())


def index_of(log: Published, kind: str) -> int:
    return next(index for index, entry in enumerate(log.world.log.entries) if entry.type == kind)


def with_document(kind: str, change: Callable[[Published], bytes | None]) -> Change:
    """The document of the first entry of a type stands otherwise in every bundle, or in none."""

    def changed(log: Published) -> dict[str, bytes | None]:
        digest = log.world.log.entries[index_of(log, kind)].documents[0].envelope
        other = Published(log.world, dict(log.files))
        other.change_document(digest, lambda _: change(log))
        return {path: data for path, data in other.files.items() if log.files[path] != data}

    return changed


def hello_of(log: Published) -> bytes:
    entry = log.world.log.entries[index_of(log, "hello")]
    return log.world.log.envelopes[entry.documents[0].envelope].encode()


def bundle_of_documents(log: Published) -> str:
    return f"documents/000.p/{log.tree.size}"


def flipped(path: str, place: int) -> Change:
    def change(log: Published) -> dict[str, bytes | None]:
        data = bytearray(log.files[path])
        data[place] ^= 1
        return {path: bytes(data)}

    return change


def altered(log: Published) -> dict[str, bytes | None]:
    """The grant says another id, in the bundle only."""
    size, index = log.tree.size, index_of(log, "grant")
    path = f"tile/entries/000.p/{size}"
    entry = log.entries[index]
    place = log.files[path].index(entry) + entry.index(b'"id":"') + 6
    return flipped(path, place)(log)


def one_witness(log: Published) -> dict[str, bytes | None]:
    lines = log.files["checkpoint"].split(b"\n")
    note = b"\n".join([*lines[:-2], b""])
    return {"checkpoint": note, f"checkpoints/{log.tree.size}": note}


def no_log_key(log: Published) -> dict[str, bytes | None]:
    name = log.world.log_key.vkey.name.encode()
    lines = [line for line in log.files["checkpoint"].split(b"\n") if not line.startswith("— ".encode() + name + b" ")]
    note = b"\n".join(lines)
    return {"checkpoint": note, f"checkpoints/{log.tree.size}": note}


def forked(log: Published) -> dict[str, bytes | None]:
    """An earlier checkpoint, with all signatures, of another history."""
    size = sorted(int(path.partition("/")[2]) for path in log.names("checkpoints/"))[-2]
    other = MemoryTree([leaf_hash(entry) for entry in [*log.entries[: size - 1], b"another entry"]])
    return {f"checkpoints/{size}": log.note(size, time=int(log.world.log.entries[size - 1].time), root=other.root())}


def old_shown(log: Published) -> dict[str, bytes | None]:
    """The newest checkpoint is gone: no finding, for nobody can tell it from a log that had not grown."""
    sizes = sorted(int(path.partition("/")[2]) for path in log.names("checkpoints/"))
    return {f"checkpoints/{sizes[-1]}": None, "checkpoint": log.files[f"checkpoints/{sizes[-2]}"]}


def rewritten(kind: str, **fields: Any) -> Change:
    """The broker logs something else, and has it signed and witnessed."""

    def change(log: Published) -> dict[str, bytes | None]:
        world = log.world
        index = index_of(log, kind)
        entries = list(world.log.entries)
        entries[index] = changed(entries[index], **fields)
        other = Published(world)
        other.publish([])
        for _, group in groupby(entries, key=lambda entry: entry.time):
            other.publish(group, time=entries[other.tree.size].time)
        return {path: data for path, data in other.files.items() if log.files.get(path) != data}

    return change


def late_session(log: Published) -> dict[str, bytes | None]:
    """A session whose certificate had expired when witnesses saw it: a history of its own."""
    world = World()
    case: Case = world.opened()
    other = publish(world)
    forced(world, lambda: case.begin(world.job()))
    other.publish(time=world.now + 2 * HOUR)
    removed: dict[str, bytes | None] = {path: None for path in log.files if path not in other.files}
    return removed | {path: data for path, data in other.files.items() if log.files.get(path) != data}


CHANGES: dict[str, Change] = {
    "an entry is altered in its bundle": altered,
    "a document is missing": with_document("decision", lambda _: None),
    "a document is another one": with_document("decision", hello_of),
    "a bundle of documents is missing": lambda log: {bundle_of_documents(log): None},
    "a bundle of documents ends early": lambda log: {
        bundle_of_documents(log): log.files[bundle_of_documents(log)][:-1]
    },
    "a hash tile is forged": lambda log: flipped(f"tile/0/000.p/{log.tree.size}", 5 * 32)(log),
    "the newest checkpoint has one witness of two": one_witness,
    "the newest checkpoint lacks the log's signature": no_log_key,
    "an earlier checkpoint is of another history": forked,
    "an earlier checkpoint is shown as the newest": old_shown,
    "a grant names a person who did not approve": rewritten("grant", persons=("alice", "carol")),
    "a session states a later time than its witnesses": late_session,
}


def text_of(data: bytes) -> dict[str, str]:
    return {"text": data.decode()} if data.isascii() else {"base64": base64.b64encode(data).decode()}


def bytes_of(item: dict[str, str]) -> bytes:
    return item["text"].encode() if "text" in item else base64.b64decode(item["base64"])


def findings(log: Published) -> list[dict[str, Any]]:
    report = log.audit()
    return [{"code": item.code, "entry": item.entry, "follows": item.follows} for item in report.findings]


def applied(log: Published, change: Mapping[str, bytes | None]) -> Published:
    files = {path: data for path, data in log.files.items() if change.get(path, b"") is not None}
    return Published(log.world, files | {path: data for path, data in change.items() if data is not None})


def computed() -> dict[str, Any]:
    log = worked()
    rows = []
    for cause, change in CHANGES.items():
        made = change(log)
        rows.append(
            {
                "cause": cause,
                "objects": {path: None if data is None else text_of(data) for path, data in sorted(made.items())},
                "findings": findings(applied(log, made)),
            }
        )
    report = log.audit().data()
    return {
        "comment": ABOUT,
        "deployment": log.world.deployment,
        "genesis": log.world.genesis.digest,
        "report": {
            name: report[name]
            for name in ("checkpoints", "cosigned", "epoch", "findings", "open", "root", "size", "trust_root", "types")
        },
        "entries": [entry.decode() for entry in log.entries],
        "objects": {path: text_of(data) for path, data in sorted(log.files.items())},
        "changed": rows,
    }


def stored() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return made


def test_the_worked_log_is_made_again_with_the_same_bytes() -> None:
    if os.environ.get("CUSTODY_WRITE_VECTORS"):
        FILE.write_text(json.dumps(computed(), indent=1, sort_keys=False) + "\n", encoding="utf-8")
    assert computed() == stored()


def test_the_worked_log_is_good_and_big_enough() -> None:
    report = stored()["report"]
    assert report["findings"] == []
    assert report["size"] == len(stored()["entries"]) > 36
    assert len(report["types"]) == 15


@pytest.mark.parametrize("cause", CHANGES)
def test_each_change_has_its_findings_and_no_other(cause: str) -> None:
    data = stored()
    row = next(item for item in data["changed"] if item["cause"] == cause)
    objects = {path: bytes_of(item) for path, item in data["objects"].items()}
    change = {path: None if item is None else bytes_of(item) for path, item in row["objects"].items()}
    log = applied(Published(worked().world, objects), change)
    assert findings(log) == row["findings"]
    assert bool(row["findings"]) == (cause != "an earlier checkpoint is shown as the newest")


def test_the_objects_are_what_they_are_called() -> None:
    data = stored()
    newest = Checkpoint.parse(bytes_of(data["objects"]["checkpoint"]).partition(b"\n\n")[0] + b"\n")
    bundle = bytes_of(data["objects"][f"tile/entries/000.p/{newest.size}"])
    entries = parse_bundle(bundle, newest.size)
    assert [entry.decode() for entry in entries] == data["entries"]
    assert MemoryTree([leaf_hash(entry) for entry in entries]).root() == newest.root
