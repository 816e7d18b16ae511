"""Who asked, who decided, what was opened, and when: the entries of a log put together by request.

Everything here comes from entries alone, so it costs no look at documents; what only documents say (the reason, the
bytes granted) is read for what is shown (``custody.audit.questions``). Nothing is judged here: an entry that breaks a
rule is told like any other, and the findings of the audit say which one it is. So entries that refer to nothing known
are counted and passed over, never refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from custody.audit.summary import who
from custody.entries.entry import Entry

__all__ = ["Asked", "Decided", "Event", "Session", "Timeline"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``time`` (POSIX seconds, the broker's clock) in entry ``index``."""

    index: int
    time: int
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision: ``after`` is seconds since the request was filed, by the broker's clock."""

    index: int
    time: int
    person: str
    verdict: str
    credential: str
    after: int


@dataclass(slots=True)
class Session:
    """A session. ``served`` is plaintext bytes; ``None`` as long as nothing tells how it ended."""

    digest: str
    index: int
    time: int
    who: str
    files: int
    ceiling: int
    ended: Event | None = None
    outcome: str = ""
    served: int | None = None


@dataclass(slots=True)
class Asked:
    """A request and all that followed from it. ``entry`` is the one that filed it."""

    index: int
    entry: Entry
    requester: str
    decisions: list[Decided] = field(default_factory=list)
    granted: Event | None = None
    persons: tuple[str, ...] = ()
    openings: list[Event] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    stopped: Event | None = None
    closed: Event | None = None
    lost: list[Event] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    """Every entry that is about it."""
    last: int = 0
    """The time of the newest of them."""

    @property
    def digest(self) -> str:
        """The request digest."""
        return self.entry.request or ""

    @property
    def version(self) -> str:
        """What was asked for."""
        return self.entry.version or ""

    @property
    def beneficiary(self) -> str:
        """For which workload."""
        return self.entry.beneficiary or ""

    @property
    def time(self) -> int:
        """When it was filed."""
        return self.entry.time

    @property
    def served(self) -> int:
        """Plaintext bytes that ended sessions were served."""
        return sum(session.served or 0 for session in self.sessions.values())

    @property
    def stands(self) -> str:
        """Where it stands: ``requested``, ``granted``, ``open``, or why it is over."""
        if self.closed is not None:
            return self.closed.reason
        if self.stopped is not None:
            return f"{self.stopped.reason}, not closed"
        if self.granted is None:
            return "requested"
        opened = max((event.index for event in self.openings if event.reason == "ok"), default=-1)
        return "open" if opened > max((event.index for event in self.lost), default=-1) else "granted"

    def by(self, verdict: str) -> list[str]:
        """Return the persons whose decision is this verdict."""
        return [decided.person for decided in self.decisions if decided.verdict == verdict]

    def within(self, since: int | None, until: int | None) -> bool:
        """Tell whether anything of it happened in [since, until)."""
        return (since is None or self.last >= since) and (until is None or self.time < until)


class Timeline:
    """Takes entries in order. ``wanted`` chooses requests by the entry that files them; of others nothing is kept."""

    def __init__(self, wanted: Callable[[Entry], bool] | None = None) -> None:
        self.asked: dict[str, Asked] = {}
        self.sealed: dict[str, Event] = {}
        self.roots: list[int] = []
        self.system: list[Event] = []
        self.size = 0
        self._wanted = wanted

    def add(self, index: int, entry: Entry) -> Asked | None:
        """Take the next entry; return the request that it is about, where that is kept."""
        self.size = index + 1
        if entry.type == "request":
            if (self._wanted and not self._wanted(entry)) or entry.request in self.asked:
                return None
            asked = self.asked[entry.request or ""] = Asked(index, entry, who(entry))
        elif entry.request is not None and entry.request in self.asked:
            asked = self.asked[entry.request]
            _apply(asked, index, entry)
        else:
            self._other(index, entry)
            return None
        asked.indexes.append(index)
        asked.last = max(asked.last, entry.time)
        return asked

    def within(self, since: int | None, until: int | None) -> Iterator[Asked]:
        """Yield the requests of which anything happened in [since, until), in the order of filing."""
        return (asked for asked in self.asked.values() if asked.within(since, until))

    def _other(self, index: int, entry: Entry) -> None:
        match entry.type:
            case "root":
                self.roots.append(index)
            case "manifest":
                self.sealed.setdefault(entry.version or "", Event(index, entry.time, who(entry)))
            case "system":
                self.system.append(Event(index, entry.time, who(entry), entry.reason or ""))


def _apply(asked: Asked, index: int, entry: Entry) -> None:
    event = Event(index, entry.time, who(entry), entry.reason or entry.outcome or "")
    match entry.type:
        case "decision":
            credential = entry.actor.credential if entry.actor else ""
            after = entry.time - asked.time
            asked.decisions.append(Decided(index, entry.time, who(entry), entry.verdict or "", credential, after))
        case "grant":
            asked.granted, asked.persons = event, entry.persons
        case "opening-outcome":
            asked.openings.append(event)
        case "session-intent":
            files = sum(item.last - item.first + 1 for item in entry.files)
            name = entry.session or ""
            asked.sessions[name] = Session(name, index, entry.time, who(entry), files, entry.ceiling or 0)
        case "session-outcome":
            session = asked.sessions.get(entry.session or "")
            if session is not None:
                session.ended, session.outcome = event, entry.outcome or ""
                session.served = sum(item.bytes for item in entry.served)
        case "stop":
            asked.stopped = asked.stopped or event
        case "close" if entry.reason == "broker-lost":
            asked.lost.append(event)
        case "close":
            asked.closed = event
