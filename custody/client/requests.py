"""A request on its way to a lease: filed, waited for, withdrawn."""

from dataclasses import dataclass
from typing import Final

from custody.client.identity import Credential, Identity
from custody.client.leases import Lease
from custody.client.link import Link
from custody.client.lookup import look_up
from custody.client.stopping import stop
from custody.documents.dsse import Envelope, sign
from custody.documents.request import Request
from custody.documents.terms import Terms, check_within
from custody.entries.receipt import Receipt
from custody.errors import DeniedError, IntegrityError, UnavailableError
from custody.rules.trust import Trust
from custody.wire.messages import RequestReply

__all__ = ["PendingRequest", "Status", "file_request", "find_request", "read_status"]

_POLL: Final = 25
"""Seconds of one long poll; a broker waits at most 30."""

_REST: Final = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """What a view says of a request. Only ``granted`` is verified: it is the granted terms, from the log.

    ``phase`` and ``reason`` are the broker's word, good for deciding whether to wait; ``entries`` counts the receipts.
    """

    phase: str
    reason: str
    entries: int
    granted: Terms | None
    spent: int
    sessions: int


class PendingRequest:
    """A request that was filed. ``digest`` is its id, 64 hex digits."""

    def __init__(self, link: Link, identity: Identity, envelope: Envelope) -> None:
        self._link = link
        self._identity = identity
        self._envelope = envelope
        self.digest: Final = envelope.digest
        self.document: Final = envelope.document(Request)

    def status(self) -> Status:
        """Ask how it stands now."""
        return self._read(self._link.call(lambda calls: calls.get_request(self.digest)))

    def wait(self, timeout: float | None = None) -> Lease:
        """Wait until a quorum has granted it, for at most ``timeout`` seconds (``None``: until it is over).

        Survives broken connections and restarts of the broker. Raises ``DeniedError`` with the reason when it is over,
        ``UnavailableError`` at the timeout: the request goes on, and ``wait`` may be called again.
        """
        around = self._link.around
        seen = 0
        # A request ends by itself when its start window does; the broker's clock may differ, hence the minute.
        end = max(0, self.document.not_after - self._link.now()) + 60
        deadline = around.monotonic() + (end if timeout is None else min(timeout, end))
        while True:
            left = deadline - around.monotonic()
            poll = max(0, min(_POLL, int(left)))
            reply = self._look(seen, poll, max(left, 1.0))
            status = self._read(reply)
            if status.phase == "closed":
                raise DeniedError(f"the request is closed: {status.reason or 'no reason was given'}")
            if status.granted is not None:
                return Lease(self._link, self._identity, status.granted, status.spent)
            if around.monotonic() >= deadline:
                raise UnavailableError(
                    "no quorum has decided yet", hint=f"custody show {self.digest[:16]} says who has; wait again later"
                )
            if len(reply.receipts) <= seen:
                around.sleep(_REST)  # a broker that does not wait is not asked without end
            seen = len(reply.receipts)

    def withdraw(self, reason: str) -> Receipt:
        """Take the request back; returns the receipt. Sent again until there is one."""
        return stop(self._link, self._identity, "withdraw", self.digest, reason)

    def _look(self, seen: int, wait: int, patience: float) -> RequestReply:
        return self._link.call(
            lambda calls: calls.get_request(self.digest, seen=seen, wait_seconds=wait), patience=patience
        )

    def _read(self, reply: RequestReply) -> Status:
        return self._link.verify(lambda trust: read_status(trust, self._envelope, reply))


def file_request(link: Link, identity: Identity, credential: Credential, request: Request) -> PendingRequest:
    """Sign and send a request whose requester is ``credential``'s; filed once, however often the connection breaks."""
    envelope = sign(request, [credential.signer])
    reply = link.call(lambda calls: calls.submit_request(envelope))
    link.verify(lambda trust: read_status(trust, envelope, reply))
    return PendingRequest(link, identity, envelope)


def find_request(link: Link, identity: Identity, reference: str) -> tuple[PendingRequest, RequestReply]:
    """Find a request by the digest of itself or of its terms, or by a prefix of at least 8 digits that fits one only.

    Raises ``NotFoundError``, or ``DeniedError`` where several fit, and for terms of which others were granted.
    """
    reply = look_up(link, reference)
    envelope = next(item for item in reply.envelopes if item.digest == reply.request)
    status = link.verify(lambda trust: read_status(trust, envelope, reply))
    lease = status.granted.digest if status.granted else ""
    if lease and not (envelope.digest.startswith(reference) or lease.startswith(reference)):
        raise DeniedError(
            f"{reference[:16]} names terms that were not granted", hint=f"other terms were: the lease is {lease[:16]}"
        )
    return PendingRequest(link, identity, envelope), reply


def read_status(trust: Trust, envelope: Envelope, reply: RequestReply) -> Status:
    """Judge the broker's view of one's own request: it was logged, and what was granted lies within it."""
    if reply.request != envelope.digest:
        raise IntegrityError("the broker shows another request")
    request = envelope.document(Request)
    filed, granted = False, ""
    for receipt in reply.receipts:
        entry = trust.check(receipt).entry
        if entry.request != envelope.digest:
            raise IntegrityError("the broker shows an entry of another request")
        if entry.type == "request":
            filed = filed or any(item.envelope == envelope.envelope_digest for item in entry.documents)
        if entry.type == "grant":
            granted = entry.terms or ""
    if not filed:
        raise IntegrityError("the log does not hold the request as it was signed")
    terms = _terms(reply, granted, request, envelope.digest) if granted else None
    return Status(
        reply.phase, reply.reason, len(reply.receipts), terms, int(reply.bytes_spent), int(reply.sessions_used)
    )


def _terms(reply: RequestReply, digest: str, request: Request, request_digest: str) -> Terms:
    found = next((item for item in reply.envelopes if item.digest == digest), None)
    if found is None:
        raise IntegrityError("the broker does not show the terms that were granted")
    terms = found.document(Terms)
    check_within(terms, request, request_digest)
    return terms
