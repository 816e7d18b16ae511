"""Open: a job opens a session of its lease, signed with the key of its current SVID."""

from typing import ClassVar

from custody.documents.actor import Workload
from custody.documents.dsse import Document
from custody.documents.request import Ranges, check_ranges
from custody.values import U64, Deployment, Digest, Hex32, Time, XWingKey

__all__ = ["OpenSession"]


class OpenSession(Document, frozen=True, kw_only=True):
    """What a job opens: which files of which lease, and at most how many plaintext bytes it will be served.

    ``xwing`` is the job's own key for direct mode and must be null in stream mode. The digest is the session id.
    """

    payload_type: ClassVar[str] = "application/vnd.custody.open.v1+json"

    deployment: Deployment
    lease: Digest
    files: Ranges
    bytes: U64
    nonce: Hex32
    xwing: XWingKey | None
    workload: Workload
    issued: Time

    def __post_init__(self) -> None:
        """Refuse a session of nothing."""
        check_ranges(self.files)
        if self.bytes == 0:
            message = "bytes: must be more than zero"
            raise ValueError(message)
