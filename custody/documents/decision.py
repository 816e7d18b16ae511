"""Decision: what one person says to one set of terms. A person's first decision per terms stands."""

from typing import ClassVar, Literal

from custody.documents.dsse import Document
from custody.documents.sharing import Slot
from custody.values import Deployment, Digest, PersonId, Text, Time

__all__ = ["Decision", "Verdict"]

Verdict = Literal["approve", "deny", "veto"]


class Decision(Document, frozen=True, kw_only=True):
    """A decision, signed by a device of the person in ``slot``. ``expires`` bounds the grant only, not the lease."""

    payload_type: ClassVar[str] = "application/vnd.custody.decision.v1+json"

    deployment: Deployment
    request: Digest
    terms: Digest
    sharing: Digest
    root: Digest
    person: PersonId
    slot: Slot
    verdict: Verdict
    note: Text
    issued: Time
    expires: Time

    def __post_init__(self) -> None:
        """Refuse a decision that is over before it is issued."""
        if self.expires <= self.issued:
            message = "expires: not after issued"
            raise ValueError(message)
