"""Follows a log from checkpoint to checkpoint: each increment is audited, then looked at, then told, then remembered.

In this order, so that whoever stops it at any moment is told again rather than not at all: the audit of a round writes
its memory beside that of the last one, and the one replaces the other when everything was told. Where nothing is
remembered the log so far is learned from and not told; the findings of the audit are always told.

::

    STATE          the memory of the audit (custody.audit.saved)
    STATE.next     the same, of a round that was not told to the end
    STATE.watch    how far it was told:
    {"deployment", "findings": [digest, ...], "schema": "custody/watch/v1", "size": decimal string}  canonical JSON, LF
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from custody.adapters import small_files
from custody.app.auditing import Audit, audit
from custody.app.telling import Teller
from custody.audit.patterns.alert import Alert, finding_alert
from custody.audit.patterns.habits import Habits
from custody.audit.patterns.look import look
from custody.audit.patterns.thresholds import Thresholds
from custody.audit.patterns.trouble import silent_witnesses
from custody.audit.reading import Entries
from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.documents.codec import Record, decode, encode
from custody.documents.root import Root
from custody.entries.entry import Entry
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.values import U64, Deployment, Digest

__all__ = ["Watch"]

_MOST: Final = 200
"""Alerts told in one round; beyond that one more says how many there are."""

_MAX_FILE: Final = 1 << 17


class _Watched(Record, frozen=True, kw_only=True):
    """How far a log was told."""

    schema: Literal["custody/watch/v1"] = "custody/watch/v1"
    deployment: Deployment
    size: U64
    findings: Annotated[tuple[Digest, ...], Meta(max_length=1000)]


class Watch:
    """The watch over one log. ``state`` names the file of memory; see above for those beside it."""

    def __init__(self, source: Source, how: Audit, limits: Thresholds, tellers: Sequence[Teller], state: Path) -> None:
        """Raises ``IntegrityError`` where what was remembered cannot be read."""
        self._source, self._limits, self._tellers = source, limits, tellers
        self._state: Final = state
        self._next: Final = state.with_name(f"{state.name}.next")
        self._memory: Final = state.with_name(f"{state.name}.watch")
        self._how: Final = replace(how, state=self._next)
        self._habits = Habits()
        self._root: Root | None = None
        self._learned = 0
        self._told: int | None = None
        self._findings: list[str] = []
        self._cosigned: tuple[str, ...] = ()
        self._checkpoint = b""
        self._load()

    def round(self, *, shown: Callable[[dict[str, Any]], None]) -> Report | None:
        """Audit what is new and tell what it shows; ``None`` where the checkpoint is the one of the last round.

        Raises ``UnavailableError`` where the log cannot be read, or somebody could not be told: then the next round
        tells all of it again.
        """
        checkpoint = self._source.fetch("checkpoint")
        if checkpoint == self._checkpoint:
            return None
        self._begin()
        report = audit(self._source, self._how)
        new = [finding for finding in report.findings if _digest(finding) not in self._findings]
        alerts = [finding_alert(finding) for finding in new]
        if report.sound_tree and report.root:
            alerts += self._look(report)
        self._tell(report.deployment, alerts, shown)
        self._findings = [*self._findings, *map(_digest, new)][-1000:]
        if report.sound_tree:
            self._told, self._cosigned = report.size, report.witnesses
        self._end(report.deployment)
        self._checkpoint = checkpoint
        return report

    def _look(self, report: Report) -> list[Alert]:
        """Look at the entries that were not looked at; those told before are only learned from."""
        entries = Entries(self._source, Checkpoint(report.deployment, report.size, report.root))
        if self._told is None:
            self._told = report.size
        told = self._told
        alerts: list[Alert] = []
        # A round that could not be told to the end is looked at anew, with what was learned before it.
        if self._learned > told:
            self._habits, self._learned = Habits(), 0
        for index, data in entries.between(self._learned, report.size):
            try:
                entry = Entry.parse(data)
            except FormatError:
                continue  # a finding of the audit
            found = look(self._habits, index, entry, self._limits)
            alerts += found if index >= told else []
            if entry.type == "root":
                self._root = self._read_root(entries, index, entry) or self._root
        self._learned = report.size
        if self._root is not None:
            named = [witness.name for witness in self._root.checkpoint_policy.counted()]
            alerts += silent_witnesses(named, report.witnesses, self._cosigned)
        return alerts

    @staticmethod
    def _read_root(entries: Entries, index: int, entry: Entry) -> Root | None:
        try:
            (envelope,) = entries.documents(index, entry)
            return envelope.document(Root)
        except (FormatError, IntegrityError, NotFoundError):
            return None

    def _tell(self, deployment: str, alerts: Sequence[Alert], shown: Callable[[dict[str, Any]], None]) -> None:
        listed = list(alerts[:_MOST])
        if len(alerts) > _MOST:
            listed.append(Alert("more", f"and {len(alerts) - _MOST} more alerts that are not told one by one"))
        for alert in listed:
            data = alert.data(deployment)
            shown(data)
            for teller in self._tellers:
                teller(data)

    def _load(self) -> None:
        try:
            data = small_files.read(self._memory, _MAX_FILE)
        except NotFoundError:
            return
        try:
            watched = decode(data.removesuffix(b"\n"), _Watched, str(self._memory))
        except FormatError as error:
            raise IntegrityError(
                f"{error.message}; it says how far the log was told", hint="restore it, or remove it to begin anew"
            ) from None
        self._told, self._findings = int(watched.size), list(watched.findings)

    def _begin(self) -> None:
        """Let the audit go on from where everything was told. It replaces its memory whole: one name stays the old."""
        with small_files.explained(self._state):
            self._next.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                self._next.hardlink_to(self._state)

    def _end(self, deployment: str) -> None:
        """Remember that everything was told; an audit that found the tree unsound remembers nothing new."""
        with small_files.explained(self._state), suppress(FileNotFoundError):
            self._next.replace(self._state)
        if self._told is not None:
            watched = _Watched(deployment=deployment, size=U64(self._told), findings=tuple(self._findings))
            small_files.replace(self._memory, encode(watched) + b"\n", 0o600)


def _digest(finding: Finding) -> str:
    return hashlib.sha256(repr((finding.entry, finding.code, finding.text, finding.place)).encode()).hexdigest()
