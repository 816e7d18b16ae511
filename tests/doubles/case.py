"""One request and what follows from it, for ``tests.doubles.world``.

For each step there is a document (``decision``), its entry (``log_decision``), and both in one (``decide``). The first
two take changes, so that a test can make one thing wrong.
"""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import msgspec

from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.documents.actor import Broker, Person
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope
from custody.documents.manifest import WRAPPED_SHARE
from custody.documents.release import Recipient, Release, ReleaseKey
from custody.documents.request import Range, Request
from custody.documents.session import OpenSession
from custody.documents.sharing import Slot
from custody.documents.stop import Stop
from custody.documents.terms import Terms
from custody.entries.entry import Entry, FileBytes
from custody.rules.opening import releasers
from custody.rules.quorum import approvers
from custody.rules.state import RequestState, VersionState
from custody.values import U64, Time
from tests.doubles.actors import Workload

if TYPE_CHECKING:
    from tests.doubles.world import World

__all__ = ["Case"]

_REASON = {"withdraw": "withdrawn", "return": "returned", "revoke": "revoked"}
_JOB = "spiffe://example.org/job/serve"


def _person(who: str) -> str:
    return who.partition("/")[0]


@dataclass
class Case:
    """A request, signed and perhaps logged, its terms and its release key (``seed`` opens what is wrapped to it)."""

    world: "World"
    who: str | Workload
    request: Envelope
    terms: Envelope
    key: Envelope
    seed: SecretBytes
    wrapped: dict[Slot, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, world: "World", version: str, who: str | Workload = "frank", /, **changes: Any) -> Self:
        """Sign a request for all files of a version: a day to start, two hours long, three sessions."""
        content = world.state.versions[version].content
        now = world.now
        request = Request(
            deployment=world.deployment,
            kind="open",
            requester=who.actor if isinstance(who, Workload) else Person(person=who),
            beneficiary=who.spiffe if isinstance(who, Workload) else _JOB,
            version=version,
            content=content.digest,
            files=(Range(first=U64(0), last=U64(len(content.files) - 1)),),
            purpose="evaluation",
            not_before=Time(now),
            open_before=Time(now + 24 * 3600),
            duration=U64(2 * 3600),
            sessions=U64(3),
            bytes=U64(10_000),
            mode="stream",
            reason="nightly evaluation",
            ticket="EVAL-1",
            created=Time(now),
            nonce=world.rng(32).hex(),
            lifts=(),
            roster=None,
        )
        request = msgspec.structs.replace(request, **changes)
        envelope = world.sign(request, who)
        seed = SecretBytes.take(bytearray(world.rng(32)))
        case = cls(world, who, envelope, envelope, envelope, seed)
        case.terms = case.make_terms()
        case.key = case.make_key(seed)
        return case

    @property
    def digest(self) -> str:
        """Digest of the request."""
        return self.request.digest

    @property
    def lease(self) -> str:
        """Digest of the terms."""
        return self.terms.digest

    @property
    def found(self) -> RequestState:
        """What the log says of the request."""
        return self.world.state.requests[self.digest]

    @property
    def version(self) -> VersionState:
        """The version asked for."""
        return self.world.state.versions[self.request.document(Request).version]

    @property
    def roster(self) -> str:
        """Name of the roster whose sharing it is."""
        return self.version.sharing.roster

    @property
    def quorum(self) -> tuple[str, ...]:
        """Persons who are enough: as many of each group as it asks for, in slot order."""
        return tuple(slot.person for group in self.version.sharing.groups for slot in group.slots[: group.threshold])

    def slot(self, person: str) -> Slot:
        """Return the person's slot."""
        slot = self.version.sharing.slot_of(person)
        assert slot is not None, person
        return slot

    def make_terms(self, who: str = "broker-1", **changes: Any) -> Envelope:
        """Sign terms that equal the request."""
        request = self.request.document(Request)
        same = ("deployment", "version", "content", "beneficiary", "files", "purpose", "mode", "sessions", "bytes")
        terms = Terms(
            request=self.digest,
            not_before=request.not_before,
            open_before=request.open_before,
            not_after=Time(request.not_after),
            created=Time(self.world.now),
            issuer=Broker(broker=who) if who.startswith("broker-") else Person(person=who),
            **{name: getattr(request, name) for name in same},
        )
        return self.world.sign(terms, who, **changes)

    def make_key(self, seed: SecretBytes | None = None, who: str = "broker-1", **changes: Any) -> Envelope:
        """Sign a release key, fresh unless its seed is given."""
        if seed is None:
            self.seed = seed = SecretBytes.take(bytearray(self.world.rng(32)))
        key = ReleaseKey(
            deployment=self.world.deployment,
            request=self.digest,
            broker=who,
            xwing=hpke.public_key(seed),
            created=Time(self.world.now),
        )
        return self.world.sign(key, who, **changes)

    def decision(self, who: str, verdict: str = "approve", **changes: Any) -> Envelope:
        """Sign a decision with a device (``alice`` or ``alice/token``); it expires after an hour."""
        person = _person(who)
        decision = Decision(
            deployment=self.world.deployment,
            request=self.digest,
            terms=self.lease,
            sharing=self.version.sharing_digest,
            root=self.world.state.root_digest,
            person=person,
            slot=self.version.sharing.slot_of(person) or Slot(group=0, index=1),
            verdict=verdict,  # type: ignore[arg-type]  # as a test wants it
            note="",
            issued=Time(self.world.now),
            expires=Time(self.world.now + 3600),
        )
        return self.world.sign(decision, who, **changes)

    def wrap(self, who: str) -> bytes:
        """Wrap the real share of a device's person to the release key."""
        person = _person(who)
        slot = self.slot(person)
        info = hpke.release_info(
            bytes.fromhex(self.digest),
            bytes.fromhex(self.lease),
            bytes.fromhex(self.key.digest),
            bytes.fromhex(self.version.sharing_digest),
            slot.group,
            slot.index,
            bytes.fromhex(self.world.devices[who].key_id),
        )
        share = self.world.shares[self.version.content.vid][slot]
        return hpke.seal(self.key.document(ReleaseKey).xwing, info, share.view)

    def release(self, who: str, wrapped: bytes | None = None, **changes: Any) -> Envelope:
        """Sign a release; of bytes that are no share unless ``wrapped`` is what ``wrap`` returned."""
        person = _person(who)
        slot = self.version.sharing.slot_of(person) or Slot(group=0, index=1)
        self.wrapped[slot] = self.world.rng(WRAPPED_SHARE) if wrapped is None else wrapped
        digest = hashlib.sha256(self.wrapped[slot]).hexdigest()
        broker = self.key.document(ReleaseKey).broker
        release = Release(
            deployment=self.world.deployment,
            request=self.digest,
            terms=self.lease,
            sharing=self.version.sharing_digest,
            person=person,
            slot=slot,
            recipients=(Recipient(broker=broker, release_key=self.key.digest, wrapped=digest),),
            issued=Time(self.world.now),
        )
        return self.world.sign(release, who, **changes)

    def session(self, job: Workload | None = None, **changes: Any) -> Envelope:
        """Sign an open document for all files and 1,000 bytes, with a fresh certificate unless one is given."""
        job = job or self.world.job()
        document = OpenSession(
            deployment=self.world.deployment,
            lease=self.lease,
            files=self.terms.document(Terms).files,
            bytes=U64(1000),
            nonce=self.world.rng(32).hex(),
            xwing=None,
            workload=job.actor,
            issued=Time(self.world.now),
        )
        return self.world.sign(document, job, **changes)

    def stop(self, action: str, who: str | Workload, **changes: Any) -> Envelope:
        """Sign a stop."""
        stop = Stop(
            deployment=self.world.deployment,
            action=action,  # type: ignore[arg-type]  # as a test wants it
            target=self.digest if action == "withdraw" else self.lease,
            actor=who.actor if isinstance(who, Workload) else Person(person=_person(who)),
            reason="no longer needed",
            nonce=self.world.rng(32).hex(),
            issued=Time(self.world.now),
        )
        return self.world.sign(stop, who, **changes)

    def _append(self, kind: str, *envelopes: Envelope, fields: dict[str, Any], changes: dict[str, Any]) -> Entry:
        return self.world.append(kind, *envelopes, **(fields | changes))

    def log_request(self, **changes: Any) -> Entry:
        """Log the request with its terms and release key."""
        request = self.request.document(Request)
        version = self.world.state.versions.get(request.version)
        fields = {
            "actor": self.world.party(self.who),
            "version": request.version,
            "content": request.content,
            "sharing": version.sharing_digest if version else "00" * 32,
            "request": self.digest,
            "terms": self.lease,
            "release_key": self.key.digest,
            "beneficiary": request.beneficiary,
        }
        return self._append("request", self.request, self.terms, self.key, fields=fields, changes=changes)

    def log_key(self, envelope: Envelope, **changes: Any) -> Entry:
        """Log a new release key."""
        fields = {
            "actor": self.world.party("broker-1"),
            "request": self.digest,
            "release_key": envelope.digest,
            "parent": self.found.entry,
        }
        return self._append("release-key", envelope, fields=fields, changes=changes)

    def log_decision(self, envelope: Envelope, who: str, **changes: Any) -> Entry:
        """Log a decision."""
        document = envelope.document(Decision)
        fields = {
            "actor": self.world.party(who),
            "version": self.version.content.version,
            "content": self.version.content_digest,
            "sharing": document.sharing,
            "request": self.digest,
            "terms": document.terms,
            "slot": document.slot,
            "verdict": document.verdict,
            "parent": self.found.entry,
        }
        return self._append("decision", envelope, fields=fields, changes=changes)

    def log_release(self, envelope: Envelope, who: str, **changes: Any) -> Entry:
        """Log a release."""
        document = envelope.document(Release)
        fields = {
            "actor": self.world.party(who),
            "request": self.digest,
            "terms": document.terms,
            "sharing": document.sharing,
            "release_key": document.recipients[0].release_key,
            "slot": document.slot,
            "parent": self.found.entry,
        }
        return self._append("release", envelope, fields=fields, changes=changes)

    def log_session(self, envelope: Envelope, job: Workload, **changes: Any) -> Entry:
        """Log a session intent."""
        document = envelope.document(OpenSession)
        fields = {
            "actor": self.world.party(job),
            "version": self.version.content.version,
            "content": self.version.content_digest,
            "request": self.digest,
            "terms": self.lease,
            "session": envelope.digest,
            "beneficiary": document.workload.spiffe,
            "files": document.files,
            "ceiling": document.bytes,
            "mode": None if document.xwing is None else "direct",
            "parent": self.found.grant_entry,
        }
        return self._append("session-intent", envelope, fields=fields, changes=changes)

    def log_stop(self, envelope: Envelope, who: str | Workload, **changes: Any) -> Entry:
        """Log a stop."""
        document = envelope.document(Stop)
        fields = {
            "actor": self.world.party(who),
            "reason": _REASON[document.action],
            "request": self.digest,
            "terms": None if document.action == "withdraw" else document.target,
            "parent": self.found.entry,
        }
        return self._append("stop", envelope, fields=fields, changes=changes)

    def decide(self, who: str, verdict: str = "approve") -> None:
        """Sign and log a decision."""
        self.log_decision(self.decision(who, verdict), who)

    def send(self, who: str) -> None:
        """Sign and log a release."""
        self.log_release(self.release(who), who)

    def grant(self, **changes: Any) -> Entry:
        """Log the grant."""
        fields = {
            "version": self.version.content.version,
            "content": self.version.content_digest,
            "sharing": self.version.sharing_digest,
            "request": self.digest,
            "terms": self.lease,
            "beneficiary": self.request.document(Request).beneficiary,
            "persons": approvers(self.world.state, self.found, self.lease, self.world.now),
            "parent": self.found.entry,
        }
        return self._append("grant", fields=fields, changes=changes)

    def begin_opening(self, **changes: Any) -> Entry:
        """Log the opening intent."""
        fields = {
            "version": self.version.content.version,
            "content": self.version.content_digest,
            "sharing": self.version.sharing_digest,
            "request": self.digest,
            "terms": self.lease,
            "release_key": self.found.release_key_digest,
            "persons": releasers(self.world.state, self.found),
            "parent": self.found.grant_entry,
        }
        return self._append("opening-intent", fields=fields, changes=changes)

    def end_opening(self, outcome: str = "ok", **changes: Any) -> Entry:
        """Log the opening outcome."""
        commit = self.version.content.key_commit
        fields: dict[str, Any] = {"request": self.digest, "terms": self.lease, "outcome": outcome}
        fields["parent"] = self.found.opening
        fields |= {"key_commit": commit} if outcome == "ok" else {"reason": "unavailable"}
        return self._append("opening-outcome", fields=fields, changes=changes)

    def open(self) -> None:
        """Send a quorum of shares and open the lease."""
        for person in self.quorum:
            self.send(person)
        self.begin_opening()
        self.end_opening()

    def begin(self, job: Workload | None = None, **changes: Any) -> str:
        """Sign and log a session; return its digest. Changes are to the document."""
        job = job or self.world.job()
        envelope = self.session(job, **changes)
        self.log_session(envelope, job)
        return envelope.digest

    def end(self, session: str, /, *served: tuple[int, int], **changes: Any) -> Entry:
        """Log a session outcome: (file, bytes) served."""
        fields = {
            "request": self.digest,
            "terms": self.lease,
            "session": session,
            "outcome": "ok",
            "served": tuple(FileBytes(file=U64(file), bytes=U64(count)) for file, count in served),
            "parent": self.found.sessions[session].entry if session in self.found.sessions else self.found.entry,
        }
        return self._append("session-outcome", fields=fields, changes=changes)

    def close(self, reason: str, **changes: Any) -> Entry:
        """Log a close."""
        found = self.found
        fields = {"request": self.digest, "terms": found.granted or None, "reason": reason, "parent": found.entry}
        return self._append("close", fields=fields, changes=changes)
