"""The state that the log implies.

Nothing else is state: a broker makes it at start by folding the journal, an auditor by folding the log, with the same
function (``custody.rules.step``).
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from custody.documents.content import Content
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope
from custody.documents.release import Release, ReleaseKey
from custody.documents.request import Range, Request
from custody.documents.root import Root
from custody.documents.sharing import Sharing, Slot
from custody.documents.terms import Terms
from custody.entries.entry import Parent
from custody.rules.used import Used

__all__ = ["Decided", "Phase", "Released", "RequestState", "SessionState", "State", "VersionState"]

Phase = Literal["requested", "granted", "open", "closed"]


@dataclass(slots=True)
class VersionState:
    """A sealed version: its content and the sharing in force."""

    content: Content
    content_digest: str
    content_envelope: str
    sharing: Sharing
    sharing_digest: str
    sharing_envelope: str
    entry: Parent
    sealed_at: int


@dataclass(slots=True, frozen=True)
class Decided:
    """A logged decision and where it stands."""

    decision: Decision
    envelope: Envelope
    entry: Parent
    time: int


@dataclass(slots=True, frozen=True)
class Released:
    """A logged release for the release key in force; ``credential`` is the key id of the device that signed it."""

    release: Release
    credential: str
    entry: Parent


@dataclass(slots=True)
class SessionState:
    """A session of a lease that has no outcome yet.

    Of one that has, only what was served is kept: a lease of a fleet has thousands of sessions.
    """

    files: tuple[Range, ...]
    entry: Parent
    ceiling: int


@dataclass(slots=True)
class RequestState:
    """A request and all that followed from it."""

    digest: str
    request: Request
    envelope: Envelope
    terms: dict[str, Terms]
    terms_envelopes: dict[str, Envelope]
    release_key: ReleaseKey
    release_key_digest: str
    release_key_envelope: Envelope
    entry: Parent
    time: int
    release_key_lost: bool = False
    """Its seed is gone, and no new key was logged yet: no share may be sent."""
    phase: Phase = "requested"
    reason: str = ""
    decisions: list[Decided] = field(default_factory=list)
    releases: dict[Slot, Released] = field(default_factory=dict)
    granted: str = ""
    granted_at: int = 0
    granted_by: tuple[str, ...] = ()
    """Persons whose approvals made the quorum; only their shares open the lease."""
    grant_entry: Parent | None = None
    opening: Parent | None = None
    opened_before: bool = False
    stopped: str = ""
    sessions: dict[str, SessionState] = field(default_factory=dict)
    """Those without an outcome."""
    begun: int = 0
    """Sessions so far, ended ones too."""
    spent: int = 0
    """Plaintext bytes that count against the lease: a live session's ceiling, what an ended one was served."""

    @property
    def lease(self) -> Terms:
        """The granted terms. Only meaningful once granted."""
        return self.terms[self.granted]

    @property
    def live_sessions(self) -> AbstractSet[str]:
        """Ids of sessions without an outcome."""
        return self.sessions.keys()

    def begin_session(self, name: str, session: SessionState) -> None:
        """Count a session, and its whole ceiling as spent."""
        self.sessions[name] = session
        self.begun += 1
        self.spent += session.ceiling

    def end_session(self, name: str, served: int) -> None:
        """Count what an ended session was served instead of its ceiling."""
        self.spent += served - self.sessions.pop(name).ceiling

    def lose_sessions(self) -> None:
        """End the live sessions of which nobody knows what they were served: each counts its whole ceiling."""
        for name in tuple(self.live_sessions):
            self.end_session(name, self.sessions[name].ceiling)


@dataclass(slots=True)
class State:
    """Everything the log implies so far. ``deployment`` and ``genesis`` (a digest) are what the reader pinned."""

    deployment: str
    genesis: str
    size: int = 0
    time: int = 0
    roots: list[Root] = field(default_factory=list)
    root_digest: str = ""
    root_entries: list[Parent] = field(default_factory=list)
    root_envelopes: list[str] = field(default_factory=list)
    """Envelope digests, by epoch."""
    ended: bool = False
    """The log has ended: what follows is the root entry with which its successor begins."""
    versions: dict[str, VersionState] = field(default_factory=dict)
    vids: set[str] = field(default_factory=set)
    requests: dict[str, RequestState] = field(default_factory=dict)
    live: dict[str, RequestState] = field(default_factory=dict)
    """The requests that are not closed, in order of filing: what upkeep has to look at."""
    leases: dict[str, str] = field(default_factory=dict)
    """Terms digest to request digest, granted or not."""
    used: Used = field(default_factory=Used)
    """What may occur only once: ids of entries, digests of documents that act, digests of release keys."""

    @property
    def root(self) -> Root:
        """The trust root in force."""
        return self.roots[-1]
