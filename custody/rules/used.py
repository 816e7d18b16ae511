"""What may occur only once, kept small: some sixteen bytes for each id or digest.

A set of Python strings costs 150 bytes an item. Here the first sixteen bytes of each digest stand one after another in
one of 65,536 buckets. Two digests that agree in sixteen bytes are taken for one: that refuses the second, and never
lets one pass; to find such a pair takes 2**64 hashes.

::

    bucket = first two bytes        item = the next fourteen
"""

from array import array
from typing import Final, Self

__all__ = ["Used"]

_BUCKETS: Final = 65536
_ITEM: Final = 14  # bytes in a bucket; two more are the bucket's number
_SIZE: Final = 2 + _ITEM


class Used:
    """A set of hex strings of at least 32 digits. Ids and digests share it: both are random or hashes."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * _BUCKETS

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read what ``dump`` wrote. ``ValueError`` for anything else."""
        used, place = cls(), 4 * _BUCKETS
        for number, count in enumerate(memoryview(data[:place]).cast("I") if len(data) >= place else ()):
            if count:
                used._buckets[number] = bytearray(data[place : place + _ITEM * count])
            place += _ITEM * count
        if place != len(data):
            message = "not the items that it counts"
            raise ValueError(message)
        return used

    def dump(self) -> bytes:
        """Return all items: how many each bucket has (u32 of this machine), then the buckets."""
        counts = array("I", (len(bucket or b"") // _ITEM for bucket in self._buckets))
        return counts.tobytes() + b"".join(bucket for bucket in self._buckets if bucket)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Used) and all(
            sorted(_items(mine)) == sorted(_items(theirs))
            for mine, theirs in zip(self._buckets, other._buckets, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __contains__(self, digest: str) -> bool:
        key = bytes.fromhex(digest[: 2 * _SIZE])
        bucket = self._buckets[key[0] << 8 | key[1]]
        return bucket is not None and _find(bucket, key[2:])

    def add(self, digest: str) -> None:
        """Remember a digest."""
        key = bytes.fromhex(digest[: 2 * _SIZE])
        number, item = key[0] << 8 | key[1], key[2:]
        bucket = self._buckets[number]
        if bucket is None:
            self._buckets[number] = bytearray(item)
        elif not _find(bucket, item):
            bucket += item


def _items(bucket: bytearray | None) -> list[bytes]:
    data = bytes(bucket or b"")
    return [data[start : start + _ITEM] for start in range(0, len(data), _ITEM)]


def _find(bucket: bytearray, item: bytes) -> bool:
    """Look for an item where items begin: two neighbours may hold its bytes between them."""
    place = bucket.find(item)
    while place >= 0 and place % _ITEM:
        place = bucket.find(item, place + 1)
    return place >= 0
