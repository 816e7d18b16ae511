"""The document with which a job opens a session, as a log holds it, without decoding it.

It is by far the most frequent document, and nearly always of one shape (``custody.documents.shape``). What is not,
``Envelope.parse`` and ``OpenSession.parse`` judge.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec

from custody.documents.actor import Workload
from custody.documents.dsse import MAX_ENVELOPE, Envelope, Signature, document_digest
from custody.documents.request import Range, check_ranges
from custody.documents.session import OpenSession
from custody.documents.shape import Narrow, shape
from custody.values import U64

__all__ = ["ENVELOPE", "PAYLOAD", "Opened", "glance_open", "read_envelope"]

ENVELOPE: Final = shape(
    Envelope,
    Narrow(
        says={"payloadType": OpenSession.payload_type},
        most={"signatures": 1},
        caught=("signatures.keyid",),
        raw=("payload", "signatures.sig"),
    ),
)
"""The shape of the envelope: a single signature has no key id twice."""

PAYLOAD: Final = shape(OpenSession, Narrow(caught=("bytes",), raw=("workload.x5c",)))
"""The shape of the document."""

_RANGES: Final = re.compile(rb'"first":"([0-9]+)","last":"([0-9]+)"')


class Opened(NamedTuple):
    """A well-formed envelope with a well-formed open document; nothing is verified."""

    payload: bytes
    keyid: str
    signature: bytes
    x5c: tuple[bytes, ...]
    """The certificates of the workload; the key of the first must have signed."""


def glance_open(data: bytes) -> Opened | None:
    """Return what stored bytes hold; ``None`` for any that are not of the common shape, good or not."""
    envelope = ENVELOPE.fullmatch(data) if len(data) <= MAX_ENVELOPE else None
    if envelope is None:
        return None
    try:
        payload, signature = _payload(envelope["payload"]), _signature(envelope["signatures_sig"])
        document = PAYLOAD.fullmatch(payload)
        if document is None or document["bytes"] == b"0":
            return None
        check_ranges(tuple(Range(first=U64(int(a)), last=U64(int(b))) for a, b in _RANGES.findall(payload)))
        return Opened(payload, envelope["signatures_keyid"].decode(), signature, _x5c(document["workload_x5c"]))
    except (msgspec.MsgspecError, ValueError):
        return None


def read_envelope(data: bytes) -> Envelope:
    """Parse as ``Envelope.parse`` does, and the document in it too where that can be done sooner."""
    opened = glance_open(data)
    if opened is None:
        return Envelope.parse(data)
    signature, kind = Signature(keyid=opened.keyid, sig=opened.signature), OpenSession.payload_type
    digest = document_digest(kind, opened.payload)
    return Envelope.recall(opened.payload, kind, (signature,), digest, hashlib.sha256(data).hexdigest())


def _member(kind: type[msgspec.Struct], name: str) -> Callable[[bytes], Any]:
    """Return what decodes the canonical bytes of a member by its type, and raises ``MsgspecError`` for any others."""
    decode = msgspec.json.Decoder(get_type_hints(kind, include_extras=True)[name]).decode

    def exact(data: bytes) -> Any:
        value = decode(data)
        if msgspec.json.encode(value) != data:
            message = f"{name}: not canonical"
            raise msgspec.ValidationError(message)
        return value

    return exact


_payload: Final = _member(Envelope, "payload")
_signature: Final = _member(Signature, "sig")
_x5c: Final = _member(Workload, "x5c")
