"""Where everything of a version lies in a store, and where a segment lies in its file: pure arithmetic.

::

    versions/<vid hex>/<file index>.floe        FLOE ciphertext: header, segments (custody.crypto.floe)
    versions/<vid hex>/<file index>.digests     raw 32-byte digests of the plaintext segments, in order
    versions/<vid hex>/manifest.json            written last: it makes the version visible

A file of ``size`` bytes has ``max(1, ceil(size / segment))`` segments; the last holds what is left, which may be
nothing. All offsets and lengths are bytes. Nothing here is read from the store: size and segment come from the signed
content, so a store that was cut, extended or shuffled disagrees with them.
"""

from dataclasses import dataclass
from typing import Final, Self

from custody.crypto.digests import DIGEST_SIZE
from custody.crypto.floe import HEADER_SIZE, OVERHEAD, SegmentRange, floe_aad, segment_count, segment_range, stored_size
from custody.documents.content import Content
from custody.values import MAX_U64

__all__ = ["FilePlan", "manifest_key", "version_prefix"]

_VID_SIZE: Final = 32


def version_prefix(vid: bytes) -> str:
    """Prefix of all keys of a version, with the slash."""
    if len(vid) != _VID_SIZE:
        raise ValueError("a vid has 32 bytes")
    return f"versions/{vid.hex()}/"


def manifest_key(vid: bytes) -> str:
    """Key of a version's manifest."""
    return f"{version_prefix(vid)}manifest.json"


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file of a version: its place, its plaintext ``size``, and the plaintext ``segment`` size of the version.

    ``index`` is the place in the content's list of files. ``path`` is used in messages only.
    """

    vid: bytes
    index: int
    size: int
    segment: int
    path: str

    def __post_init__(self) -> None:
        """Refuse what no content can say; ``FormatError`` beyond the 2^40 segments of FLOE."""
        if len(self.vid) != _VID_SIZE or not 0 <= self.index <= MAX_U64 or not 0 <= self.size <= MAX_U64:
            raise ValueError("not the plan of a file")
        segment_count(self.size, self.segment)

    @classmethod
    def of(cls, content: Content, index: int) -> Self:
        """Plan file ``index`` of a content. ``IndexError`` where it has none."""
        file = content.files[index]
        return cls(bytes.fromhex(content.vid), index, int(file.size), int(content.segment), file.path)

    @property
    def count(self) -> int:
        """Segments, at least one."""
        return segment_count(self.size, self.segment)

    @property
    def stored_size(self) -> int:
        """Bytes of the stored ciphertext."""
        return stored_size(self.size, self.segment)

    @property
    def digests_size(self) -> int:
        """Bytes of the stored digest list."""
        return self.count * DIGEST_SIZE

    @property
    def ciphertext_key(self) -> str:
        """Store key of the ciphertext."""
        return f"{version_prefix(self.vid)}{self.index}.floe"

    @property
    def digests_key(self) -> str:
        """Store key of the digest list."""
        return f"{version_prefix(self.vid)}{self.index}.digests"

    @property
    def aad(self) -> bytes:
        """What FLOE binds the ciphertext to (design section 4)."""
        return floe_aad(self.vid, self.index, self.size, self.count)

    def locate(self, i: int) -> SegmentRange:
        """Where segment ``i`` lies. ``ValueError`` outside the file."""
        return segment_range(self.size, self.segment, i)

    def covering(self, offset: int, length: int) -> range:
        """Segments that hold the plaintext bytes ``offset`` to ``offset + length``. ``ValueError`` outside the file."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"bytes {offset} to {offset + length} of a file of {self.size}")
        if not length:
            return range(0)
        return range(offset // self.segment, (offset + length - 1) // self.segment + 1)

    def segment_at(self, stored_offset: int) -> int:
        """Number the segment in which byte ``stored_offset`` of the ciphertext lies; 0 for the header. For messages."""
        return min(max(0, stored_offset - HEADER_SIZE) // (self.segment + OVERHEAD), self.count - 1)
