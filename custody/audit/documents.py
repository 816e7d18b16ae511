"""The documents behind entries, as an audit reads them: their bytes, digests, form, and what signatures can be verified
without knowing what came before.

What a workload signed carries its own certificate, so its signature is verified here, and its chain under the trust
root that was in force when the work was given out (``Anchors``). What a person or broker signed is verified with the
key that this root has under the key id; which key it must be, the judge knows.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Final, NamedTuple

from msgspec import Struct

from custody.audit.kinds import KINDS
from custody.audit.report import Finding
from custody.crypto import keys, svid
from custody.documents.actor import Workload
from custody.documents.dsse import Document, Envelope, Signature, pae
from custody.documents.glance import glance_open
from custody.documents.session import OpenSession
from custody.entries.entry import DocumentRef
from custody.entries.stored import StoredDocuments, document_path
from custody.errors import CustodyError, FormatError, IntegrityError, NotFoundError
from custody.tlog.policy import Policy
from custody.tlog.tiles import TILE_WIDTH

__all__ = ["Anchors", "Behind", "Flaw", "Read", "examine_documents", "read_document", "read_large", "workloads"]

_ACTORS: Final = ("requester", "sealer", "signer", "workload", "actor")  # the fields in which documents name who signs
_LARGE: Final = 1 << 16  # bytes: a document beyond is read again by the judge, so that few are in memory at once


class Anchors(NamedTuple):
    """What the trust root of an epoch asks for: to which SPIFFE roots certificate chains must lead, and who must have
    signed checkpoints; and the Ed25519 keys of persons and brokers, by key id.
    """

    epoch: int
    roots: tuple[bytes, ...]
    trust_domain: str
    policy: Policy
    keys: Mapping[str, bytes]


class Flaw(Struct, frozen=True, array_like=True, gc=False, tag=0):
    """Why there is no document: the code and the text of a finding, and the object that is wrong."""

    code: str
    text: str
    place: str


class Read(Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A document as it was read and parsed; the path of the certificate of the workload that signed it, if one did and
    it was verified; and the Ed25519 key that was found to have made the one signature.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[tuple[str, bytes], ...]
    digest: str
    path: tuple[str, int, int] | None
    key: bytes | None = None

    def envelope(self, envelope_digest: str) -> Envelope:
        """Return the envelope that was parsed."""
        signatures = tuple(Signature(keyid=keyid, sig=sig) for keyid, sig in self.signatures)
        envelope = Envelope.recall(self.payload, self.payload_type, signatures, self.digest, envelope_digest)
        if self.key is not None:
            envelope.believe_signature(self.key)
        return envelope


class Behind(NamedTuple):
    """What stands behind an entry: where it is kept, the entry's number, type and time, and what it names."""

    stored: StoredDocuments
    entry: int
    type: str
    time: int
    named: Sequence[DocumentRef]

    def surplus(self) -> Finding | None:
        """Find documents in the place of an entry that names none."""
        number, offset = divmod(self.entry, TILE_WIDTH)
        with suppress(FormatError, IntegrityError, NotFoundError):
            path, bundle = self.stored.bundle(number)
            if not self.named and bundle[offset]:
                text = f"{path} holds documents of entry {self.entry}, which names none"
                return Finding(self.entry, "document-altered", text, path)
        return None

    def lost(self) -> Iterator[Finding]:
        """Find which of its documents are no longer there, or no longer those."""
        for place, reference in enumerate(self.named):
            try:
                self.stored.read(self.entry, self.named, place)
            except (FormatError, IntegrityError, NotFoundError) as error:
                flaw = _flaw(error, reference, self.type, self.stored.where(self.entry, place, reference))
                yield Finding(self.entry, flaw.code, flaw.text, flaw.place, (reference.envelope,))

    def alone(self) -> Iterator[str]:
        """Yield the paths of what lies by itself, as far as that can be told."""
        with suppress(FormatError, IntegrityError, NotFoundError):
            number, offset = divmod(self.entry, TILE_WIDTH)
            for reference, kept in zip(self.named, self.stored.bundle(number)[1][offset], strict=False):
                if kept is None:
                    yield document_path(reference.envelope)


def read_document(stored: StoredDocuments, entry: int, named: Sequence[DocumentRef], place: int) -> Envelope:
    """Read the document that an entry names in this place. Its signatures are not verified.

    Raises ``NotFoundError``; ``IntegrityError`` or ``FormatError`` for anything but the document that is named.
    """
    return _envelope(stored.read(entry, named, place), named[place])


def read_large(fetch: Callable[[str], bytes], reference: DocumentRef, kind: str) -> Envelope | Flaw:
    """Read a large document of an entry of type ``kind`` once more; it was found to be what the entry names."""
    path = document_path(reference.envelope)
    try:
        data = fetch(path)
        if hashlib.sha256(data).hexdigest() != reference.envelope:
            raise IntegrityError(f"the {reference.kind} document in {path} has other bytes")
        return _envelope(data, reference)
    except (FormatError, IntegrityError, NotFoundError) as error:
        return _flaw(error, reference, kind, path)


def examine_documents(behind: Behind, anchors: Anchors | None) -> tuple[Read | Flaw | None, ...]:
    """Read all that an entry names; ``None`` is one so large that the judge reads it again, when it is needed."""
    return tuple(_examine(behind, place, anchors) for place in range(len(behind.named)))


def _examine(behind: Behind, place: int, anchors: Anchors | None) -> Read | Flaw | None:
    reference = behind.named[place]
    try:
        data = behind.stored.read(behind.entry, behind.named, place)
        if reference.kind == "open":
            read = _opened(data, reference, anchors, behind.time)
            if read is not None:
                return read
        envelope = _envelope(data, reference)
    except (FormatError, IntegrityError, NotFoundError) as error:
        return _flaw(error, reference, behind.type, behind.stored.where(behind.entry, place, reference))
    if len(envelope.payload) > _LARGE:
        return None
    path = key = None
    signatures = tuple((signature.keyid, signature.sig) for signature in envelope.signatures)
    with suppress(FormatError, KeyError):  # the rule that asks for it says why it is none
        actors = workloads(envelope.document(KINDS[envelope.payloadType]))
        if len(actors) == len(signatures) == 1:
            path = _verified(actors[0].x5c, signatures[0][1], envelope.signed_bytes, anchors, behind.time)
        elif not actors:
            key = _signer(envelope, anchors)
    return Read(envelope.payload, envelope.payloadType, signatures, envelope.digest, path, key)


def _envelope(data: bytes, reference: DocumentRef) -> Envelope:
    """Parse an envelope whose own digest is the one that is named, and require that of the document as well."""
    envelope = Envelope.parse(data)
    envelope.__dict__["envelope_digest"] = reference.envelope
    if envelope.digest != reference.document:
        raise IntegrityError(
            f"the entry says {reference.kind} {reference.document[:16]}…, but the document is {envelope.digest[:16]}…"
        )
    return envelope


def _flaw(error: CustodyError, reference: DocumentRef, kind: str, path: str) -> Flaw:
    if isinstance(error, NotFoundError):
        return Flaw("document-missing", f"the {reference.kind} document of this {kind} entry is missing", path)
    return Flaw("document-altered", error.message, path)


def workloads(document: Document) -> Sequence[Workload]:
    """Return the workloads that a document names as those who sign it."""
    actors = [getattr(document, field) for field in _actor_fields(type(document))]
    return [actor for actor in actors if isinstance(actor, Workload)]


@cache
def _actor_fields(kind: type[Document]) -> Sequence[str]:
    return [field for field in _ACTORS if field in kind.__struct_fields__]


def _signer(envelope: Envelope, anchors: Anchors | None) -> bytes | None:
    """Return the Ed25519 key of a person or broker that alone signed; ``None`` where the judge must see for itself."""
    if anchors is None:
        return None
    with suppress(CustodyError):
        key = anchors.keys.get(envelope.only_signature().keyid)
        if key is not None:
            envelope.require_signature(key)
            return key
    return None


def _opened(data: bytes, reference: DocumentRef, anchors: Anchors | None, at: int) -> Read | None:
    """Read a job's open document of the common shape; ``None`` for anything else, which is read with care."""
    opened = glance_open(data)
    if opened is None or len(opened.payload) > _LARGE:
        return None
    signed = pae(OpenSession.payload_type, opened.payload)
    if hashlib.sha256(signed).hexdigest() != reference.document:
        return None
    path = _verified(opened.x5c, opened.signature, signed, anchors, at)
    signatures = ((opened.keyid, opened.signature),)
    return Read(opened.payload, OpenSession.payload_type, signatures, reference.document, path)


def _verified(
    x5c: Sequence[bytes], signature: bytes, signed: bytes, anchors: Anchors | None, at: int
) -> tuple[str, int, int] | None:
    """Verify what a workload signed; ``None`` where that fails or cannot be done, and the judge does it."""
    if anchors is None:
        return None
    try:
        path = svid.check_path(x5c, anchors.roots, anchors.trust_domain, at)
        keys.verify_svid_signature(x5c[0], signature, signed)
    except CustodyError:
        return None
    return path.identity, path.begin, path.end
