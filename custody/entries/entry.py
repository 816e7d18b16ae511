"""An entry: one thing that happened, as the log holds it for ever.

Canonical JSON like every document (``custody.documents.codec``), at most 65,535 bytes; fields that a type does not use
are absent. Which fields each type has stands in ``FIELDS`` and is checked on parse, so a stray field is refused as
strictly as an unknown one. Documents are named by document digest (what was said) and envelope digest (the stored
bytes); reason, ticket and addresses stand only in documents, for a leaf cannot be redacted. No secret ever stands here.

``time`` is the broker's clock and informative: the cosignatures over the next checkpoint bound it.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import pairwise
from operator import attrgetter
from typing import Annotated, Final, Literal, Self

from msgspec import Meta

from custody.documents.codec import Record, decode, encode, recall
from custody.documents.decision import Verdict
from custody.documents.request import Range
from custody.documents.sharing import Slot
from custody.errors import FormatError
from custody.tlog.merkle import leaf_hash
from custody.values import U64, Digest, Hex16, PersonId, SpiffeId, Time, VersionId

__all__ = [
    "FIELDS",
    "MAX_ENTRY",
    "CloseReason",
    "DocumentRef",
    "Entry",
    "EntryType",
    "FileBytes",
    "Parent",
    "Party",
    "served_of",
]

MAX_ENTRY: Final = 65_535  # the u16 length prefix of a c2sp.org/tlog-tiles entry bundle
_MAX_ITEMS: Final = 1000  # of files or persons in one entry, so that it fits

EntryType = Literal[
    "root",
    "manifest",
    "request",
    "release-key",
    "decision",
    "release",
    "grant",
    "opening-intent",
    "opening-outcome",
    "session-intent",
    "session-outcome",
    "stop",
    "close",
    "hello",
    "system",
]

CloseReason = Literal["denied", "expired", "withdrawn", "returned", "revoked", "budget", "lockdown", "broker-lost"]


class Party(Record, frozen=True, kw_only=True):
    """Who acted: ``person:alice``, ``broker:broker-1`` or a SPIFFE ID; and the SHA-256 of the credential used (hex).

    That is for a device or broker its key id, for a workload the digest of its leaf certificate.
    """

    id: Annotated[str, Meta(pattern=r"\A(?:person:|broker:|spiffe://)[A-Za-z0-9./_-]+\Z", max_length=520)]
    credential: Digest


class DocumentRef(Record, frozen=True, kw_only=True):
    """A document behind an entry, durable before it: its payload kind, document digest and envelope digest."""

    kind: Annotated[str, Meta(pattern=r"\A[a-z-]+\Z", max_length=40)]
    document: Digest
    envelope: Digest


class Parent(Record, frozen=True, kw_only=True):
    """The earlier entry this one follows from: its index and leaf hash."""

    index: U64
    leaf: Digest


class FileBytes(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Plaintext bytes served of one file; or of the files ``file`` to ``last`` together, where there are very many."""

    file: U64
    bytes: U64
    last: U64 | None = None

    def __post_init__(self) -> None:
        """Refuse a stretch of one file or none: it is said by the file alone."""
        if self.last is not None and self.last <= self.file:
            message = "last: not after the file"
            raise ValueError(message)

    @property
    def range(self) -> Range:
        """The files meant."""
        return Range(first=self.file, last=self.file if self.last is None else self.last)


class Entry(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One entry. ``build`` is the digest of the broker's code; ``root`` and ``policy`` those in force.

    ``mode`` stands where keys leave for good; what is streamed does not say so.
    """

    schema: Literal["custody/entry/v1"]
    type: EntryType
    id: Hex16
    time: Time
    broker: PersonId
    build: Digest
    root: Digest
    policy: Digest
    actor: Party | None = None
    parent: Parent | None = None
    documents: Annotated[tuple[DocumentRef, ...], Meta(max_length=16)] = ()
    version: VersionId | None = None
    content: Digest | None = None
    sharing: Digest | None = None
    request: Digest | None = None
    terms: Digest | None = None
    release_key: Digest | None = None
    slot: Slot | None = None
    verdict: Verdict | None = None
    beneficiary: SpiffeId | None = None
    session: Digest | None = None
    files: Annotated[tuple[Range, ...], Meta(max_length=_MAX_ITEMS)] = ()
    ceiling: U64 | None = None
    mode: Literal["direct"] | None = None
    served: Annotated[tuple[FileBytes, ...], Meta(max_length=_MAX_ITEMS)] = ()
    persons: Annotated[tuple[PersonId, ...], Meta(max_length=_MAX_ITEMS)] = ()
    key_commit: Digest | None = None
    outcome: Literal["ok", "failed", "aborted"] | None = None
    reason: Annotated[str, Meta(pattern=r"\A[a-z]+(?:-[a-z0-9]+)*\Z", max_length=80)] | None = None
    count: U64 | None = None

    def __post_init__(self) -> None:
        """Refuse fields that the type does not have and the absence of those it must have."""
        shape = _SHAPES[self.type]
        if shape.stray(self) != shape.absent:
            field = next(name for name in shape.others if getattr(self, name) not in _ABSENT)
            message = f"{field}: not a field of a {self.type} entry"
            raise ValueError(message)
        if any(value in _ABSENT for value in shape.required(self)):
            field = next(name for name in sorted(FIELDS[self.type][0]) if getattr(self, name) in _ABSENT)
            message = f"{field}: missing in a {self.type} entry"
            raise ValueError(message)
        if len(self.served) > 1 and any(item.range.last >= after.file for item, after in pairwise(self.served)):
            message = "served: files must ascend"
            raise ValueError(message)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse leaf bytes. Raises ``FormatError``."""
        if len(data) > MAX_ENTRY:
            message = f"entry: {len(data)} bytes, at most {MAX_ENTRY} are allowed"
            raise FormatError(message)
        return decode(data, cls, "entry")

    @classmethod
    def recall(cls, data: bytes) -> Self:
        """Parse leaf bytes that ``parse`` has accepted before, perhaps in another process."""
        return recall(data, cls)

    def encode(self) -> bytes:
        """Return the leaf bytes. Raises ``FormatError`` when they do not fit a bundle."""
        data = encode(self)
        if len(data) > MAX_ENTRY:
            message = f"entry of type {self.type}: {len(data)} bytes, at most {MAX_ENTRY} are allowed"
            raise FormatError(message)
        return data

    @property
    def leaf(self) -> str:
        """The leaf hash (RFC 6962 section 2.1), hex."""
        return leaf_hash(self.encode()).hex()

    def document(self, kind: str) -> DocumentRef:
        """Return the one reference of this kind. Raises ``FormatError`` if there is not exactly one."""
        found = [reference for reference in self.documents if reference.kind == kind]
        if len(found) != 1:
            message = f"{self.type} entry: {len(found)} documents of kind {kind}, expected one"
            raise FormatError(message)
        return found[0]


# type: (fields it must have, fields it may have)
FIELDS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    name: (frozenset(required.split()), frozenset(optional.split()))
    for name, required, optional in (
        ("root", "documents", "parent"),
        ("manifest", "actor documents version content sharing", ""),
        ("request", "actor documents version content sharing request terms release_key beneficiary", ""),
        ("release-key", "actor documents request release_key parent", ""),
        ("decision", "actor documents version content sharing request terms slot verdict parent", ""),
        ("release", "actor documents request terms sharing release_key slot parent", ""),
        ("grant", "version content sharing request terms beneficiary persons parent", ""),
        ("opening-intent", "version content sharing request terms release_key persons parent", ""),
        ("opening-outcome", "request terms parent outcome", "persons key_commit reason slot"),
        (
            "session-intent",
            "actor documents version content request terms session beneficiary files ceiling parent",
            "mode",
        ),
        ("session-outcome", "request terms session outcome parent", "served reason"),
        ("stop", "actor documents reason request parent", "terms"),
        ("close", "request reason parent", "terms"),
        ("hello", "actor documents", ""),
        ("system", "reason", "actor count outcome"),
    )
}

_ABSENT: Final = (None, ())
_OPTIONAL_FIELDS: Final = tuple(Entry.__struct_fields__[Entry.__struct_fields__.index("actor") :])


class _Shape:
    """``FIELDS`` of one type, ready for a log of millions: one look at the fields it must have, one at all others."""

    def __init__(self, required: frozenset[str], optional: frozenset[str]) -> None:
        self.others = tuple(name for name in _OPTIONAL_FIELDS if name not in required | optional)
        self.stray = attrgetter(*self.others)
        self.absent = tuple(() if name in _LISTS else None for name in self.others)
        self.required = _values(*sorted(required))


def _values(*names: str) -> Callable[[Entry], tuple[object, ...]]:
    if len(names) == 1:  # of one name, attrgetter returns the value itself
        (name,) = names
        return lambda entry: (getattr(entry, name),)
    return attrgetter(*names)


_LISTS: Final = frozenset({"documents", "files", "served", "persons"})
_SHAPES: Final = {kind: _Shape(required, optional) for kind, (required, optional) in FIELDS.items()}


def served_of(counts: Mapping[int, int], files: tuple[Range, ...]) -> tuple[FileBytes, ...]:
    """Say in an entry how many plaintext bytes of each file were served in a session of ``files``.

    Of more than a thousand files it is said by range of the session, since an entry has 65,535 bytes.
    """
    if len(counts) <= _MAX_ITEMS:
        return tuple(FileBytes(file=U64(file), bytes=U64(count)) for file, count in sorted(counts.items()))
    sums = [0] * len(files)
    starts = [item.first for item in files]
    for file, count in counts.items():
        sums[bisect_right(starts, file) - 1] += count
    return tuple(
        FileBytes(file=item.first, last=None if item.last == item.first else item.last, bytes=U64(count))
        for item, count in zip(files, sums, strict=True)
    )
