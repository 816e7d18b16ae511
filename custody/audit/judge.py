"""Every entry judged as the broker had to judge it, from the documents it names and the entries before it.

The rules are those of ``custody.rules.step``. What only a reader of the whole log can judge is here: documents that are
not there, and times against those of the witnesses. The broker's clock says when an entry was made, and nobody can
prove it. But nothing that grants takes effect before it is witnessed; so when witnesses cosigned the first published
checkpoint that covers an entry, certificates had to be valid still (design, Trust anchors), and what allowed a grant,
an opening or a session still had to hold.

An entry that is wrong has no effect: the state goes on as if it were not there. What builds on it will be found wrong
as well, and names the first.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from custody.audit.answers import Answers
from custody.audit.checkpoints import Cosigned
from custody.audit.deadline import Deadline, deadline
from custody.audit.documents import Anchors, Flaw, read_large, workloads
from custody.audit.examine import Examined
from custody.audit.kinds import KINDS
from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.crypto import svid
from custody.documents.actor import Workload
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.entries.entry import DocumentRef, Entry
from custody.errors import CustodyError, FormatError
from custody.ports import Policy
from custody.rules.facts import MAX_SKEW
from custody.rules.signers import INLINE
from custody.rules.state import State
from custody.rules.step import step
from custody.values import Time

__all__ = ["Judge"]

_MOST_PENDING: Final = 65_536


class _Pending(NamedTuple):
    """An entry that no good checkpoint covers yet."""

    entry: int
    time: int
    certificates: Sequence[tuple[str, Workload, svid.Path]]
    deadline: Deadline | None
    root: Root


@dataclass(slots=True)
class _Ahead:
    """Verifies what workloads signed by looking up what was verified ahead: paths by envelope digest, and under which
    trust root. What is not there, or not for this root and time, is verified here.
    """

    root: Root | None = None
    paths: dict[str, svid.Path] = field(default_factory=dict)

    def identity(self, envelope: Envelope, actor: Workload, root: Root, at: int) -> str:
        """See ``WorkloadVerifier.identity``."""
        path = self.path(envelope, root)
        if path is not None and path.begin <= at <= path.end:
            return path.identity
        return INLINE.identity(envelope, actor, root, at)

    def signature(self, envelope: Envelope, actor: Workload) -> None:
        """See ``WorkloadVerifier.signature``."""
        if envelope.envelope_digest not in self.paths:
            INLINE.signature(envelope, actor)

    def path(self, envelope: Envelope, root: Root) -> svid.Path | None:
        """Return the path that was verified ahead, if it leads to this root's SPIFFE roots."""
        known = self.root
        if known is None or (known.spiffe_roots, known.trust_domain) != (root.spiffe_roots, root.trust_domain):
            return None
        return self.paths.get(envelope.envelope_digest)


class Judge:
    """Folds the log. ``state`` is what the good entries imply; ``broken`` which entries, documents and digests may be
    wrong because of which entry, ``unread`` the first entry of which nothing could be told.
    """

    def __init__(self, source: Source, report: Report, state: State, policies: Mapping[str, Policy]) -> None:
        self.state = state
        self.broken: dict[str, int] = {}
        self.unread: int | None = None
        self._source = source
        self._report = report
        self._pending: deque[_Pending] = deque()
        self._ahead = _Ahead()
        self._answers = Answers(report, policies)

    @property
    def pending(self) -> int:
        """How many entries no good checkpoint covers."""
        return len(self._pending)

    @property
    def anchors(self) -> Anchors | None:
        """What the trust root in force asks for."""
        if not self.state.roots:
            return None
        root = self.state.root
        policy, keys = root.checkpoint_policy, root.signing_keys
        return Anchors(len(self.state.roots) - 1, root.spiffe_roots, root.trust_domain, policy, keys)

    def lost(self, index: int, data: bytes) -> None:
        """Go on without an entry that cannot be believed. What ``data`` claims is used to tell what may follow."""
        self.state.size += 1
        try:
            self._mark(index, Entry.parse(data))
        except FormatError:
            self.unread = index if self.unread is None else self.unread

    def skip(self) -> None:
        """Go on without judging an entry."""
        self.state.size += 1

    def entry(self, index: int, examined: Examined, epoch: int) -> None:
        """Judge the next entry, which was examined under the trust root of ``epoch`` (-1: under none)."""
        if examined.problem:
            self._report.find(Finding(index, "entry-format", examined.problem))
            self.lost(index, examined.data)
            return
        entry = Entry.recall(examined.data)
        self._report.types[entry.type] += 1
        documents = self._documents(index, entry, examined, epoch)
        if documents is None:
            self._pass_over(index, entry)
            return
        before = self.state.root if self.state.roots else None
        try:
            step(self.state, entry, documents, leaf=examined.leaf.hex(), verifier=self._ahead)
        except CustodyError as error:
            self._wrong(index, entry, error)
            self._pass_over(index, entry)
            return
        self._answers.judge(index, self.state, entry)
        root = before or self.state.root
        certificates = tuple(self._certificates(documents, root, entry.time)) if documents else ()
        until = deadline(self.state, entry)
        if len(self._pending) == _MOST_PENDING:
            self._pending.popleft()
            self._report.remark("uncovered", "entries that no good checkpoint covers were not compared with its time")
        self._pending.append(_Pending(index, entry.time, certificates, until, root))

    def covered(self, size: int, by: Cosigned) -> None:
        """Compare the entries that are new in a good checkpoint with the times of its witnesses."""
        while self._pending and self._pending[0].entry < size:
            self._compare(self._pending.popleft(), by)

    def _documents(self, index: int, entry: Entry, examined: Examined, epoch: int) -> Mapping[str, Envelope] | None:
        """Return what an entry names; after a finding, ``None``."""
        found: dict[str, Envelope] = {}
        self._ahead.paths = {}
        self._ahead.root = self.state.roots[epoch] if 0 <= epoch < len(self.state.roots) else None
        whole = True
        for reference, read in zip(entry.documents, examined.documents, strict=True):
            document = read_large(self._source.fetch, reference, entry.type) if read is None else read
            if isinstance(document, Flaw):
                self._flaw(index, entry, reference, document)
                whole = False
            elif isinstance(document, Envelope):
                found[reference.envelope] = document
            else:
                found[reference.envelope] = document.envelope(reference.envelope)
                if document.path is not None:
                    self._ahead.paths[reference.envelope] = svid.Path(*document.path)
        return found if whole else None

    def _flaw(self, index: int, entry: Entry, reference: DocumentRef, flaw: Flaw) -> None:
        named = (reference.envelope,)
        self._report.find(Finding(index, flaw.code, flaw.text, flaw.place, named, self._follows(entry)))

    def _certificates(
        self, documents: Mapping[str, Envelope], root: Root, at: int
    ) -> Iterator[tuple[str, Workload, svid.Path]]:
        """Yield the workloads that signed documents of a good entry, with the document's kind and their paths."""
        for envelope in documents.values():
            if b'"x5c"' not in envelope.payload:
                continue
            kind = KINDS[envelope.payloadType]
            for actor in workloads(envelope.document(kind)):
                path = self._ahead.path(envelope, root)
                if path is None or not path.begin <= at <= path.end:
                    path = svid.check_path(actor.x5c, root.spiffe_roots, root.trust_domain, at)
                yield kind.document_kind(), actor, path

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
            self.broken.setdefault(name, cause)

    def _follows(self, entry: Entry) -> int | None:
        """Return the first wrong entry that this one builds on, or may build on, if there is one."""
        built = [entry.root, entry.request, entry.terms, entry.session, entry.release_key, entry.version]
        built += [f"entry {entry.parent.index}"] if entry.parent else []
        return min((self.broken[name] for name in built if name in self.broken), default=self.unread)

    def _compare(self, pending: _Pending, by: Cosigned) -> None:
        stated = Time(pending.time)
        if pending.time > by.earliest + MAX_SKEW:
            text = f"it states {stated}, but was cosigned at {Time(by.earliest)}"
            self._report.find(Finding(pending.entry, "time", text))
        until = pending.deadline
        if until is not None and until.at <= by.earliest - MAX_SKEW:
            text = f"it states {stated}, but was cosigned at {Time(by.earliest)}: {until.what} at {Time(until.at)}"
            self._report.find(Finding(pending.entry, "time", text))
        for kind, workload, path in pending.certificates:
            try:
                for moment in sorted({by.earliest, by.latest} - {pending.time}):
                    if not path.begin <= moment <= path.end:
                        svid.check_chain(workload.x5c, pending.root.spiffe_roots, pending.root.trust_domain, moment)
            except CustodyError as error:
                text = f"{kind}: {error.message}; the entry states {stated}, and was cosigned at {Time(by.latest)}"
                self._report.find(Finding(pending.entry, "certificate", text))
