"""Puts questions to a log: verified first, unless that is not wanted; then its entries are read and told.

What is read is what was verified: the tree whose root the audit made. So nothing can be put between.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from custody.adapters import small_files
from custody.app.auditing import Audit, audit, view_log
from custody.audit.difference import Difference, difference
from custody.audit.questions import Said, Window, asked_data, concerning, decisions_of
from custody.audit.reading import Entries
from custody.audit.report import Report
from custody.audit.source import Source
from custody.audit.summary import who
from custody.audit.timeline import Asked, Timeline
from custody.documents.dsse import Document
from custody.documents.request import Request
from custody.documents.terms import Terms
from custody.entries.entry import Entry
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import MAX_NOTE_SIZE, Note

__all__ = ["Known", "added", "decided", "know", "of_identity", "of_version"]

_D = TypeVar("_D", bound=Document)


@dataclass(frozen=True, slots=True)
class Known:
    """A log that can be asked. Without a ``report`` only its hashes and its checkpoint were verified, no rule."""

    entries: Entries
    report: Report | None

    @property
    def findings(self) -> dict[int, set[str]]:
        """The codes of the audit's findings by entry."""
        found: dict[int, set[str]] = {}
        for finding in self.report.findings if self.report else ():
            if finding.entry is not None:
                found.setdefault(finding.entry, set()).add(finding.code)
        return found

    def parsed(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, Entry]]:
        """Yield the entries that are entries; what is none is a finding of the audit."""
        for index, data in self.entries.between(begin, self.entries.size if end is None else end):
            try:
                yield index, Entry.parse(data)
            except FormatError:
                continue

    def timeline(self, wanted: Callable[[Entry], bool] | None = None) -> Timeline:
        """Read all entries."""
        timeline = Timeline(wanted)
        for index, entry in self.parsed():
            timeline.add(index, entry)
        return timeline

    def said(self, asked: Asked) -> Said:
        """Read what the documents of a request say, as far as they are there and parse."""
        return Said(self._document(asked, Request), self._document(asked, Terms))

    def _document(self, asked: Asked, kind: type[_D]) -> _D | None:
        try:
            return next(
                (
                    found.document(kind)
                    for found in self.entries.documents(asked.index, asked.entry)
                    if found.payloadType == kind.payload_type
                ),
                None,
            )
        except (FormatError, IntegrityError, NotFoundError):
            return None


def know(source: Source, how: Audit, roots: Sequence[Path], *, verify: bool) -> Known:
    """Verify a log, all of it or (``verify`` false) only its checkpoint, so that it can be asked.

    Raises ``IntegrityError`` where its tree is not sound: then nothing in it can be told from what never was.
    """
    if not verify:
        view = view_log(source, how.home, roots, how.genesis)
        return Known(Entries(source, view.checkpoint.checkpoint), None)
    report = audit(source, how)
    if not report.sound_tree or not report.root:
        raise IntegrityError(
            "the log does not verify, so nothing can be answered from it",
            hint="see what is wrong with: custody log verify",
        )
    return Known(Entries(source, Checkpoint(report.deployment, report.size, report.root)), report)


def of_version(known: Known, version: str, window: Window) -> list[dict[str, Any]]:
    """Return every request for a version: who asked, who decided, who opened it, when, how many bytes."""
    timeline = known.timeline(lambda entry: entry.version == version)
    return _told(known, timeline.within(window.since, window.until))


def of_identity(known: Known, identity: str, window: Window) -> list[dict[str, Any]]:
    """Return every request that an identity filed, or that was for it."""
    return _told(
        known, concerning(known.timeline(lambda entry: identity in {entry.beneficiary, who(entry)}), identity, window)
    )


def decided(known: Known, person: str, window: Window) -> list[dict[str, Any]]:
    """Return every decision of a person."""
    return decisions_of(known.timeline(), person, window, known.findings)


def added(known: Known, old: str, new: str | None) -> tuple[Difference, list[tuple[int, Entry]]]:
    """Return what was added between two states of the log: sizes, or files with checkpoints of it.

    Raises ``IntegrityError`` where a checkpoint in a file is not of this history.
    """
    begin, end = _size(known, old), known.entries.size if new is None else _size(known, new)
    if begin > end:
        begin, end = end, begin
    entries = list(known.parsed(begin, end))
    return difference(begin, end, entries), entries


def _told(known: Known, found: Iterator[Asked]) -> list[dict[str, Any]]:
    findings = known.findings
    return [asked_data(asked, known.said(asked), findings) for asked in found]


def _size(known: Known, text: str) -> int:
    """Read a size, or a checkpoint that must be of this log."""
    if text.isascii() and text.isdecimal() and len(text) < 19:  # noqa: PLR2004 - below 2**63
        size = int(text)
        if size > known.entries.size:
            raise NotFoundError(f"there is no size {size}: the log has {known.entries.size} entries")
        return size
    checkpoint = Checkpoint.parse(Note.parse(small_files.read(Path(text), MAX_NOTE_SIZE)).text)
    if checkpoint.size > known.entries.size:
        raise IntegrityError(
            f"{text}: a checkpoint of size {checkpoint.size}, but this log has {known.entries.size} entries",
            hint="somebody shows you an older log, or this is the checkpoint of another one",
        )
    if known.entries.root_at(checkpoint.size) != checkpoint.root:
        raise IntegrityError(
            f"{text}: not a checkpoint of this history: two logs have the size {checkpoint.size}",
            hint="keep both: if the file is signed and cosigned, they are the evidence of a fork",
        )
    return checkpoint.size
