"""Stops and closes. A stop acts at once; the close that follows says why the lease is over."""

from custody.documents.actor import Person
from custody.documents.stop import Stop
from custody.errors import ConflictError, DeniedError
from custody.rules.facts import Facts, find_lease, find_request
from custody.rules.quorum import barred, deniers, reachable
from custody.rules.state import RequestState, State

__all__ = ["close", "may_stop", "overdue", "stop"]

_REASON = {"withdraw": "withdrawn", "return": "returned", "revoke": "revoked"}


def may_stop(state: State, found: RequestState, document: Stop, actor: str) -> None:
    """Check who stops. Raises ``DeniedError``.

    The requester withdraws, the beneficiary returns, and anyone who answers for the version or the workload revokes:
    its custodians, the owners, the requester, governance.
    """
    request = found.request
    requester = f"person:{request.requester.person}" if isinstance(request.requester, Person) else request.beneficiary
    version = state.versions[request.version]
    governance = state.root.roster("governance")
    answering = {holder.person for holder in version.sharing.slots().values()} | state.root.owners_of(
        request.beneficiary
    )
    answering |= set(governance.persons if governance else ())
    allowed = {
        "withdraw": {requester},
        "return": {request.beneficiary},
        "revoke": {requester} | {f"person:{person}" for person in answering},
    }[document.action]
    if actor not in allowed:
        message = f"{actor} may not {document.action} this"
        raise DeniedError(message)
    if document.action != "withdraw" and found.granted != document.target:
        # Before the grant one custodian must not be able to end what the others may still approve.
        message = "these terms are not granted: there is no lease to end"
        raise DeniedError(message, hint="deny the request instead")


def stop(facts: Facts) -> None:
    """Somebody who may stops a request or lease."""
    state, entry = facts.state, facts.entry
    document, envelope = facts.document(Stop)
    facts.require(document.deployment == state.deployment, "it is of another deployment")
    withdraw = document.action == "withdraw"
    found = find_request(state, document.target) if withdraw else find_lease(state, document.target)
    facts.require(entry.request == found.digest, "it stops another request")
    facts.require(entry.reason == _REASON[document.action], "it names another action")
    facts.require(entry.terms == (None if withdraw else document.target), "it stops another lease")
    facts.require_parent(found.entry)
    facts.use_once(envelope.digest, "stop")
    party = facts.signed(envelope, document.actor)
    facts.require_actor(party)
    may_stop(state, found, document, party.id)
    if found.phase == "closed":
        message = f"it is closed already: {found.reason}"
        raise ConflictError(message)
    state.used.add(envelope.digest)
    # The first stop names the reason; later ones are on record too, so that each tool gets its receipt.
    found.stopped = found.stopped or _REASON[document.action]


def overdue(state: State, found: RequestState, now: int) -> str:
    """Say why a request is over now, or return an empty string: ``denied``, ``expired``, ``budget``, or a stop."""
    if found.phase == "closed":
        return ""
    if found.stopped:
        return found.stopped
    if found.phase == "requested":
        version = state.versions[found.request.version]
        out = barred(state.root, found.request, version.sharing)
        if all(not reachable(version.sharing, out | deniers(state, found, terms, now)) for terms in found.terms):
            return "denied"
        return "expired" if now >= found.request.open_before else ""
    terms = found.lease
    if now >= terms.not_after or (now >= terms.open_before and not found.opened_before):
        return "expired"
    used_up = found.spent >= terms.bytes or found.begun >= terms.sessions
    return "budget" if used_up and not found.live_sessions else ""


def close(facts: Facts) -> None:
    """A request or lease is over; or, with ``broker-lost``, an open lease goes back to granted: its keys are gone."""
    state, entry = facts.state, facts.entry
    found = find_request(state, entry.request)
    facts.require(entry.terms == (found.granted or None), "it closes another lease")
    facts.require_parent(found.entry)
    facts.require(found.phase != "closed", "it is closed already")
    if entry.reason == "broker-lost":
        facts.require(found.phase == "open" or found.opening is not None, "the lease is not open")
        _lose(found)
        return
    facts.require(entry.reason == overdue(state, found, entry.time), f"the reason {entry.reason} does not hold")
    found.phase, found.reason = "closed", str(entry.reason)
    found.releases.clear()
    found.opening = None
    found.lose_sessions()
    del state.live[found.digest]


def _lose(found: RequestState) -> None:
    """Nobody knows what live sessions were served: each counts its whole ceiling. The release key's seed is gone too:
    no share may be sent to it any more.
    """
    found.phase = "granted"
    found.opening = None
    found.release_key_lost = True
    found.releases.clear()
    found.lose_sessions()
