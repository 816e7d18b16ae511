"""Decisions, releases, and the grant that follows when a quorum is there."""

import hashlib

from custody.broker.context import Context
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope
from custody.documents.manifest import WRAPPED_SHARE
from custody.documents.release import Release
from custody.errors import ConflictError, DeniedError, FormatError, IntegrityError
from custody.rules.asking import ask, grant_question
from custody.rules.facts import find_request
from custody.rules.quorum import approvers, met
from custody.rules.signers import device_signature
from custody.rules.state import RequestState, State

__all__ = ["decide", "ready", "release_share", "try_grant"]


def decide(context: Context, envelope: Envelope) -> int:
    """Log a person's decision, grant when it completes a quorum, and return the index of the decision's entry.

    The very same envelope again returns the index of the first time: repeated, it counts once.
    """
    ledger = context.ledger
    decision = envelope.document(Decision)

    def log(state: State) -> int:
        found = find_request(state, decision.request)
        before = next((item for item in found.decisions if item.envelope == envelope), None)
        if before is not None:
            return int(before.entry.index)
        return ledger.append(
            "decision",
            actor=device_signature(envelope, decision.person, state.root),
            documents={"decision": envelope},
            version=found.request.version,
            content=found.request.content,
            sharing=decision.sharing,
            request=found.digest,
            terms=decision.terms,
            slot=decision.slot,
            verdict=decision.verdict,
            parent=found.entry,
        )

    index = ledger.together(log)
    try_grant(context, decision.request)
    return index


def ready(state: State, found: RequestState, now: int) -> list[str]:
    """Return the digests of the terms on which a quorum of approvals stands now; policy has not been asked."""
    if found.phase != "requested" or found.stopped:
        return []
    sharing = state.versions[found.request.version].sharing
    return [
        digest
        for digest, terms in found.terms.items()
        if now < terms.open_before and met(sharing, approvers(state, found, digest, now))
    ]


def try_grant(context: Context, request: str) -> bool:
    """Grant a request if the approvals that count now make a quorum and the policy agrees; tell whether it did."""
    ledger = context.ledger

    def grant(state: State) -> bool:
        found = find_request(state, request)
        now = ledger.clock()
        version = state.versions[found.request.version]
        for digest in ready(state, found, now):
            terms, persons = found.terms[digest], approvers(state, found, digest, now)
            try:
                ask(context.policy, grant_question(found.request, terms, persons, now))
            except DeniedError:
                continue  # the request stays as it is: what a policy forbids now (an hour, say) it may allow later
            ledger.append(
                "grant",
                version=found.request.version,
                content=found.request.content,
                sharing=version.sharing_digest,
                request=request,
                terms=digest,
                beneficiary=terms.beneficiary,
                persons=persons,
                parent=found.entry,
            )
            return True
        return False

    return ledger.together(grant)


def release_share(context: Context, envelope: Envelope, wrapped: bytes) -> int:
    """Log a person's release and keep the wrapped share until the lease is opened. Returns the index of the entry.

    What is kept is only what the person signed: the share's digest must be the one in the release.
    """
    ledger = context.ledger
    release = envelope.document(Release)
    if len(wrapped) != WRAPPED_SHARE:
        message = f"wrapped share: {len(wrapped)} bytes, expected {WRAPPED_SHARE}"
        raise FormatError(message)

    def log(state: State) -> int:
        found = find_request(state, release.request)
        recipient = next((item for item in release.recipients if item.broker == ledger.identity.id), None)
        if recipient is None:
            message = "the share is not for this broker"
            raise DeniedError(message)
        if hashlib.sha256(wrapped).hexdigest() != recipient.wrapped:
            message = "the wrapped share is not the one that was signed"
            raise IntegrityError(message)
        if found.phase == "open":
            message = "the lease is open already; the share is not needed"
            raise ConflictError(message)
        party = device_signature(envelope, release.person, state.root)
        sent = found.releases.get(release.slot)
        if sent is not None and (sent.release, sent.credential) == (release, party.credential):
            return int(sent.entry.index)  # it comes again, since its answer was lost; a document is logged once
        return ledger.append(
            "release",
            actor=party,
            documents={"release": envelope},
            request=found.digest,
            terms=release.terms,
            sharing=release.sharing,
            release_key=recipient.release_key,
            slot=release.slot,
            parent=found.entry,
            also=lambda transaction: transaction.put_share(found.digest, str(release.slot), wrapped),
        )

    return ledger.together(log)
