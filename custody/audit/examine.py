"""What can be verified of a stretch of the log without knowing what came before: so it is done on all cores.

Of each bundle: its entries, their leaf hashes, those that the tiles state; each entry parsed, its documents read,
their digests and their form. What a workload signed carries its own certificate, so its signature is verified here as
well, and its chain under the trust root that was in force when the work was given out; should another one be in force
at the entry, ``custody.audit.judge`` verifies it again. What a person or broker signed is verified with the key that
this root has under the key id; which key it must be, the judge knows.

Nothing here is a judgement: it is what the judge would find out by itself. Results go from process to process
(``encode_bundles``), so they are records of bytes and text.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from custody.audit.checkpoints import Claim, Cosigned, Kept, cosigned, kept_path
from custody.audit.kinds import KINDS
from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.audit.tree import Bundles
from custody.crypto import keys, svid
from custody.documents.actor import Workload
from custody.documents.dsse import Document, Envelope, Signature, pae
from custody.documents.glance import glance_open
from custody.documents.session import OpenSession
from custody.entries.entry import DocumentRef
from custody.entries.glance import Glance, glance
from custody.errors import CustodyError, FormatError, IntegrityError, NotFoundError
from custody.rules.watching import LOG_END
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import leaf_hash
from custody.tlog.policy import Policy
from custody.tlog.reader import TileReader
from custody.tlog.tiles import ENTRIES, TILE_WIDTH, Tile, tile_width

__all__ = [
    "Anchors",
    "Bundle",
    "Examine",
    "Examined",
    "Examiner",
    "Flaw",
    "Read",
    "Task",
    "decode_bundles",
    "document_path",
    "encode_bundles",
    "inline",
    "inline_document",
    "read_document",
    "workloads",
]

_ACTORS: Final = ("requester", "sealer", "signer", "workload", "actor")  # the fields in which documents name who signs
_END: Final = (b'"type":"system"', f'"reason":"{LOG_END}"'.encode())
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


class Task(NamedTuple):
    """Bundles ``first`` to ``last`` (exclusive) under a checkpoint; entries before ``start`` were judged before.

    ``kept`` are the sizes after ``start`` in these bundles of which a checkpoint is kept, ascending. With ``structure``
    only the entries are looked into that change the trust root, or end the log before its successor.
    """

    checkpoint: Checkpoint
    first: int
    last: int
    start: int
    anchors: Anchors | None
    structure: bool
    kept: tuple[int, ...] = ()


class Flaw(Struct, frozen=True, array_like=True, gc=False, tag=0):
    """Why there is no document: the code and the text of a finding."""

    code: str
    text: str


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


class Examined(Struct, frozen=True, array_like=True, gc=False):
    """An entry's bytes and leaf hash; ``problem`` says why they are no entry. ``stated`` is the hash in the tiles where
    it differs. ``documents`` are in the order of the entry; ``None`` is one that the judge reads. Where only the
    structure is asked for, the bytes are left out of all but roots and ends.
    """

    data: bytes
    leaf: bytes
    stated: bytes | None
    problem: str
    documents: tuple[Read | Flaw | None, ...]


class Bundle(Struct, frozen=True, array_like=True):
    """A bundle's entries from ``start`` on; ``entries`` is ``None`` where it cannot be read."""

    path: str
    entries: list[Examined] | None
    findings: list[Finding]
    epoch: int
    """Of the anchors that paths and checkpoints were verified with."""
    kept: list[Kept] = []
    """The kept checkpoints that could be read."""


_decoder: Final = msgspec.msgpack.Decoder(list[Bundle])


def encode_bundles(bundles: list[Bundle]) -> bytes:
    """Return what another process sends: half of what pickling costs, and one object to hand over."""
    return msgspec.msgpack.encode(bundles)


def decode_bundles(data: bytes) -> list[Bundle]:
    """Return what ``encode_bundles`` was given."""
    return _decoder.decode(data)


Examine = Callable[[Iterator[Task]], Generator[Bundle, None, None]]
"""Examines tasks; yields their bundles in order. May take tasks ahead."""


def inline(source: Source) -> Examine:
    """Return what examines one task after the other, here."""
    examiner = Examiner(source)

    def examine(tasks: Iterator[Task]) -> Generator[Bundle, None, None]:
        for task in tasks:
            for index in range(task.first, task.last):
                yield examiner.bundle(task, index)

    return examine


@dataclass(slots=True)
class _Authority:
    """The tiles that lead to a checkpoint's root; ``reader`` is ``None`` where they do not."""

    checkpoint: Checkpoint
    reader: TileReader | None


class Examiner:
    """Examines bundles of one log. What it keeps are tiles."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._authority: _Authority | None = None

    def bundle(self, task: Task, index: int) -> Bundle:
        """Examine one bundle of a task; the first one first."""
        report, size = Report(), task.checkpoint.size
        bundles, width = Bundles(self._source, report), tile_width(ENTRIES, index, size)
        epoch = task.anchors.epoch if task.anchors else -1
        if self._source.ahead and index == task.first:
            self._source.ahead(list(_objects(task)))
        found = bundles.read(index, width)
        if found is None:
            return Bundle("", None, report.findings, epoch)
        path, entries = found
        leaves = [leaf_hash(data) for data in entries]
        stated = self._stated(task.checkpoint, index, width) or leaves
        bundles.compare_partials(index, stated)
        first = max(0, task.start - index * TILE_WIDTH)
        parsed = [
            _parsed(data, task) if leaf == said else None
            for data, leaf, said in zip(entries[first:], leaves[first:], stated[first:], strict=True)
        ]
        if self._source.ahead:
            named = (entry.documents for entry in parsed if isinstance(entry, Glance))
            self._source.ahead([document_path(item.envelope) for documents in named for item in documents])
        examined = [
            _examine(self._source, task, entry, Examined(data, leaf, None if leaf == said else said, "", ()))
            for entry, data, leaf, said in zip(parsed, entries[first:], leaves[first:], stated[first:], strict=True)
        ]
        return Bundle(path, examined, report.findings, epoch, self._kept(task, index, epoch))

    def _kept(self, task: Task, index: int, epoch: int) -> list[Kept]:
        """Read and verify the checkpoints kept in a bundle. What is not as it must be, the judge reads again."""
        found = []
        begin = bisect_right(task.kept, index * TILE_WIDTH)
        for size in task.kept[begin : bisect_right(task.kept, (index + 1) * TILE_WIDTH)]:
            with suppress(FormatError, IntegrityError, NotFoundError):
                claim = Claim.read(kept_path(size), self._source.fetch(kept_path(size)))
                if claim.checkpoint.size == size:
                    found.append(Kept(claim, _cosigned(claim, task.anchors), epoch))
        return found

    def _stated(self, checkpoint: Checkpoint, index: int, width: int) -> Sequence[bytes] | None:
        """Return the leaf hashes of a bundle that lead to the checkpoint's root, where they can be told."""
        if self._authority is None or self._authority.checkpoint != checkpoint:
            self._authority = _Authority(checkpoint, None)
            with suppress(FormatError, IntegrityError, NotFoundError):
                self._authority.reader = TileReader(self._source.fetch, checkpoint)
        with suppress(FormatError, IntegrityError, NotFoundError):
            return self._authority.reader.leaves(index)[:width] if self._authority.reader else None
        return None


def document_path(envelope: str) -> str:
    """Return where a document's envelope lies."""
    return f"documents/{envelope}"


def read_document(source: Source, reference: DocumentRef) -> Envelope:
    """Fetch a document that an entry names. Its signatures are not verified.

    Raises ``NotFoundError``; ``IntegrityError`` or ``FormatError`` for anything but the document that is named.
    """
    data = source.fetch(document_path(reference.envelope))
    if hashlib.sha256(data).hexdigest() != reference.envelope:
        raise IntegrityError(f"the {reference.kind} document under {reference.envelope[:16]}… has other bytes")
    envelope = Envelope.parse(data)
    envelope.__dict__["envelope_digest"] = reference.envelope
    if envelope.digest != reference.document:
        raise IntegrityError(
            f"the entry says {reference.kind} {reference.document[:16]}…, but the document is {envelope.digest[:16]}…"
        )
    return envelope


def inline_document(source: Source, reference: DocumentRef, kind: str) -> Envelope | Flaw:
    """Read a document of an entry of type ``kind``, here and now."""
    try:
        return read_document(source, reference)
    except NotFoundError:
        return Flaw("document-missing", f"the {reference.kind} document of this {kind} entry is missing")
    except (FormatError, IntegrityError) as error:
        return Flaw("document-altered", error.message)


def workloads(document: Document) -> Sequence[Workload]:
    """Return the workloads that a document names as those who sign it."""
    actors = [getattr(document, field) for field in _actor_fields(type(document))]
    return [actor for actor in actors if isinstance(actor, Workload)]


@cache
def _actor_fields(kind: type[Document]) -> Sequence[str]:
    return [field for field in _ACTORS if field in kind.__struct_fields__]


def _cosigned(claim: Claim, anchors: Anchors | None) -> Cosigned | None:
    """Verify a checkpoint's signatures; ``None`` where that fails or cannot be done, and the judge does it."""
    if anchors is None:
        return None
    with suppress(CustodyError):
        return cosigned(claim, [anchors.policy])
    return None


def _objects(task: Task) -> Iterator[str]:
    """Yield what all bundles of a task need: themselves, their tiles, the checkpoints kept there."""
    for index in range(task.first, task.last):
        yield Tile(ENTRIES, index, tile_width(ENTRIES, index, task.checkpoint.size)).path()
        yield Tile(0, index, tile_width(0, index, task.checkpoint.size)).path()
    yield from map(kept_path, task.kept)


def _parsed(data: bytes, task: Task) -> Glance | str | None:
    """Judge an entry's form; say why it is none. ``None`` where it is not to be looked into."""
    if task.structure and not (b'"type":"root"' in data or all(part in data for part in _END)):
        return None
    try:
        return glance(data)
    except FormatError as error:
        return error.message


def _examine(source: Source, task: Task, entry: Glance | str | None, plain: Examined) -> Examined:
    """Add to what is ``plain`` what an entry says."""
    if isinstance(entry, Glance):
        if not entry.documents:
            return plain
        documents = tuple(_document(source, reference, entry, task.anchors) for reference in entry.documents)
        return Examined(plain.data, plain.leaf, None, "", documents)
    if isinstance(entry, str):
        return Examined(plain.data, plain.leaf, None, entry, ())
    return plain if plain.stated is not None else Examined(b"", plain.leaf, None, "", ())


def _document(source: Source, reference: DocumentRef, entry: Glance, anchors: Anchors | None) -> Read | Flaw | None:
    if reference.kind == "open":
        read = _opened(source, reference, anchors, entry.time)
        if read is not None:
            return read
    envelope = inline_document(source, reference, entry.type)
    if isinstance(envelope, Flaw):
        return envelope
    kind = KINDS.get(envelope.payloadType)
    if kind is None or len(envelope.payload) > _LARGE:
        return None
    try:
        document = envelope.document(kind)
    except FormatError:
        return None  # the rule that asks for it says why it is none
    actors = workloads(document)
    signatures = tuple((signature.keyid, signature.sig) for signature in envelope.signatures)
    path = key = None
    if len(actors) == len(signatures) == 1:
        path = _verified(actors[0].x5c, signatures[0][1], envelope.signed_bytes, anchors, entry.time)
    elif not actors:
        key = _signer(envelope, anchors)
    return Read(envelope.payload, envelope.payloadType, signatures, envelope.digest, path, key)


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


def _opened(source: Source, reference: DocumentRef, anchors: Anchors | None, at: int) -> Read | None:
    """Read a job's open document of the common shape; ``None`` for anything else, which is read with care."""
    try:
        data = source.fetch(document_path(reference.envelope))
    except (FormatError, IntegrityError, NotFoundError):
        return None
    if hashlib.sha256(data).hexdigest() != reference.envelope:
        return None
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
