"""Terms: exactly what would be granted, every field stated, times absolute. Their digest is the lease id.

Signed by the broker where they equal the request, or by the custodian who narrows. What custodians approve is always
one terms digest.
"""

from typing import ClassVar

from custody.documents.actor import Broker, Person
from custody.documents.dsse import Document
from custody.documents.request import Mode, Ranges, Request, check_ranges, is_subset
from custody.errors import DeniedError
from custody.values import U64, Deployment, Digest, Name, SpiffeId, Time, VersionId

__all__ = ["Terms", "check_within"]


class Terms(Document, frozen=True, kw_only=True):
    """The terms of a lease. Sessions may first open in [not_before, open_before), and all ends at ``not_after``."""

    payload_type: ClassVar[str] = "application/vnd.custody.terms.v1+json"

    deployment: Deployment
    request: Digest
    version: VersionId
    content: Digest
    beneficiary: SpiffeId
    files: Ranges
    purpose: Name
    mode: Mode
    sessions: U64
    bytes: U64
    not_before: Time
    open_before: Time
    not_after: Time
    created: Time
    issuer: Broker | Person

    def __post_init__(self) -> None:
        """Refuse terms that grant nothing or contradict themselves."""
        check_ranges(self.files)
        if not self.not_before < self.open_before < self.not_after:
            message = "times: not_before, open_before and not_after must ascend"
            raise ValueError(message)
        if self.sessions == 0 or self.bytes == 0:
            message = "sessions and bytes: must be more than zero"
            raise ValueError(message)


def check_within(terms: Terms, request: Request, request_digest: str) -> None:
    """Check that terms are equal to the request or narrower. Raises ``DeniedError`` naming the field.

    Streaming is narrower than direct mode: no key leaves, and it can be cut off.
    """
    same = ("deployment", "version", "content", "beneficiary", "purpose")
    wrong = next((field for field in same if getattr(terms, field) != getattr(request, field)), None)
    if terms.request != request_digest:
        wrong = "request"
    elif not is_subset(terms.files, request.files):
        wrong = "files"
    elif terms.mode not in ("stream", request.mode):
        wrong = "mode"
    elif terms.sessions > request.sessions:
        wrong = "sessions"
    elif terms.bytes > request.bytes:
        wrong = "bytes"
    elif terms.not_before < request.not_before:
        wrong = "not_before"
    elif terms.open_before > request.open_before:
        wrong = "open_before"
    elif terms.not_after > request.not_after:
        wrong = "not_after"
    if wrong:
        message = f"terms: {wrong} is wider than the request or differs from it"
        raise DeniedError(message)
