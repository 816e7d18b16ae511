"""What an audit needs of an entry before it judges it, without decoding those that stand in a log by the million.

The intents and outcomes of sessions are matched by their shape (``custody.documents.shape``); every other entry, and
each that is not of the common shape, is parsed. Either way those bytes are refused that ``Entry.parse`` refuses.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from custody.documents.shape import Narrow, shape
from custody.entries.entry import FIELDS, MAX_ENTRY, DocumentRef, Entry
from custody.values import Time

__all__ = ["SHAPES", "Glance", "glance", "read_entry"]


class Glance(NamedTuple):
    """An entry that is well-formed: its type and time (seconds), and the documents that it names."""

    type: str
    time: int
    documents: Sequence[DocumentRef]


def _shape(kind: str, most: Mapping[str, int], *caught: str) -> Narrow:
    must, may = FIELDS[kind]
    return Narrow(says={"type": kind, "documents.kind": "open"}, must=must, may=may, most=most, caught=caught)


# One document, as the rule asks for.
SHAPES: Final = {
    kind: shape(Entry, narrow)
    for kind, narrow in (
        (
            "session-intent",
            _shape("session-intent", {"documents": 1}, "time", "documents.document", "documents.envelope"),
        ),
        ("session-outcome", _shape("session-outcome", {}, "time")),
    )
}
"""By entry type."""

_FILE: Final = re.compile(rb'"file":"([0-9]+)"')
_INTENT: Final = SHAPES["session-intent"]
_OUTCOME: Final = SHAPES["session-outcome"]


def glance(data: bytes) -> Glance:
    """Judge the form of an entry. Raises ``FormatError`` as ``Entry.parse`` does."""
    found = _common(data)
    if found is None:
        entry = Entry.parse(data)
        return Glance(entry.type, int(entry.time), entry.documents)
    if found.re is _OUTCOME:
        return Glance("session-outcome", _time(found["time"]), ())
    document, envelope = found["documents_document"].decode(), found["documents_envelope"].decode()
    reference = DocumentRef(kind="open", document=document, envelope=envelope)
    return Glance("session-intent", _time(found["time"]), (reference,))


def read_entry(data: bytes) -> Entry:
    """Parse as ``Entry.parse`` does, sooner where it can: then what is returned is of a subclass."""
    return Entry.parse(data) if _common(data) is None else Entry.recall(data)


def _common(data: bytes) -> "re.Match[bytes] | None":
    """Return what makes an entry one of the common shapes, if it is."""
    if len(data) > MAX_ENTRY:
        return None
    if data.endswith(b'"session-outcome"}'):
        found = _OUTCOME.fullmatch(data)
        return found if found and _ascends(data) else None
    return _INTENT.fullmatch(data) if b'"type":"session-intent"' in data else None


def _ascends(outcome: bytes) -> bool:
    """Tell whether the files served ascend. Stretches of files (``last``) are not of the common shape."""
    files = [int(file) for file in _FILE.findall(outcome)]
    return all(file < after for file, after in pairwise(files))


@lru_cache(maxsize=4096)  # entries of a log come by the thousand in one second
def _time(text: bytes) -> int:
    return int(Time.parse(text.decode()))
