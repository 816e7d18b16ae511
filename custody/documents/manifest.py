"""Manifest: everything needed to open a version but the custodians' keys: content, sharing, and wrapped shares.

Stored beside the ciphertext as ``manifest.json``. The envelopes are signed; the wraps lie outside both signatures and
need none: each is bound to the sharing by its HPKE info and checked against the slot's commitment when it is opened.
A wrap for a further device, added later, is a document of its own, signed by the slot's person (reserved).
"""

from typing import Annotated, Self

from msgspec import Meta

from custody.documents.codec import Record, decode, encode
from custody.documents.content import Content
from custody.documents.dsse import Envelope
from custody.documents.sharing import Sharing, Slot
from custody.errors import FormatError, IntegrityError
from custody.values import Digest

__all__ = ["MAX_MANIFEST", "WRAPPED_SHARE", "Manifest", "Wrap"]

MAX_MANIFEST = 64 << 20
"""Bytes of a stored manifest: two envelopes in base64 once more, and 4,096 wraps."""

WRAPPED_SHARE = 1120 + 32 + 16
"""Bytes of a wrapped share: X-Wing encapsulation, the share, the AES-GCM tag."""


class Wrap(Record, frozen=True, kw_only=True):
    """One share, wrapped to one device of the slot's person. ``device`` is the device's key id."""

    slot: Slot
    device: Digest
    wrapped: Annotated[bytes, Meta(min_length=WRAPPED_SHARE, max_length=WRAPPED_SHARE)]


class Manifest(Record, frozen=True, kw_only=True):
    """Content and sharing as signed envelopes, and the wraps."""

    content: Envelope
    sharing: Envelope
    wraps: Annotated[tuple[Wrap, ...], Meta(min_length=1, max_length=4096)]

    def __post_init__(self) -> None:
        """Refuse two wraps of one share to one device."""
        if len({(wrap.slot, wrap.device) for wrap in self.wraps}) != len(self.wraps):
            message = "wraps: two of one slot to one device"
            raise ValueError(message)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse stored bytes and check that the parts belong together; nothing is verified by this.

        Raises ``FormatError`` for bytes that are no manifest, ``IntegrityError`` for a sharing of another content and
        for wraps of slots that the sharing does not have.
        """
        if len(data) > MAX_MANIFEST:
            message = f"manifest: {len(data)} bytes, at most {MAX_MANIFEST} are allowed"
            raise FormatError(message)
        manifest = decode(data, cls, "manifest")
        content, sharing = manifest.documents()
        if (sharing.content, sharing.version, sharing.deployment) != (
            manifest.content.digest,
            content.version,
            content.deployment,
        ):
            message = f"manifest of {content.version}: the sharing belongs to another content"
            raise IntegrityError(message)
        slots = sharing.slots()
        stray = next((wrap.slot for wrap in manifest.wraps if wrap.slot not in slots), None)
        if stray is not None:
            message = f"manifest of {content.version}: a wrap for slot {stray}, which the sharing does not have"
            raise IntegrityError(message)
        return manifest

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode(self)

    def documents(self) -> tuple[Content, Sharing]:
        """Parse content and sharing. They are not verified by this."""
        return self.content.document(Content), self.sharing.document(Sharing)
