"""What auditors ask, answered from a timeline: who opened a version, what an identity did, what a custodian decided.

An answer is data that JSON can hold, keys ASCII, times RFC 3339; who prints it escapes it. What only documents say is
``None`` where they were not read or do not parse.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from custody.audit.timeline import Asked, Event, Session, Timeline
from custody.documents.request import Request
from custody.documents.terms import Terms
from custody.values import Time

__all__ = ["Said", "Window", "asked_data", "concerning", "decisions_of"]


@dataclass(frozen=True, slots=True)
class Window:
    """From ``since`` (included) to ``until`` (not included), POSIX seconds; ``None`` is open."""

    since: int | None = None
    until: int | None = None

    def holds(self, time: int) -> bool:
        """Tell whether a time lies inside."""
        return (self.since is None or time >= self.since) and (self.until is None or time < self.until)


@dataclass(frozen=True, slots=True)
class Said:
    """What the documents of a request say."""

    request: Request | None = None
    terms: Terms | None = None


def concerning(timeline: Timeline, identity: str, window: Window) -> Iterator[Asked]:
    """Yield the requests that an identity (a SPIFFE ID or a person) filed, or that are for it."""
    for asked in timeline.within(window.since, window.until):
        if identity in (asked.requester, asked.beneficiary):
            yield asked


def decisions_of(
    timeline: Timeline, person: str, window: Window, findings: Mapping[int, Collection[str]]
) -> list[dict[str, Any]]:
    """Return what a person decided, in the order of the log."""
    found = [
        (decided.index, asked, decided)
        for asked in timeline.asked.values()
        for decided in asked.decisions
        if decided.person == person and window.holds(decided.time)
    ]
    return [
        {
            "after": decided.after,
            "beneficiary": asked.beneficiary,
            "credential": decided.credential,
            "entry": index,
            "findings": sorted(findings.get(index, ())),
            "request": asked.digest,
            "requester": asked.requester,
            "stands": asked.stands,
            "time": _time(decided.time),
            "verdict": decided.verdict,
            "version": asked.version,
        }
        for index, asked, decided in sorted(found, key=lambda item: item[0])
    ]


def asked_data(asked: Asked, said: Said, findings: Mapping[int, Collection[str]]) -> dict[str, Any]:
    """Return a request with its decisions and sessions. ``findings`` are codes by entry."""
    return {
        "approved": asked.by("approve"),
        "beneficiary": asked.beneficiary,
        "bytes": int(said.terms.bytes) if said.terms else None,
        "closed": _event(asked.closed),
        "denied": [*asked.by("deny"), *asked.by("veto")],
        "ends": str(said.terms.not_after) if said.terms else None,
        "entry": asked.index,
        "findings": sorted(_codes(asked.indexes, findings)),
        "granted": _event(asked.granted),
        "lease": asked.entry.terms,
        "purpose": said.request.purpose if said.request else None,
        "reason": said.request.reason if said.request else None,
        "request": asked.digest,
        "requester": asked.requester,
        "served": asked.served,
        "sessions": [_session(session) for session in asked.sessions.values()],
        "stands": asked.stands,
        "ticket": said.request.ticket if said.request else None,
        "time": _time(asked.time),
        "version": asked.version,
    }


def _session(session: Session) -> dict[str, Any]:
    return {
        "ceiling": session.ceiling,
        "ended": _event(session.ended),
        "entry": session.index,
        "files": session.files,
        "outcome": session.outcome or None,
        "served": session.served,
        "session": session.digest,
        "time": _time(session.time),
        "who": session.who,
    }


def _event(event: Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {"entry": event.index, "reason": event.reason or None, "time": _time(event.time), "who": event.who}


def _codes(indexes: Iterable[int], findings: Mapping[int, Collection[str]]) -> set[str]:
    return {code for index in indexes for code in findings.get(index, ())}


def _time(seconds: int) -> str:
    return str(Time(seconds))
