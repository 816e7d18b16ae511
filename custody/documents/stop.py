"""Stop: what ends something at once. Granting waits, stopping never does."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from custody.documents.actor import Person, Workload
from custody.documents.dsse import Document
from custody.values import Deployment, Digest, Hex32, Text, Time

__all__ = ["Stop"]


class Stop(Document, frozen=True, kw_only=True):
    """``withdraw`` a request (its requester), ``return`` a lease (its job), ``revoke`` a lease (a custodian, an owner).

    ``target`` is the request digest for ``withdraw`` and the lease id otherwise. ``lockdown`` and its scopes are
    reserved; see ``proto/spec/documents.md``.
    """

    payload_type: ClassVar[str] = "application/vnd.custody.stop.v1+json"

    deployment: Deployment
    action: Literal["withdraw", "return", "revoke"]
    target: Digest
    actor: Person | Workload
    reason: Annotated[Text, Meta(min_length=1)]
    nonce: Hex32
    issued: Time
