"""What the policy is asked before a request, a grant and a session, and what it is told.

The broker asks before it writes the entry; the audit asks once more, from the entry and the documents behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from custody.documents.request import Request
from custody.documents.terms import Terms
from custody.entries.entry import Entry
from custody.ports import Facts, Policy
from custody.rules.state import State

__all__ = ["ASKED", "Question", "ask", "grant_question", "question_of", "request_question", "session_question"]

ASKED: Final = frozenset({"request", "grant", "session-intent"})
"""Entries before which the policy is asked."""

_LARGEST: Final = 2**62  # what Cedar's Long holds is a little more


@dataclass(frozen=True, slots=True)
class Question:
    """Whether ``principal`` (a person's id or a SPIFFE ID) may do ``action`` to the version ``resource``."""

    action: str
    principal: str
    resource: str
    facts: Facts


def ask(policy: Policy, question: Question) -> None:
    """Return when the policy allows it; raise ``DeniedError`` otherwise."""
    policy.check(question.action, question.principal, question.resource, question.facts)


def request_question(request: Request, party: str, now: int) -> Question:
    """Whether this may be put before the custodians. ``party`` is who signed, as entries name it."""
    return Question("request", party.removeprefix("person:"), str(request.version), _facts(request, now, ()))


def grant_question(request: Request, terms: Terms, persons: Sequence[str], now: int) -> Question:
    """Whether these terms may become a lease, now that the approvals of ``persons`` are a quorum."""
    facts = {**_facts(request, now, persons), "mode": str(terms.mode)}
    return Question("grant", str(terms.beneficiary), str(request.version), facts)


def session_question(request: Request, terms: Terms, ceiling: int) -> Question:
    """Whether the beneficiary may open a session of at most ``ceiling`` bytes."""
    facts: Facts = {"purpose": str(request.purpose), "mode": str(terms.mode), "bytes": int(ceiling)}
    return Question("session", str(terms.beneficiary), str(request.version), facts)


def question_of(state: State, entry: Entry, now: int) -> Question | None:
    """Return what had to be asked for a good entry that was just applied to ``state``; ``None`` where nothing had."""
    if entry.type not in ASKED:
        return None
    found = state.requests[entry.request or ""]
    if entry.type == "request":
        return request_question(found.request, entry.actor.id if entry.actor else "", now)
    if entry.type == "grant":
        return grant_question(found.request, found.lease, entry.persons, now)
    return session_question(found.request, found.lease, int(entry.ceiling or 0))


def _facts(request: Request, now: int, approvers: Sequence[str]) -> Facts:
    """What the policy sees of a request; sizes in bytes, times in seconds, ``hour`` in UTC."""
    return {
        "beneficiary": str(request.beneficiary),
        "purpose": str(request.purpose),
        "mode": str(request.mode),
        "duration": min(int(request.duration), _LARGEST),
        "bytes": min(int(request.bytes), _LARGEST),
        "sessions": min(int(request.sessions), _LARGEST),
        "hour": datetime.fromtimestamp(now, UTC).hour,
        "approvers": tuple(approvers),
    }
