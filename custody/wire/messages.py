"""Protobuf messages to the things they carry, and back. What comes in is parsed; nothing is verified here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from custody.documents.dsse import Envelope
from custody.documents.manifest import Wrap
from custody.documents.sharing import Slot
from custody.entries.receipt import MAX_RECEIPT, Receipt
from custody.errors import FormatError
from custody.ports import Presigned
from custody.values import MAX_TIME
from custody.wire.v1 import broker_pb2 as pb

__all__ = [
    "OpenReply",
    "PlaceReply",
    "RequestReply",
    "VersionReply",
    "place_from",
    "place_to",
    "receipt_from",
    "receipt_to",
    "request_from",
    "request_to",
    "session_from",
    "version_from",
    "version_to",
]

_HEADER: Final = re.compile(r"if-match|x-(amz|goog|ms)-[a-z0-9-]{1,100}", re.ASCII | re.IGNORECASE)
"""What a presigned GET may need. A broker must not make jobs send others' headers to whatever host it likes."""


@dataclass(frozen=True, slots=True)
class VersionReply:
    """A version as the broker shows it; believe the receipt."""

    version: str
    content: Envelope
    sharing: Envelope
    receipt: Receipt
    wraps: Sequence[Wrap]


@dataclass(frozen=True, slots=True)
class RequestReply:
    """A request as the broker shows it. ``phase`` and ``reason`` are its word; believe the receipts."""

    request: str
    phase: str
    reason: str
    receipts: Sequence[Receipt]
    envelopes: Sequence[Envelope]
    bytes_spent: int
    sessions_used: int


@dataclass(frozen=True, slots=True)
class OpenReply:
    """An open session: receipt, content, and for each file the digest key (32 bytes), or in direct mode both keys,
    sealed.
    """

    session: str
    receipt: Receipt
    content: Envelope
    digest_keys: dict[int, bytes]
    sealed_keys: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlaceReply:
    """Where the broker says that a file lies: below ``folder``, or at two URLs."""

    folder: str
    ciphertext: Presigned | None
    digests: Presigned | None


def receipt_to(receipt: Receipt) -> pb.Receipt:
    """Make the message."""
    return pb.Receipt(entry=receipt.entry, proof=receipt.proof)


def receipt_from(message: pb.Receipt) -> Receipt:
    """Read the message; an absurdly large one is refused."""
    if len(message.entry) + len(message.proof) > MAX_RECEIPT:
        raise FormatError("receipt: too large")
    return Receipt(message.entry, message.proof)


def version_to(  # what is shown is decided by the broker's room
    version: str, content: Envelope, sharing: Envelope, receipt: Receipt, wraps: Sequence[Wrap]
) -> pb.Version:
    """Make the message."""
    return pb.Version(
        version=version,
        content=content.encode(),
        sharing=sharing.encode(),
        receipt=receipt_to(receipt),
        wraps=[
            pb.Wrap(group=wrap.slot.group, index=wrap.slot.index, device=wrap.device, wrapped=wrap.wrapped)
            for wrap in wraps
        ],
    )


def version_from(message: pb.Version) -> VersionReply:
    """Read the message. Raises ``FormatError``."""
    return VersionReply(
        message.version,
        Envelope.parse(message.content),
        Envelope.parse(message.sharing),
        receipt_from(message.receipt),
        [
            Wrap(slot=Slot(group=wrap.group, index=wrap.index), device=wrap.device, wrapped=wrap.wrapped)
            for wrap in message.wraps
        ],
    )


def request_to(  # noqa: PLR0917 (the fields of the message, in its order)
    request: str,
    phase: str,
    reason: str,
    receipts: Sequence[Receipt],
    envelopes: Sequence[Envelope],
    bytes_spent: int,
    sessions_used: int,
) -> pb.RequestView:
    """Make the message."""
    return pb.RequestView(
        request=request,
        phase=phase,
        reason=reason,
        receipts=[receipt_to(receipt) for receipt in receipts],
        envelopes=[envelope.encode() for envelope in envelopes],
        bytes_spent=bytes_spent,
        sessions_used=sessions_used,
    )


def request_from(message: pb.RequestView) -> RequestReply:
    """Read the message. Raises ``FormatError``."""
    return RequestReply(
        message.request,
        message.phase,
        message.reason,
        [receipt_from(receipt) for receipt in message.receipts],
        [Envelope.parse(envelope) for envelope in message.envelopes],
        message.bytes_spent,
        message.sessions_used,
    )


def session_from(message: pb.Session) -> OpenReply:
    """Read the message. Raises ``FormatError``."""
    return OpenReply(
        message.session,
        receipt_from(message.receipt),
        Envelope.parse(message.content),
        {item.file: item.digest_key for item in message.files if not item.sealed},
        {item.file: item.sealed for item in message.files if item.sealed},
    )


def place_to(folder: str, ciphertext: Presigned | None, digests: Presigned | None) -> pb.Place:
    """Make the message."""
    place = pb.Place(folder=folder)
    for item, presigned in ((place.ciphertext, ciphertext), (place.digests, digests)):
        if presigned is not None:
            item.MergeFrom(
                pb.SignedRequest(url=presigned.url, headers=presigned.headers, expires=max(0, presigned.expires))
            )
    return place


def place_from(message: pb.Place) -> PlaceReply:
    """Read the message. Raises ``FormatError`` unless it is a folder or two URLs, with headers that a GET may have."""
    urls = message.HasField("ciphertext") and message.HasField("digests")
    if bool(message.folder) == urls:
        raise FormatError("the broker names neither a folder nor URLs, or both")
    if not urls:
        return PlaceReply(message.folder, None, None)
    return PlaceReply("", _presigned(message.ciphertext), _presigned(message.digests))


def _presigned(message: pb.SignedRequest) -> Presigned:
    headers = dict(message.headers)
    for name, value in headers.items():
        if _HEADER.fullmatch(name) is None or not value.isascii() or not value.isprintable():
            raise FormatError("the broker signed a request with a header that it may not have")
    return Presigned(message.url, headers, min(message.expires, MAX_TIME))
