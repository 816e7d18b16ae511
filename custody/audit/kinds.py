"""The documents that entries name, by payload type."""

from collections.abc import Mapping
from typing import Final

from custody.documents.content import Content
from custody.documents.decision import Decision
from custody.documents.dsse import Document, Envelope
from custody.documents.hello import Hello
from custody.documents.release import Release, ReleaseKey
from custody.documents.request import Request
from custody.documents.root import Root
from custody.documents.session import OpenSession
from custody.documents.sharing import Sharing
from custody.documents.stop import Stop
from custody.documents.terms import Terms
from custody.errors import FormatError

__all__ = ["KINDS", "document_of"]

KINDS: Final[Mapping[str, type[Document]]] = {
    kind.payload_type: kind
    for kind in (Root, Content, Sharing, Request, Terms, ReleaseKey, Decision, Release, OpenSession, Stop, Hello)
}


def document_of(envelope: Envelope) -> Document:
    """Parse an envelope's payload as what it says it is. Raises ``FormatError``; verifies no signature."""
    kind = KINDS.get(envelope.payloadType)
    if kind is None:
        raise FormatError(f"a document of type {envelope.payloadType} is not known here")
    return envelope.document(kind)
