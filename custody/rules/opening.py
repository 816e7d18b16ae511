"""Opening a granted lease, and the sessions that jobs have of it."""

from custody.documents.request import Ranges, is_subset
from custody.documents.session import OpenSession
from custody.errors import DeniedError
from custody.rules.deciding import cool_off_over
from custody.rules.facts import Facts, find_lease, find_request
from custody.rules.quorum import met
from custody.rules.state import RequestState, SessionState, State

__all__ = [
    "check_open",
    "check_window",
    "opening_intent",
    "opening_outcome",
    "releasers",
    "session_intent",
    "session_outcome",
    "session_size",
]


def releasers(state: State, found: RequestState) -> tuple[str, ...]:
    """Persons whose share for the granted terms and the sharing in force is at hand, sorted."""
    wanted = (found.granted, state.versions[found.request.version].sharing_digest)
    shares = [item.release for item in found.releases.values()]
    return tuple(sorted(release.person for release in shares if (release.terms, release.sharing) == wanted))


def check_window(found: RequestState, now: int) -> None:
    """Check that a granted lease may be opened now. Raises ``DeniedError`` saying when it could."""
    terms = found.lease
    if now < terms.not_before:
        message = f"the lease begins only at {terms.not_before}"
        raise DeniedError(message)
    if now >= terms.not_after:
        message = f"the lease ended at {terms.not_after}"
        raise DeniedError(message)
    if now >= terms.open_before and not found.opened_before:
        message = f"the lease had to be opened before {terms.open_before}"
        raise DeniedError(message)


def opening_intent(facts: Facts) -> None:
    """The broker is about to rebuild the key: granted, inside the window, and a full quorum of shares at hand."""
    state, entry = facts.state, facts.entry
    found = _granted(facts)
    facts.require(found.phase == "granted" and not found.stopped, f"the request is {found.stopped or found.phase}")
    facts.require(found.opening is None, "an opening is under way")
    facts.require(entry.broker == found.release_key.broker, "the release key is another broker's")
    version = state.versions[found.request.version]
    facts.require(entry.version == found.request.version and entry.content == found.request.content, "other version")
    facts.require(entry.sharing == version.sharing_digest, "it names another sharing")
    facts.require(entry.release_key == found.release_key_digest, "it names another release key")
    facts.require_parent(found.grant_entry)
    persons = releasers(state, found)
    facts.require(entry.persons == persons, "it does not name the persons whose shares are at hand")
    check_window(found, entry.time)
    if not cool_off_over(state, found, entry.time):  # a newer root may have brought one in after the shares came
        message = "the cool-off is not over"
        raise DeniedError(message)
    if not met(version.sharing, persons):
        message = f"shares of {', '.join(persons) or 'nobody'} are at hand, needed: {version.sharing.quorum_text()}"
        raise DeniedError(message, hint="custodians who approved send theirs with custody release")
    found.opening = facts.place


def opening_outcome(facts: Facts) -> None:
    """What came of it. A failure names the slot whose share was bad; that share is void, the grant stands."""
    state, entry = facts.state, facts.entry
    found = _granted(facts)
    facts.require(found.opening is not None, "no opening is under way")
    facts.require_parent(found.opening)
    facts.require(entry.persons in ((), releasers(state, found)), "it names other persons than the intent")
    if entry.outcome == "ok":
        facts.require(entry.slot is None and entry.reason is None, "a success with a reason or a bad slot")
        commit = state.versions[found.request.version].content.key_commit
        facts.require(entry.key_commit == commit, "the key that was rebuilt is not the version's")
        found.phase, found.opened_before = "open", True
    else:
        facts.require(entry.reason is not None and entry.key_commit is None, "a failure without a reason")
        if entry.slot is not None:
            found.releases.pop(entry.slot, None)
    found.opening = None


def check_open(found: RequestState, document: OpenSession, size: int, now: int) -> None:
    """Check a session against its lease: identity, files, window, sessions, budget, mode. Raises ``DeniedError``.

    ``size`` is the plaintext size of the files asked for, in bytes (``session_size``).
    """
    terms = found.lease
    if document.workload.spiffe != terms.beneficiary:
        message = f"the lease is for {terms.beneficiary}"
        raise DeniedError(message)
    if not is_subset(document.files, terms.files):
        message = "files: not all of them are in the lease"
        raise DeniedError(message)
    check_window(found, now)
    if found.begun >= terms.sessions:
        message = f"all {terms.sessions} sessions of the lease are used"
        raise DeniedError(message, hint="file a new request")
    left = terms.bytes - found.spent
    if document.bytes > left:
        message = f"bytes: {document.bytes} asked, {left} left in the lease"
        raise DeniedError(message, hint="ask for less, or file a new request")
    if (terms.mode == "direct") != (document.xwing is not None):
        message = f"xwing: the lease is of mode {terms.mode}"
        raise DeniedError(message)
    if terms.mode == "direct" and document.bytes != max(1, size):
        message = f"bytes: direct mode counts the whole files, {max(1, size)} bytes"
        raise DeniedError(message)


def session_size(state: State, found: RequestState, files: Ranges) -> int:
    """Return the plaintext size of files of a lease in bytes; 0 where the lease does not have all of them."""
    if not is_subset(files, found.lease.files):  # the sum would look beyond the content
        return 0
    return state.versions[found.request.version].content.size_of(files)


def session_intent(facts: Facts) -> None:
    """A job opens a session; its ceiling counts as spent until the outcome says less."""
    state, entry = facts.state, facts.entry
    document, envelope = facts.document(OpenSession)
    found = find_lease(state, entry.terms)
    facts.require(entry.request == found.digest and found.granted == entry.terms, "it is of another lease")
    facts.require(document.deployment == state.deployment, "it is of another deployment")
    facts.require(document.lease == entry.terms, "it opens another lease")
    facts.require(entry.session == envelope.digest, "it names another session")
    facts.require(entry.files == document.files and entry.ceiling == document.bytes, "it names other files or bytes")
    facts.require((entry.mode == "direct") == (document.xwing is not None), "it names another mode")
    facts.require(entry.beneficiary == document.workload.spiffe, "it names another beneficiary")
    facts.require(entry.version == found.request.version and entry.content == found.request.content, "other version")
    facts.require_parent(found.grant_entry)
    if found.phase != "open" or found.stopped:
        message = f"the lease is {'being stopped' if found.stopped else found.phase}"
        raise DeniedError(message)
    facts.use_once(envelope.digest, "session")
    facts.require_actor(facts.signed(envelope, document.workload))
    facts.fresh(document.issued, "the open document")
    check_open(found, document, session_size(state, found, document.files), entry.time)
    state.used.add(envelope.digest)
    found.begin_session(envelope.digest, SessionState(document.files, facts.place, int(document.bytes)))


def session_outcome(facts: Facts) -> None:
    """How a session ended, and what it was served: never more than its ceiling, and only its files.

    In direct mode a job that was given keys has them for good: each file counts whole, whatever was fetched. Where the
    session ended before any key left, nothing does.
    """
    state, entry = facts.state, facts.entry
    found = find_lease(state, entry.terms)
    facts.require(entry.request == found.digest, "it is of another request")
    name = entry.session or ""
    facts.require(name in found.live_sessions, "there is no such session open")
    session = found.sessions[name]
    facts.require_parent(session.entry)
    files = tuple(item.range for item in entry.served)
    facts.require(is_subset(files, session.files), "it served files outside the session")
    served = sum(item.bytes for item in entry.served)
    facts.require(served <= session.ceiling, "it served more than the session's ceiling")
    if found.lease.mode == "direct":
        whole = session_size(state, found, session.files)
        facts.require(served == whole or (served == 0 and entry.outcome != "ok"), "direct mode serves whole files")
    found.end_session(name, served)


def _granted(facts: Facts) -> RequestState:
    found = find_request(facts.state, facts.entry.request)
    facts.require(bool(found.granted) and found.granted == facts.entry.terms, "these terms were not granted")
    return found
