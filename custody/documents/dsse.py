"""DSSE envelopes (github.com/secure-systems-lab/dsse, v1): the one way anything is signed.

::

    {"payload": base64, "payloadType": "application/vnd.custody.<document>.v1+json",
     "signatures": [{"keyid": hex, "sig": base64}, ...]}

    PAE(type, payload)  = "DSSEv1" SP len(type) SP type SP len(payload) SP payload      (lengths in ASCII decimal)
    document digest     = SHA-256(PAE)               names *what was said*, whoever signed it
    envelope digest     = SHA-256(the stored bytes)  names what was said *and* the signatures under it

The envelope itself is canonical JSON, so base64 has one spelling. The payload type is required before a signature is
looked at; the bytes that verified are the bytes that are parsed. A key id is a hint for finding a key, recomputed from
the key itself by whoever looks it up; quorums count persons, never key ids (``custody.rules``).
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Protocol, Self, TypeVar

from msgspec import Meta

from custody.crypto import keys
from custody.documents.codec import Record, decode, encode, recall
from custody.errors import FormatError
from custody.values import Digest

__all__ = ["MAX_ENVELOPE", "Document", "Envelope", "Signature", "Signer", "document_digest", "pae", "sign"]

MAX_ENVELOPE = 16 << 20  # a content that names 50,000 files fits; a stranger's gigabyte does not


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding of DSSE v1: the bytes that are signed."""
    name = payload_type.encode("ascii")
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def document_digest(payload_type: str, payload: bytes) -> str:
    """SHA-256 of the PAE as hex: how other documents and entries name this one."""
    return hashlib.sha256(pae(payload_type, payload)).hexdigest()


class Document(Record, frozen=True, kw_only=True, dict=True):
    """Base of every signed document. A subclass sets ``payload_type``."""

    # dict=True gives instances a place for cached properties; frozen fields make caching safe.

    payload_type: ClassVar[str] = ""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Parse canonical payload bytes. Raises ``FormatError`` naming the field."""
        return decode(payload, cls, cls.document_kind())

    @classmethod
    def document_kind(cls) -> str:
        """Return the document's short name, such as ``terms``: the ``kind`` of references in entries."""
        return cls.payload_type.removeprefix("application/vnd.custody.").removesuffix(".v1+json")

    def encode(self) -> bytes:
        """Return the canonical payload bytes."""
        return encode(self)

    @cached_property
    def digest(self) -> str:
        """The document digest, hex."""
        return document_digest(self.payload_type, self.encode())


class Signer(Protocol):
    """Something that holds a private key and signs bytes with it."""

    @property
    def key_id(self) -> str:
        """Hex id of the public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature over ``message``."""
        ...


class Signature(Record, frozen=True, kw_only=True):
    """One signature under an envelope. At most 1,024 bytes: an RSA-8192 signature."""

    keyid: Digest
    sig: Annotated[bytes, Meta(min_length=64, max_length=1024)]


_D = TypeVar("_D", bound=Document)


class Envelope(Record, frozen=True, kw_only=True, dict=True):
    """A payload, its type and its signatures; nothing here is verified yet."""

    payload: bytes
    payloadType: Annotated[str, Meta(pattern=r"\Aapplication/vnd\.custody\.[a-z-]+\.v1\+json\Z", max_length=100)]  # noqa: N815 (DSSE's name)
    signatures: Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=1024)]

    def __post_init__(self) -> None:
        """Refuse two signatures under one key id, wherever an envelope stands."""
        if len({signature.keyid for signature in self.signatures}) != len(self.signatures):
            message = "signatures: two under one key id"
            raise ValueError(message)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse stored bytes. Raises ``FormatError``."""
        if len(data) > MAX_ENVELOPE:
            message = f"envelope: {len(data)} bytes, at most {MAX_ENVELOPE} are allowed"
            raise FormatError(message)
        return decode(data, cls, "envelope")

    @classmethod
    def recall(
        cls, payload: bytes, payload_type: str, signatures: tuple[Signature, ...], digest: str, envelope_digest: str
    ) -> Self:
        """Return an envelope that was parsed before, and its document too, perhaps in another process.

        Neither is judged by its form again, and the digests are believed. No signature is.
        """
        envelope = cls(payload=payload, payloadType=payload_type, signatures=signatures)
        envelope.__dict__.update(digest=digest, envelope_digest=envelope_digest, _recalled=True)
        return envelope

    def encode(self) -> bytes:
        """Return the bytes that are stored and sent."""
        return encode(self)

    @cached_property
    def digest(self) -> str:
        """The document digest, hex."""
        return document_digest(self.payloadType, self.payload)

    @cached_property
    def envelope_digest(self) -> str:
        """SHA-256 of the stored bytes, hex."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def signed_bytes(self) -> bytes:
        """The PAE: what each signature is over."""
        return pae(self.payloadType, self.payload)

    def document(self, kind: type[_D]) -> _D:
        """Parse the payload as ``kind``, whose payload type it must carry. Verify before you believe it."""
        if self.payloadType != kind.payload_type:
            message = f"envelope: payload type is {self.payloadType}, expected {kind.payload_type}"
            raise FormatError(message)
        parsed = self.__dict__.get("_document")
        if not isinstance(parsed, kind):
            parsed = recall(self.payload, kind) if self.__dict__.get("_recalled") else kind.parse(self.payload)
            self.__dict__["_document"] = parsed  # as with cached properties: frozen fields make it safe
        return parsed

    def require_signature(self, public: bytes) -> None:
        """Require that the one signature is by this Ed25519 key. Raises as ``custody.crypto.keys.verify`` does."""
        self._require(public, keys.verify)

    def require_svid_signature(self, leaf: bytes) -> None:
        """Require that the one signature is by the key in this certificate (DER). Raises as ``require_signature``."""
        self._require(leaf, keys.verify_svid_signature)

    def believe_signature(self, key: bytes) -> None:
        """Take it that another process of ours has found the one signature to be by this key or certificate."""
        self.__dict__["_signed_by"] = key

    def _require(self, key: bytes, verify: "Callable[[bytes, bytes, bytes], None]") -> None:
        """Verify once: neither the envelope nor what follows from it can change. A certificate is no 32 bytes long."""
        if self.__dict__.get("_signed_by") != key:
            verify(key, self.only_signature().sig, self.signed_bytes)
            self.__dict__["_signed_by"] = key

    def only_signature(self) -> Signature:
        """Return the signature of a document that exactly one party signs. Raises ``FormatError`` otherwise."""
        if len(self.signatures) != 1:
            message = f"envelope: {len(self.signatures)} signatures on a document that one party signs"
            raise FormatError(message)
        return self.signatures[0]


def sign(document: Document, signers: Sequence[Signer]) -> Envelope:
    """Sign a document with every signer, in the order given.

    Raises ``FormatError`` for a document that nobody could parse: Python checks less than the wire does.
    """
    payload = document.encode()
    type(document).parse(payload)
    message = pae(document.payload_type, payload)
    envelope = Envelope(
        payload=payload,
        payloadType=document.payload_type,
        signatures=tuple(Signature(keyid=signer.key_id, sig=signer.sign(message)) for signer in signers),
    )
    if len(envelope.encode()) > MAX_ENVELOPE:
        text = f"{document.document_kind()}: more than {MAX_ENVELOPE} bytes when signed"
        raise FormatError(text, hint="name fewer files, or files with shorter paths")
    return envelope
