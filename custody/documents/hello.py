"""Hello: a tool's own nonce, so that the broker must show it a log that is alive and a root that is in force now."""

from typing import ClassVar

from custody.documents.actor import Person, Workload
from custody.documents.dsse import Document
from custody.values import Deployment, Hex32, Time

__all__ = ["Hello"]


class Hello(Document, frozen=True, kw_only=True):
    """A greeting; the witnessed entry that answers it names the root in force."""

    payload_type: ClassVar[str] = "application/vnd.custody.hello.v1+json"

    deployment: Deployment
    nonce: Hex32
    actor: Person | Workload
    issued: Time
