"""Who counts, and whether it is enough. Quorums count persons in slots of the sharing, never keys or signatures."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from custody.documents.actor import Person
from custody.documents.request import Request
from custody.documents.root import Root
from custody.documents.sharing import Sharing
from custody.rules.state import RequestState, State

__all__ = ["approvers", "barred", "counted", "deniers", "excluded", "met", "reachable"]


def excluded(root: Root, request: Request) -> frozenset[str]:
    """Who may not decide: the requester, and the owners of beneficiary and requesting workload."""
    barred = set(root.owners_of(request.beneficiary))
    if isinstance(request.requester, Person):
        barred.add(request.requester.person)
    else:
        barred |= root.owners_of(request.requester.spiffe)
    return frozenset(barred)


def barred(root: Root, request: Request, sharing: Sharing) -> frozenset[str]:
    """Which holders of slots cannot decide: those who may not, and those whom the root no longer names."""
    gone = {holder.person for holder in sharing.slots().values() if root.person(holder.person) is None}
    return excluded(root, request) | gone


def met(sharing: Sharing, persons: Iterable[str]) -> bool:
    """Tell whether distinct ``persons`` meet the threshold of every group of the sharing."""
    present = set(persons)
    return all(
        len(present.intersection(holder.person for holder in group.slots)) >= group.threshold
        for group in sharing.groups
    )


def reachable(sharing: Sharing, out: AbstractSet[str]) -> bool:
    """Tell whether a quorum is possible without the persons in ``out``."""
    return met(sharing, {holder.person for holder in sharing.slots().values()} - out)


def counted(state: State, request: RequestState, terms: str, now: int) -> dict[str, str]:
    """Verdicts by person on these terms that count now: under the root and sharing in force, and not expired."""
    sharing = state.versions[request.request.version].sharing_digest
    return {
        item.decision.person: item.decision.verdict
        for item in request.decisions
        if item.decision.terms == terms
        and item.decision.root == state.root_digest
        and item.decision.sharing == sharing
        and now < item.decision.expires
    }


def approvers(state: State, request: RequestState, terms: str, now: int) -> tuple[str, ...]:
    """Persons whose approval of these terms counts now, sorted."""
    return tuple(sorted(who for who, verdict in counted(state, request, terms, now).items() if verdict == "approve"))


def deniers(state: State, request: RequestState, terms: str, now: int) -> frozenset[str]:
    """Persons whose denial of these terms counts now."""
    return frozenset(who for who, verdict in counted(state, request, terms, now).items() if verdict == "deny")
