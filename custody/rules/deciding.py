"""Decisions, releases and the grant."""

from custody.documents.decision import Decision
from custody.documents.release import Release
from custody.documents.root import Root
from custody.documents.sharing import Sharing
from custody.errors import ConflictError, DeniedError, IntegrityError
from custody.rules.facts import Facts, find_request
from custody.rules.quorum import approvers, excluded, met
from custody.rules.signers import device_signature
from custody.rules.state import Decided, Released, RequestState, State

__all__ = ["cool_off_over", "decision", "grant", "release", "release_mode"]


def decision(facts: Facts) -> None:
    """One person's decision on one set of terms. The first one per person and terms stands until it expires."""
    state, entry = facts.state, facts.entry
    document, envelope = facts.document(Decision)
    found = find_request(state, entry.request)
    version = state.versions[found.request.version]
    facts.require(document.deployment == state.deployment, "it is of another deployment")
    facts.require(document.request == found.digest, "it decides on another request")
    facts.require(entry.terms == document.terms and document.terms in found.terms, "it decides on other terms")
    facts.require(entry.version == found.request.version and entry.content == found.request.content, "other version")
    facts.require(entry.sharing == document.sharing and entry.slot == document.slot, "it names another slot")
    facts.require(entry.verdict == document.verdict, "it names another verdict")
    facts.require_parent(found.entry)
    facts.require_actor(device_signature(envelope, document.person, state.root))
    if document.root != state.root_digest or document.sharing != version.sharing_digest:
        message = "the decision was made under another trust root or sharing"
        raise DeniedError(message, hint="look at the request again and decide again")
    _check_slot(version.sharing, document)
    if document.person in excluded(state.root, found.request):
        message = f"{document.person} may not decide: requester or owner of the beneficiary"
        raise DeniedError(message)
    if any(
        (item.decision.person, item.decision.terms, item.decision.root, item.decision.sharing)
        == (document.person, document.terms, document.root, document.sharing)
        and entry.time < item.decision.expires
        for item in found.decisions
    ):
        message = f"{document.person} has decided on these terms already"
        raise ConflictError(message, hint="the first decision stands; end a lease with: custody lease revoke")
    facts.not_from_the_future(document.issued, "the decision")
    if entry.time >= document.expires:
        message = f"the decision of {document.person} has expired"
        raise DeniedError(message, hint="decide again")
    if found.stopped:
        message = f"the request is over: {found.stopped}"
        raise ConflictError(message)
    if document.verdict == "veto":
        _check_veto(found, version.sharing, state, entry.time)
        found.stopped = "denied"  # from here on nothing opens it, whether or not the broker gets to close it
    elif found.phase != "requested":
        message = f"the request is {found.phase} already"
        raise ConflictError(message)
    found.decisions.append(Decided(document, envelope, facts.place, entry.time))


def release(facts: Facts) -> None:
    """A person's wrapped share for exactly these terms and this release key. A later one replaces an earlier one."""
    state, entry = facts.state, facts.entry
    document, envelope = facts.document(Release)
    found = find_request(state, entry.request)
    version = state.versions[found.request.version]
    facts.require(document.deployment == state.deployment, "it is of another deployment")
    facts.require(document.request == found.digest, "it is for another request")
    facts.require(entry.terms == document.terms and document.terms in found.terms, "it is for other terms")
    facts.require(entry.sharing == document.sharing and entry.slot == document.slot, "it names another slot")
    facts.require_parent(found.entry)
    party = device_signature(envelope, document.person, state.root)
    facts.require_actor(party)
    _check_slot(version.sharing, document)
    if document.sharing != version.sharing_digest:
        message = "the release is for another sharing"
        raise DeniedError(message)
    recipient = next((item for item in document.recipients if item.broker == found.release_key.broker), None)
    if (
        recipient is None
        or found.release_key_lost
        or recipient.release_key != found.release_key_digest
        or entry.release_key != found.release_key_digest
    ):
        message = "the share was released to a release key that is no longer in use"
        raise DeniedError(message, hint="the broker was restarted; run custody release again")
    if found.phase not in ("requested", "granted") or found.stopped:
        message = f"the request is {found.stopped or found.phase}"
        raise DeniedError(message)
    if found.opening is not None:
        message = "the lease is being opened with the shares that are at hand"
        raise ConflictError(message, hint="if that fails, send the share again")
    if found.granted and document.terms != found.granted:
        message = "other terms were granted"
        raise DeniedError(message)
    if entry.time >= found.terms[document.terms].not_after:
        message = "the terms are over"
        raise DeniedError(message)
    approved = found.granted_by if found.granted else approvers(state, found, document.terms, entry.time)
    if document.person not in approved:
        message = f"{document.person} has not approved these terms, or the approval does not count any more"
        raise DeniedError(message)
    if release_mode(state.root, version.sharing) == "after-quorum" and not cool_off_over(state, found, entry.time):
        message = "shares of this roster are released only after the grant and the cool-off"
        raise DeniedError(message)
    facts.not_from_the_future(document.issued, "the release")
    found.releases[document.slot] = Released(document, party.credential, facts.place)


def grant(facts: Facts) -> None:
    """The first terms to reach a quorum of distinct persons win."""
    state, entry = facts.state, facts.entry
    found = find_request(state, entry.request)
    version = state.versions[found.request.version]
    terms = entry.terms or ""
    facts.require(found.phase == "requested" and not found.stopped, f"the request is {found.stopped or found.phase}")
    facts.require(terms in found.terms, "it grants other terms")
    facts.require(entry.version == found.request.version and entry.content == found.request.content, "other version")
    facts.require(entry.sharing == version.sharing_digest, "it names another sharing")
    facts.require(entry.beneficiary == found.request.beneficiary, "it names another beneficiary")
    facts.require_parent(found.entry)
    persons = approvers(state, found, terms, entry.time)
    facts.require(entry.persons == persons, "it does not name the persons whose approvals count")
    if not met(version.sharing, persons):
        message = f"there is no quorum on these terms: {version.sharing.quorum_text()}"
        raise DeniedError(message)
    if not state.root.owners_of(found.request.beneficiary):
        message = f"{found.request.beneficiary} has no owner in the trust root any more"
        raise DeniedError(message, hint="name persons who answer for it under owners in the trust root")
    if entry.time >= found.terms[terms].open_before:
        message = "the start window of these terms is over"
        raise DeniedError(message)
    found.phase, found.granted, found.granted_at, found.grant_entry = "granted", terms, entry.time, facts.place
    found.granted_by = persons
    # What came with an approval that no longer counts, or for other terms, does not open this lease.
    found.releases = {
        slot: item
        for slot, item in found.releases.items()
        if item.release.terms == terms and item.release.person in persons
    }


def release_mode(root: Root, sharing: Sharing) -> str:
    """When shares of this sharing's roster travel. A roster that is gone from the root counts as the stricter mode."""
    roster = root.roster(sharing.roster)
    return roster.release if roster else "after-quorum"


def cool_off_over(state: State, request: RequestState, now: int) -> bool:
    """Tell whether the request is granted and the roster's cool-off has passed."""
    roster = state.root.roster(state.versions[request.request.version].sharing.roster)
    return bool(request.granted) and now >= request.granted_at + (roster.cool_off if roster else 0)


def _check_slot(sharing: Sharing, document: Decision | Release) -> None:
    if sharing.slot_of(document.person) != document.slot:
        message = f"{document.person} does not hold slot {document.slot} of {sharing.version}"
        raise IntegrityError(message)


def _check_veto(found: RequestState, sharing: Sharing, state: State, now: int) -> None:
    roster = state.root.roster(sharing.roster)
    if found.phase != "granted" or roster is None or now >= found.granted_at + roster.cool_off:
        message = "a veto is possible only between the grant and the end of the cool-off"
        raise DeniedError(message, hint="before the grant, deny; after the cool-off, revoke")
