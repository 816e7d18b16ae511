"""How an entry is shown to people, field by field."""

import json

from custody.audit.summary import what, who
from custody.cli.output import Output, Rows
from custody.documents.codec import encode
from custody.entries.entry import Entry

__all__ = ["show_entry"]


def show_entry(output: Output, index: int, entry: Entry, leaf: bytes) -> None:
    """Show every field of an entry, the ones for people first."""
    data = json.loads(encode(entry))
    facts = [("what", f"{who(entry)} {what(entry)}"), ("time", data.pop("time")), ("leaf hash", leaf.hex())]
    if parent := data.pop("parent", None):
        facts.append(("follows from", f"entry {parent['index']}, leaf hash {parent['leaf']}"))
    if actor := data.pop("actor", None):
        facts.append(("actor", f"{actor['id']}, credential {actor['credential']}"))
    facts += [
        (f"document {item['kind']}", f"{item['document']}, envelope {item['envelope']}")
        for item in data.pop("documents", ())
    ]
    for label, value in data.items():
        facts += _flat(label.replace("_", " "), value)
    output.fields(facts, f"Entry {index}: {data['type']}")


def _flat(label: str, value: object) -> Rows:
    """Write a JSON value as rows; a list of plain values is one."""
    if isinstance(value, dict):
        return [(label, ", ".join(f"{name} {item}" for name, item in value.items()))]
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return [(label, ", ".join(value))]
        return [row for item in value for row in _flat(label, item)]
    return [(label, str(value))]
