"""What a page holds: bytes as the log has them, since the page verifies them itself, and what the audit found.

::

    {"schema": "custody/report/v1", "deployment", "genesis": hex, "made": time, "left_out": entries not here,
     "audit": the audit's report, "checkpoint": the note, "roots": [envelope, ...] from genesis on,
     "hashes": [base64, ...], "entries": [{"index", "text" (or "bytes": base64), "proof": [place in hashes, ...]}, ...],
     "documents": {envelope digest: envelope}}

A page holds the newest entries, and of the older ones those on which they build: trust roots, sealed versions, requests
with their decisions. A large document, and one whose signature a page would not judge, is left out.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from custody.audit.checkpoints import Claim, kept_path
from custody.audit.report import Report
from custody.audit.source import Source
from custody.audit.timeline import Timeline
from custody.audit.tree import Bundles
from custody.entries.entry import Entry
from custody.entries.stored import StoredDocuments
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.reader import TileReader
from custody.tlog.tiles import ENTRIES, TILE_WIDTH, tile_width
from custody.values import Time

__all__ = ["MOST", "page_data"]

MOST: Final = 10_000
"""Entries in a page: what a browser verifies while one waits."""

_KINDS: Final = frozenset(
    ["content", "decision", "hello", "release", "release-key", "request", "sharing", "stop", "terms"]
)
_MOST_DOCUMENT: Final = 1 << 16  # bytes
_MOST_DOCUMENTS: Final = 1 << 25  # bytes of all
_SESSION: Final = b'"type":"session-'
_UNREADABLE: Final = (FormatError, IntegrityError, NotFoundError)


@dataclass(slots=True)
class _Page:
    """The page as it is filled."""

    hashes: dict[bytes, int] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)
    room: int = _MOST_DOCUMENTS


def page_data(source: Source, report: Report, *, genesis: str, made: int, most: int = MOST) -> dict[str, Any]:
    """Return what a page of an audited log holds. ``made`` is now, ``most`` how many entries it may have.

    A log that does not verify makes a page too, which shows it: nothing is believed here, and nothing raised for it.
    """
    note, checkpoint = _checkpoint(source, report)
    size = checkpoint.size if checkpoint else 0
    timeline, roots, stored = Timeline(), [], StoredDocuments(source.fetch, size)
    for index, entry in _parsed(source, size, max(0, size - most)):
        timeline.add(index, entry)
        if entry.type == "root":
            found = [_document(stored, index, entry, place, None) for place in range(len(entry.documents))]
            roots += [text for text in found if text is not None]
    chosen = _chosen(timeline, size, most)
    page = _Page()
    if checkpoint:
        _fill(page, source, checkpoint, chosen)
    return {
        "audit": report.data(),
        "checkpoint": note,
        "deployment": report.deployment,
        "documents": page.documents,
        "entries": page.entries,
        "genesis": genesis,
        "hashes": [base64.b64encode(value).decode() for value in page.hashes],
        "left_out": size - len(page.entries),
        "made": str(Time(made)),
        "roots": roots,
        "schema": "custody/report/v1",
    }


def _checkpoint(source: Source, report: Report) -> tuple[str, Checkpoint | None]:
    """Return the checkpoint up to which the audit went, or what stands in its place."""
    note = ""
    for path in ("checkpoint", kept_path(report.size)):
        try:
            data = source.fetch(path)
            note = note or data.decode("utf-8", "replace")
            claim = Claim.read(path, data)
        except _UNREADABLE:
            continue
        if claim.checkpoint.size == report.size:
            return data.decode(), claim.checkpoint
    return note, None


def _chosen(timeline: Timeline, size: int, most: int) -> list[int]:
    """Return the newest entries, and the older ones that they build on; ``most`` at most."""
    begin = max(0, size - most)
    older: set[int] = set()
    if begin:
        older.update(timeline.roots)
        for asked in timeline.asked.values():
            if asked.indexes[-1] >= begin:
                events = [asked.granted, *asked.openings]
                older.update([asked.index, *(item.index for item in asked.decisions), *(e.index for e in events if e)])
                older.update([sealed.index] if (sealed := timeline.sealed.get(asked.version)) else [])
        older = set(sorted((index for index in older if index < begin), reverse=True)[: most // 2])
    return [*sorted(older), *range(begin + len(older), size)]


def _fill(page: _Page, source: Source, checkpoint: Checkpoint, chosen: Sequence[int]) -> None:
    try:
        reader: TileReader | None = TileReader(source.fetch, checkpoint)
    except _UNREADABLE:
        reader = None
    stored = StoredDocuments(source.fetch, checkpoint.size)
    for index, data in _raw(source, checkpoint.size, chosen):
        proof = [page.hashes.setdefault(value, len(page.hashes)) for value in _proof(reader, index)]
        page.entries.append({"index": index, "proof": proof} | _text(data))
        try:
            entry = Entry.parse(data)
        except FormatError:
            continue
        for place, reference in enumerate(entry.documents):
            if reference.kind in _KINDS and reference.envelope not in page.documents:
                text = _document(stored, index, entry, place, min(_MOST_DOCUMENT, page.room))
                if text is not None:
                    page.documents[reference.envelope] = text
                    page.room -= len(text)


def _proof(reader: TileReader | None, index: int) -> Iterable[bytes]:
    try:
        return reader.inclusion_proof(index) if reader else ()
    except _UNREADABLE:
        return ()


def _parsed(source: Source, size: int, newest: int) -> Iterator[tuple[int, Entry]]:
    """Yield the entries from the first on, as far as bundles can be read: a forged size may have no end.

    Sessions before the entry ``newest`` are passed over: nothing builds on them, and a large log is little else.
    """
    for first in range(0, size, TILE_WIDTH):
        found = list(_raw(source, size, range(first, min(first + TILE_WIDTH, size))))
        for index, data in found:
            if index >= newest or _SESSION not in data:
                with suppress(FormatError):
                    yield index, Entry.parse(data)
        if not found:
            return


def _raw(source: Source, size: int, chosen: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield entries as they are stored, authenticated by nothing; what cannot be read is passed over."""
    bundles, number = Bundles(source, Report()), -1
    read: Sequence[bytes] = ()
    for index in chosen:
        if index // TILE_WIDTH != number:
            number = index // TILE_WIDTH
            found = bundles.read(number, tile_width(ENTRIES, number, size))
            read = found[1] if found else ()
        if index % TILE_WIDTH < len(read):
            yield index, read[index % TILE_WIDTH]


def _text(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"bytes": base64.b64encode(data).decode()}


def _document(stored: StoredDocuments, index: int, entry: Entry, place: int, most: int | None) -> str | None:
    """Return a document of an entry as text, where it is there and not too large."""
    try:
        data = stored.read(index, entry.documents, place)
        return None if most is not None and len(data) > most else data.decode()
    except (*_UNREADABLE, UnicodeDecodeError):
        return None
