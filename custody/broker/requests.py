"""Filing requests, and looking at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from custody.broker.context import Context, Peer, known_peer
from custody.crypto.secret import SecretBytes
from custody.documents.actor import Broker, Person, actor_name
from custody.documents.dsse import Envelope, sign
from custody.documents.release import ReleaseKey
from custody.documents.request import Request
from custody.documents.terms import Terms
from custody.errors import NotFoundError
from custody.ports import JournalTransaction
from custody.rules.asking import ask, request_question
from custody.rules.quorum import excluded
from custody.rules.requesting import check_request
from custody.rules.signers import verify_actor
from custody.rules.state import RequestState, State
from custody.values import Time

__all__ = [
    "RequestView",
    "concerns",
    "list_requests",
    "log_release_key",
    "make_release_key",
    "submit",
    "view",
]


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as its parties see it: phase, and every entry (by index) and document but those of sessions."""

    request: str
    phase: str
    reason: str
    places: Sequence[int]
    envelopes: Sequence[Envelope]
    bytes_spent: int
    sessions_used: int


def submit(context: Context, peer: Peer, envelope: Envelope) -> RequestView:
    """File a request: check it, ask the policy, make terms and a release key, and log all three.

    The same envelope again returns the same view, so that a client may repeat itself after a broken connection.
    """
    ledger = context.ledger
    digest = envelope.digest
    request = envelope.document(Request)
    with ledger.reading() as state:
        known_peer(state, peer)
        known = digest in state.requests
        if not known:
            party = verify_actor(envelope, request.requester, state.root, ledger.clock())
            sharing = check_request(state, request, ledger.clock()).sharing_digest
            ask(context.policy, request_question(request, party.id, ledger.clock()))
    if known:
        return view(context, peer, digest)
    broker = Broker(broker=ledger.identity.id)
    terms = Terms(
        deployment=request.deployment,
        request=digest,
        version=request.version,
        content=request.content,
        beneficiary=request.beneficiary,
        files=request.files,
        purpose=request.purpose,
        mode=request.mode,
        sessions=request.sessions,
        bytes=request.bytes,
        not_before=request.not_before,
        open_before=request.open_before,
        not_after=Time(request.not_after),
        created=Time(ledger.clock()),
        issuer=broker,
    )
    terms_envelope = sign(terms, [ledger.identity.signer])
    seed, key = make_release_key(context, request.deployment, digest)
    with ledger.reading() as state:
        if digest in state.requests:  # the same envelope was faster on another connection: its seed is the one in use
            seed.close()
        else:
            context.vault.put_seed(digest, seed)  # first: a stop that finds the request must find what to wipe
            try:
                ledger.append(
                    "request",
                    actor=party,
                    documents={"request": envelope, "terms": terms_envelope, "release-key": key},
                    version=request.version,
                    content=request.content,
                    sharing=sharing,
                    request=digest,
                    terms=terms_envelope.digest,
                    release_key=key.digest,
                    beneficiary=request.beneficiary,
                )
            except BaseException:
                context.vault.drop_seed(digest)
                raise
    return view(context, peer, digest)


def make_release_key(context: Context, deployment: str, request: str) -> tuple[SecretBytes, Envelope]:
    """Make a fresh release key for a request; return the seed, for the vault, and the signed public key."""
    seed, public = context.opener.keygen()
    ledger = context.ledger
    document = ReleaseKey(
        deployment=deployment,
        request=request,
        broker=ledger.identity.id,
        xwing=public,
        created=Time(ledger.clock()),
    )
    return seed, sign(document, [ledger.identity.signer])


def log_release_key(context: Context, deployment: str, request: str) -> None:
    """Make and log a new release key for a request that waits for shares; those sent to an older one are forgotten."""
    seed, key = make_release_key(context, deployment, request)
    context.vault.put_seed(request, seed)
    ledger = context.ledger
    with ledger.reading() as state:
        ledger.append(
            "release-key",
            actor=ledger.identity.party,
            documents={"release-key": key},
            request=request,
            release_key=key.digest,
            parent=state.requests[request].entry,
            also=partial(JournalTransaction.delete_shares, request=request),
        )


def view(context: Context, peer: Peer, digest: str) -> RequestView:
    """Return a request. Whoever it does not concern is told that there is none.

    It is shown to nobody before the newest of its entries is published.
    """
    ledger = context.ledger
    with ledger.reading() as state:
        found = state.requests.get(digest)
        if found is None or not concerns(state, found, peer):
            message = f"there is no request {digest[:16]}…"
            raise NotFoundError(message)
        phase, reason = found.phase, found.reason or found.stopped
        spent, used = found.spent, found.begun
        places = ledger.entries_of(digest)
        envelopes = [
            found.envelope,
            *found.terms_envelopes.values(),
            found.release_key_envelope,
            *(item.envelope for item in found.decisions),
        ]
    return RequestView(digest, phase, reason, places, envelopes, spent, used)


def list_requests(context: Context, peer: Peer, *, closed: bool, after: str, limit: int) -> list[str]:
    """Return digests of requests that concern the peer, in order of filing, after the digest ``after``."""
    with context.ledger.reading() as state:
        known_peer(state, peer)
        digests = [
            digest
            for digest, found in state.requests.items()
            if (closed or found.phase != "closed") and concerns(state, found, peer)
        ]
    start = digests.index(after) + 1 if after in digests else 0
    return digests[start : start + limit]


def concerns(state: State, found: RequestState, peer: Peer) -> bool:
    """Custodians of the version, governance, owners, the requester and the beneficiary may look at a request."""
    person = known_peer(state, peer)
    request = found.request
    if not person:
        return peer.identity in (request.beneficiary, actor_name(request.requester))
    governance = state.root.roster("governance")
    return (
        state.versions[request.version].sharing.slot_of(person) is not None
        or person in excluded(state.root, request)
        or (isinstance(request.requester, Person) and request.requester.person == person)
        or (governance is not None and person in governance.persons)
    )
