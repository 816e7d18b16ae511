"""Until when it could be granted what an entry grants: a broker that states an old time is held to the witnesses."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from custody.entries.entry import Entry
from custody.rules.quorum import approvers, met
from custody.rules.state import State

__all__ = ["Deadline", "deadline"]


class Deadline(NamedTuple):
    """POSIX seconds, and what was over from then on, in words."""

    at: int
    what: str


def deadline(state: State, entry: Entry) -> Deadline | None:
    """Return it for a good entry that was just applied to ``state``; ``None`` for one that grants nothing."""
    of = _DEADLINES.get(entry.type)
    return of(state, entry) if of else None


def _grant(state: State, entry: Entry) -> Deadline:
    found = state.requests[entry.request or ""]
    sharing = state.versions[found.request.version].sharing
    window = Deadline(int(found.lease.open_before), "the start window of the terms ended")
    for at in sorted(int(item.decision.expires) for item in found.decisions if item.decision.terms == entry.terms):
        if entry.time < at < window.at and not met(sharing, approvers(state, found, found.granted, at)):
            return Deadline(at, "the approvals that count were no quorum any more")
    return window


def _opening(state: State, entry: Entry) -> Deadline:
    found = state.requests[entry.request or ""]
    if found.opened_before:
        return Deadline(int(found.lease.not_after), "the lease ended")
    return Deadline(int(min(found.lease.open_before, found.lease.not_after)), "the lease could not be opened any more")


def _session(state: State, entry: Entry) -> Deadline:
    return Deadline(int(state.requests[entry.request or ""].lease.not_after), "the lease ended")


_DEADLINES: Final[Mapping[str, Callable[[State, Entry], Deadline]]] = {
    "grant": _grant,
    "opening-intent": _opening,
    "session-intent": _session,
}
