"""Release and release key: how a share travels from its custodian to the brokers that may open it.

The release key is fresh per request (and per start of the broker), signed by the broker's key of the root, and logged
before custodians see it. The release binds the wrapped share to request, terms, sharing and release key; without the
person's signature a wrapped share in a person's slot means nothing.
"""

from typing import Annotated, ClassVar

from msgspec import Meta

from custody.documents.codec import Record
from custody.documents.dsse import Document
from custody.documents.sharing import Slot
from custody.values import Deployment, Digest, PersonId, Time, XWingKey

__all__ = ["Recipient", "Release", "ReleaseKey"]


class ReleaseKey(Document, frozen=True, kw_only=True):
    """The X-Wing key to which shares for one request are wrapped; signed by the broker that holds its seed."""

    payload_type: ClassVar[str] = "application/vnd.custody.release-key.v1+json"

    deployment: Deployment
    request: Digest
    broker: PersonId
    xwing: XWingKey
    created: Time


class Recipient(Record, frozen=True, kw_only=True):
    """One broker that can open the share: its release key's document digest, and SHA-256 of the wrapped share."""

    broker: PersonId
    release_key: Digest
    wrapped: Digest


class Release(Document, frozen=True, kw_only=True):
    """A share released for exactly these terms, signed by the person in ``slot``."""

    payload_type: ClassVar[str] = "application/vnd.custody.release.v1+json"

    deployment: Deployment
    request: Digest
    terms: Digest
    sharing: Digest
    person: PersonId
    slot: Slot
    recipients: Annotated[tuple[Recipient, ...], Meta(min_length=1, max_length=64)]
    issued: Time

    def __post_init__(self) -> None:
        """Refuse two shares for one broker: which of them counts would be anybody's guess."""
        if len({recipient.broker for recipient in self.recipients}) != len(self.recipients):
            message = "recipients: one broker occurs twice"
            raise ValueError(message)
