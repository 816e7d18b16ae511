"""Requests and the release keys that brokers make for them."""

import hashlib

from custody.documents.actor import Broker, Person
from custody.documents.release import ReleaseKey
from custody.documents.request import Request
from custody.documents.terms import Terms, check_within
from custody.errors import ConflictError, DeniedError, NotFoundError
from custody.rules.facts import Facts, find_request
from custody.rules.quorum import barred, reachable
from custody.rules.state import RequestState, State, VersionState

__all__ = ["check_request", "release_key", "request"]


def request(facts: Facts) -> None:
    """A request, with the terms that equal it and the release key of the broker that takes it."""
    state, entry = facts.state, facts.entry
    document, envelope = facts.document(Request)
    terms, terms_envelope = facts.document(Terms)
    key, key_envelope = facts.document(ReleaseKey)
    facts.require(entry.request == envelope.digest, "it names another request")
    facts.require(entry.terms == terms_envelope.digest, "it names other terms")
    facts.require(entry.release_key == key_envelope.digest, "it names another release key")
    facts.require(entry.version == document.version and entry.content == document.content, "it names another version")
    facts.require(entry.beneficiary == document.beneficiary, "it names another beneficiary")
    facts.require(document.deployment == terms.deployment == key.deployment == state.deployment, "other deployment")
    if envelope.digest in state.requests:
        message = "this request was filed before"
        raise ConflictError(message, hint="sign a new one")
    facts.require_actor(facts.signed(envelope, document.requester))
    facts.fresh(document.created, "the request")
    version = check_request(state, document, entry.time)
    check_within(terms, document, envelope.digest)
    facts.require(entry.sharing == version.sharing_digest, "it names another sharing")
    facts.require(terms.issuer == Broker(broker=entry.broker), "the first terms are not this broker's")
    facts.signed(terms_envelope, terms.issuer)
    facts.require(key.request == envelope.digest and key.broker == entry.broker, "the release key is for another")
    facts.signed(key_envelope, Broker(broker=key.broker))
    fresh = _fresh_key(facts, key)
    out = barred(state.root, document, version.sharing)
    if not reachable(version.sharing, out):
        message = f"no quorum can approve this: {', '.join(sorted(out))} cannot decide on it"
        raise DeniedError(
            message, hint="requester, owners of the beneficiary and persons gone from the trust root are left out"
        )
    state.used.add(fresh)
    state.requests[envelope.digest] = state.live[envelope.digest] = RequestState(
        digest=envelope.digest,
        request=document,
        envelope=envelope,
        terms={terms_envelope.digest: terms},
        terms_envelopes={terms_envelope.digest: terms_envelope},
        release_key=key,
        release_key_digest=key_envelope.digest,
        release_key_envelope=key_envelope,
        entry=facts.place,
        time=entry.time,
    )
    state.leases[terms_envelope.digest] = envelope.digest


def check_request(state: State, document: Request, now: int) -> VersionState:
    """Check what a request asks against what there is. Raises ``DeniedError`` or ``NotFoundError`` naming the field."""
    if document.deployment != state.deployment:
        message = f"the request is for deployment {document.deployment}"
        raise DeniedError(message)
    if document.kind != "open":
        message = f"requests of kind {document.kind} are not served by this version of Custody"
        raise DeniedError(message)
    version = state.versions.get(document.version)
    if version is None or version.content_digest != document.content:
        message = f"there is no version {document.version} with that content"
        raise NotFoundError(message, hint="custody versions lists what there is")
    count = len(version.content.files)
    if document.files[-1].last >= count:
        message = f"files: {document.version} has files 0 to {count - 1}"
        raise DeniedError(message)
    size = version.content.size_of(document.files)
    most = max(1, size * document.sessions)
    if document.bytes > most:
        message = f"bytes: {document.bytes} asked, but {document.sessions} sessions of these files are {most}"
        raise DeniedError(message, hint="ask for at most the size of the files times the sessions")
    if document.open_before <= now:
        message = "open_before: the start window is over"
        raise DeniedError(message)
    root = state.root
    if not f"{document.beneficiary}/".startswith(f"spiffe://{root.trust_domain}/"):
        message = f"beneficiary: not in the trust domain {root.trust_domain}"
        raise DeniedError(message)
    if document.beneficiary in root.identities:
        message = f"beneficiary: {document.beneficiary} is the identity of a person or broker, not a workload"
        raise DeniedError(message)
    if not root.owners_of(document.beneficiary):
        message = f"beneficiary: {document.beneficiary} has no owner in the trust root"
        raise DeniedError(message, hint="name persons who answer for it under owners in the trust root")
    if not isinstance(document.requester, Person) and document.requester.spiffe != document.beneficiary:
        message = "requester: a workload asks only for itself"
        raise DeniedError(message)
    return version


def release_key(facts: Facts) -> None:
    """A broker that starts again makes a new release key for a live request; shares for the old one are void."""
    state, entry = facts.state, facts.entry
    key, envelope = facts.document(ReleaseKey)
    found = find_request(state, entry.request)
    waiting = found.phase in ("requested", "granted") and not found.stopped and found.opening is None
    facts.require(waiting, "the request is not waiting for shares")
    facts.require(entry.release_key == envelope.digest, "it names another release key")
    facts.require(key.deployment == state.deployment, "it is of another deployment")
    facts.require(key.request == found.digest and key.broker == entry.broker, "the release key is for another")
    facts.require_actor(facts.signed(envelope, Broker(broker=key.broker)))
    facts.require_parent(found.entry)
    state.used.add(_fresh_key(facts, key))
    found.release_key, found.release_key_digest, found.release_key_envelope = key, envelope.digest, envelope
    found.release_key_lost = False
    found.releases.clear()


def _fresh_key(facts: Facts, key: ReleaseKey) -> str:
    """Return the digest of the X-Wing key itself. A key that served another request could open its shares as well."""
    digest = hashlib.sha256(key.xwing).hexdigest()
    facts.use_once(digest, "release key")
    return digest
