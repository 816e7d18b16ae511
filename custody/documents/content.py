"""Content: what a version is. Signed by the sealer when it is sealed, and never changed.

Its digest is what a request, a job and the log mean by "these weights". ``ciphertext`` lets a store be scrubbed
without any key; ``digests`` binds the list of keyed segment digests, with which the consumer of plaintext checks each
segment before using it, whoever served it (``custody.crypto.digests``).
"""

from functools import cached_property
from itertools import accumulate
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from custody.documents.actor import Person, Workload
from custody.documents.codec import Record
from custody.documents.dsse import Document
from custody.documents.request import Range
from custody.errors import FormatError
from custody.values import U64, Deployment, Digest, Hex32, Name, Time, VersionId, check_path

__all__ = ["SEGMENT_SIZES", "Content", "File", "Label"]

SEGMENT_SIZES = tuple(1 << power for power in range(12, 25))  # 4 KiB to 16 MiB


class File(Record, frozen=True, kw_only=True):
    """One file: its plaintext size in bytes, BLAKE3 of the whole stored ciphertext, BLAKE3 of its digest list."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    size: U64
    ciphertext: Digest
    digests: Digest

    def __post_init__(self) -> None:
        """Refuse paths that are not paths inside a version."""
        try:
            check_path(self.path)
        except FormatError as error:
            raise ValueError(error.message) from None


class Label(Record, frozen=True, kw_only=True):
    """A free label for people and policy, such as ``classification: frontier``."""

    name: Name
    value: Annotated[str, Meta(max_length=200)]


class Content(Document, frozen=True, kw_only=True):
    """The content of a version. ``segment`` is the plaintext segment size in bytes, a power of two, for all files.

    ``lineage`` names the contents it was made from. ``retention`` is a retention class of the deployment. ``key_kind``
    is ``shared``: the key is split among custodians. ``series`` (a digest) is reserved for keys wrapped to a series and
    must be null; see ``proto/spec/manifest.md``.
    """

    payload_type: ClassVar[str] = "application/vnd.custody.content.v1+json"

    deployment: Deployment
    version: VersionId
    vid: Hex32
    key_commit: Digest
    created: Time
    sealer: Person | Workload
    segment: U64
    files: Annotated[tuple[File, ...], Meta(min_length=1, max_length=50_000)]
    lineage: Annotated[tuple[Digest, ...], Meta(max_length=64)]
    labels: Annotated[tuple[Label, ...], Meta(max_length=64)]
    retention: Name
    key_kind: Literal["shared"]
    series: None

    def __post_init__(self) -> None:
        """Refuse a content that contradicts itself."""
        if self.segment not in SEGMENT_SIZES:
            message = "segment: not a power of two between 4096 and 16777216"
            raise ValueError(message)
        paths = [file.path for file in self.files]
        if sorted(set(paths)) != paths:
            message = "files: paths are not sorted and distinct"
            raise ValueError(message)
        folders = {path.rsplit("/", depth)[0] for path in paths for depth in range(1, path.count("/") + 1)}
        if clash := folders.intersection(paths):
            message = f"files: {min(clash)} is both a file and a folder"
            raise ValueError(message)

    @property
    def size(self) -> int:
        """Plaintext bytes of all files together."""
        return self._offsets[-1]

    def size_of(self, ranges: tuple[Range, ...]) -> int:
        """Return the plaintext bytes of some files. The ranges must lie within the content (``IndexError``)."""
        return sum(self._offsets[item.last + 1] - self._offsets[item.first] for item in ranges)

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        """Plaintext bytes before each file, and of all; a fleet asks for sums thousands of times."""
        return (0, *accumulate(int(file.size) for file in self.files))
