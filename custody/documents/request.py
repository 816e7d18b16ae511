"""Request: what somebody asks for, signed by a person's device or a workload's SVID.

Of a kind: ``open`` a version; ``reshare`` it to a roster; ``lift`` lockdowns; ``destroy`` a version. An open names a
beneficiary, which may differ from the requester: filed at 17:00 by a person for a pod that starts at 02:00.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from custody.documents.actor import Person, Workload
from custody.documents.codec import Record
from custody.documents.dsse import Document
from custody.values import MAX_TIME, U64, Deployment, Digest, Hex32, Name, SpiffeId, Text, Time, VersionId

__all__ = ["Mode", "Range", "Ranges", "Request", "check_ranges", "indexes", "is_subset", "ranges_of"]

Mode = Literal["stream", "direct"]


class Range(Record, frozen=True, kw_only=True):
    """Files ``first`` to ``last`` of the content, both included, by index from 0."""

    first: U64
    last: U64


Ranges = Annotated[tuple[Range, ...], Meta(min_length=1, max_length=1000)]


def check_ranges(ranges: tuple[Range, ...]) -> None:
    """Refuse ranges that are not ascending, disjoint and merged (so that a set of files has one spelling)."""
    end = -2
    for item in ranges:
        if item.first > item.last or item.first <= end + 1:
            message = "files: ranges must ascend, be disjoint and not touch"
            raise ValueError(message)
        end = item.last


def indexes(ranges: tuple[Range, ...]) -> Iterator[int]:
    """Yield every file index in the ranges."""
    for item in ranges:
        yield from range(item.first, item.last + 1)


def ranges_of(files: set[int] | frozenset[int]) -> tuple[Range, ...]:
    """Return the one spelling of a set of file indexes."""
    ranges: list[tuple[int, int]] = []
    for index in sorted(files):
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    return tuple(Range(first=U64(first), last=U64(last)) for first, last in ranges)


def is_subset(inner: tuple[Range, ...], outer: tuple[Range, ...]) -> bool:
    """Tell whether every file in ``inner`` is in ``outer``. Both checked by ``check_ranges``."""
    starts = [wide.first for wide in outer]
    for item in inner:
        place = bisect_right(starts, item.first) - 1
        if place < 0 or item.last > outer[place].last:
            return False
    return True


class Request(Document, frozen=True, kw_only=True):
    """A request. Times are absolute; ``duration`` is seconds from the last allowed start; ``bytes`` is plaintext.

    ``lifts`` names lockdowns (kind ``lift`` only); ``roster`` names whom to reshare to (kind ``reshare`` only).
    """

    payload_type: ClassVar[str] = "application/vnd.custody.request.v1+json"

    deployment: Deployment
    kind: Literal["open", "reshare", "lift", "destroy"]
    requester: Person | Workload
    beneficiary: SpiffeId
    version: VersionId
    content: Digest
    files: Ranges
    purpose: Name
    not_before: Time
    open_before: Time
    duration: U64
    sessions: U64
    bytes: U64
    mode: Mode
    reason: Annotated[Text, Meta(min_length=1)]
    ticket: Annotated[str, Meta(max_length=200)]
    created: Time
    nonce: Hex32
    lifts: Annotated[tuple[Digest, ...], Meta(max_length=64)]
    roster: Name | None

    def __post_init__(self) -> None:
        """Refuse a request that asks for nothing or for everything for ever."""
        check_ranges(self.files)
        if self.open_before <= self.not_before:
            message = "open_before: the start window is empty"
            raise ValueError(message)
        for field in ("duration", "sessions", "bytes"):
            if getattr(self, field) == 0:
                message = f"{field}: must be more than zero"
                raise ValueError(message)
        if self.not_after > MAX_TIME:
            message = "duration: the lease would end after the year 9999"
            raise ValueError(message)
        if bool(self.lifts) != (self.kind == "lift"):
            message = "lifts: named by a request of kind lift, and by no other"
            raise ValueError(message)
        if (self.roster is not None) != (self.kind == "reshare"):
            message = "roster: named by a request of kind reshare, and by no other"
            raise ValueError(message)

    @property
    def not_after(self) -> int:
        """The end of the lease this asks for, seconds: the last allowed start plus the duration."""
        return self.open_before + self.duration
