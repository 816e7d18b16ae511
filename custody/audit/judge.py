"""Every entry judged as the broker had to judge it, from the documents it names and the entries before it.

The rules are those of ``custody.rules.step``. What only a reader of the whole log can judge is here: documents that are
not there, times against those of the witnesses, and certificates at the time of cosigning. The broker's clock says when
an entry was made; that a certificate had not expired then is believed because it was valid still when witnesses
cosigned the first published checkpoint that covers the entry (design, Trust anchors).

An entry that is wrong has no effect: the state goes on as if it were not there. What builds on it will be found wrong
as well, and names the first.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from custody.audit.checkpoints import Cosigned
from custody.audit.kinds import KINDS
from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.crypto import svid
from custody.documents.actor import Workload
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.entries.entry import DocumentRef, Entry
from custody.errors import CustodyError, FormatError, IntegrityError, NotFoundError
from custody.rules.facts import MAX_SKEW
from custody.rules.state import State
from custody.rules.step import step
from custody.values import Time

__all__ = ["Judge", "document_path", "read_document"]

_MOST_PENDING: Final = 65_536
_ACTORS: Final = ("requester", "sealer", "signer", "workload", "actor")  # the fields in which documents name who signs


def document_path(envelope: str) -> str:
    """Return where a document's envelope lies."""
    return f"documents/{envelope}"


def read_document(source: Source, reference: DocumentRef) -> Envelope:
    """Fetch a document that an entry names. Its signatures are not verified.

    Raises ``NotFoundError``; ``IntegrityError`` or ``FormatError`` for anything but the document that is named.
    """
    data = source.fetch(document_path(reference.envelope))
    if hashlib.sha256(data).hexdigest() != reference.envelope:
        raise IntegrityError(f"the {reference.kind} document under {reference.envelope[:16]}… has other bytes")
    envelope = Envelope.parse(data)
    if envelope.digest != reference.document:
        raise IntegrityError(
            f"the entry says {reference.kind} {reference.document[:16]}…, but the document is {envelope.digest[:16]}…"
        )
    return envelope


@dataclass(frozen=True, slots=True)
class _Pending:
    """An entry that no good checkpoint covers yet."""

    index: int
    time: int
    certificates: tuple[tuple[str, Workload], ...]
    root: Root


class Judge:
    """Folds the log. ``state`` is what the good entries imply."""

    def __init__(self, source: Source, report: Report, deployment: str, genesis: str) -> None:
        self.state = State(deployment, genesis)
        self._source = source
        self._report = report
        self._pending: deque[_Pending] = deque()
        self._broken: dict[str, int] = {}
        self._unread: int | None = None

    def lost(self, index: int, data: bytes) -> None:
        """Go on without an entry that cannot be believed. What ``data`` claims is used to tell what may follow."""
        self.state.size += 1
        try:
            self._mark(index, Entry.parse(data))
        except FormatError:
            self._unread = index if self._unread is None else self._unread

    def entry(self, index: int, data: bytes) -> None:
        """Judge the next entry."""
        try:
            entry = Entry.parse(data)
        except FormatError as error:
            self._report.find(Finding(index, "entry-format", error.message))
            self.lost(index, data)
            return
        self._report.types[entry.type] += 1
        root = self.state.root if self.state.roots else None
        documents = self._documents(index, entry)
        if documents is None:
            self._pass_over(index, entry)
            return
        try:
            step(self.state, entry, documents)
        except CustodyError as error:
            self._wrong(index, entry, error)
            self._pass_over(index, entry)
            return
        if len(self._pending) == _MOST_PENDING:
            self._pending.popleft()
            self._report.remark("uncovered", "entries that no good checkpoint covers were not compared with its time")
        self._pending.append(_Pending(index, entry.time, tuple(_certificates(documents)), root or self.state.root))

    def covered(self, size: int, by: Cosigned) -> None:
        """Compare the entries that are new in a good checkpoint with the times of its witnesses."""
        while self._pending and self._pending[0].index < size:
            self._compare(self._pending.popleft(), by)

    def _documents(self, index: int, entry: Entry) -> Mapping[str, Envelope] | None:
        """Fetch what an entry names; after a finding, ``None``."""
        found: dict[str, Envelope] = {}
        for reference in entry.documents:
            code = "document-altered"
            try:
                found[reference.envelope] = read_document(self._source, reference)
                continue
            except NotFoundError:
                code, text = "document-missing", f"the {reference.kind} document of this {entry.type} entry is missing"
            except (FormatError, IntegrityError) as error:
                text = error.message
            path = document_path(reference.envelope)
            self._report.find(Finding(index, code, text, path, (reference.envelope,), self._follows(entry)))
        return found if len(found) == len({reference.envelope for reference in entry.documents}) else None

    def _wrong(self, index: int, entry: Entry, error: CustodyError) -> None:
        named = tuple(reference.envelope for reference in entry.documents)
        finding = Finding(index, f"rule-{entry.type}", error.message, documents=named, follows=self._follows(entry))
        self._report.find(finding)

    def _pass_over(self, index: int, entry: Entry) -> None:
        """Go on without the effect of an entry."""
        self.state.size += 1
        self.state.used.add(entry.id)
        self._mark(index, entry)

    def _mark(self, index: int, entry: Entry) -> None:
        """Remember what may build on a wrong entry, under the first one that it builds on itself."""
        cause = self._follows(entry)
        cause = index if cause is None else cause
        made = [f"entry {index}", *(reference.document for reference in entry.documents)]
        made += [value for value in (entry.request, entry.terms, entry.session) if value]
        if entry.type == "manifest":
            made.append(str(entry.version))
        for name in made:
            self._broken.setdefault(name, cause)

    def _follows(self, entry: Entry) -> int | None:
        """Return the first wrong entry that this one builds on, or may build on, if there is one."""
        built = [entry.root, entry.request, entry.terms, entry.session, entry.release_key, entry.version]
        built += [f"entry {entry.parent.index}"] if entry.parent else []
        return min((self._broken[name] for name in built if name in self._broken), default=self._unread)

    def _compare(self, pending: _Pending, by: Cosigned) -> None:
        if pending.time > by.earliest + MAX_SKEW:
            text = f"it states {Time(pending.time)}, but was cosigned at {Time(by.earliest)}"
            self._report.find(Finding(pending.index, "time", text))
        for kind, workload in pending.certificates:
            try:
                for moment in sorted({by.earliest, by.latest} - {pending.time}):
                    svid.check_chain(workload.x5c, pending.root.spiffe_roots, pending.root.trust_domain, moment)
            except CustodyError as error:
                text = (
                    f"{kind}: {error.message}; the entry states {Time(pending.time)}, and was cosigned at "
                    f"{Time(by.latest)}"
                )
                self._report.find(Finding(pending.index, "certificate", text))


def _certificates(documents: Mapping[str, Envelope]) -> Iterator[tuple[str, Workload]]:
    """Yield the workloads that signed documents, with the document's kind."""
    for envelope in documents.values():
        if b'"x5c"' not in envelope.payload:
            continue
        kind = KINDS[envelope.payloadType]
        document = envelope.document(kind)
        for field in _ACTORS:
            actor = getattr(document, field, None)
            if isinstance(actor, Workload):
                yield kind.document_kind(), actor
