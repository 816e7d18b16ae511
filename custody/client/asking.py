"""From what a person or program wants to a request that says it exactly: pure arithmetic and names."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from custody.documents.actor import Person, Workload
from custody.documents.content import Content
from custody.documents.request import Mode, Request, ranges_of
from custody.errors import FormatError
from custody.values import MAX_U64, U64, Time

__all__ = ["SESSIONS", "START_WITHIN", "Span", "Wish", "choose_files", "make_request", "seconds"]

START_WITHIN: Final = 8 * 3600
"""Seconds from the first to the last allowed start, unless told otherwise: a working day."""

SESSIONS: Final = 2
"""Sessions asked for unless told otherwise: one to use, one to go on with after a break."""

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_YEAR: Final = 366 * 86400

Span = int | str | timedelta
"""A span of time: seconds, ``90s 15m 2h 7d``, or a ``timedelta``."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants. ``files`` are globs over paths (empty: all); ``bytes`` is plaintext over all sessions.

    ``not_before`` is seconds since 1970 (``None``: now); the spans are seconds; ``bytes`` ``None``: each file once in
    each session.
    """

    purpose: str
    reason: str
    beneficiary: str
    duration: int
    files: Sequence[str] = ()
    start_within: int = START_WITHIN
    not_before: int | None = None
    sessions: int = SESSIONS
    bytes: int | None = None
    ticket: str = ""
    mode: Mode = "stream"


def seconds(span: Span, what: str) -> int:
    """Return a span of time in seconds. ``FormatError`` naming ``what`` for none, for zero, and for over a year."""
    if isinstance(span, str):
        match = _DURATION.fullmatch(span)
        if match is None:
            raise FormatError(f"{what}: {span[:40]!a} is not a span of time", hint="write 90s, 15m, 2h or 7d")
        result = int(match[1]) * _UNITS[match[2]]
    else:
        result = int(span.total_seconds()) if isinstance(span, timedelta) else span
    if not 0 < result <= _YEAR:
        raise FormatError(f"{what}: {span!s:.40} is not between one second and a year")
    return result


def choose_files(content: Content, globs: Sequence[str]) -> frozenset[int]:
    """Return the indexes of the files whose paths match one of the globs; all without globs.

    ``*`` matches across ``/``. ``FormatError`` for a glob that matches nothing, naming what there is.
    """
    if not globs:
        return frozenset(range(len(content.files)))
    chosen: set[int] = set()
    for glob in globs:
        found = {index for index, file in enumerate(content.files) if fnmatch.fnmatchcase(file.path, glob)}
        if not found:
            some = ", ".join(file.path for file in content.files[:5]) + (", …" if len(content.files) > 5 else "")  # noqa: PLR2004 - enough to see
            raise FormatError(f"{content.version} has no file {glob[:100]!a}", hint=f"it has {some}")
        chosen |= found
    return frozenset(chosen)


def make_request(
    content: Content, digest: str, wish: Wish, requester: Person | Workload, *, now: int, nonce: str
) -> Request:
    """State a wish as the request to be signed. ``digest`` is the content's. ``FormatError`` names what is wrong."""
    files = choose_files(content, wish.files)
    if not wish.reason.strip():
        raise FormatError("reason: say why, for the custodians")
    for field, value in (("duration", wish.duration), ("sessions", wish.sessions), ("start window", wish.start_within)):
        if not 0 < value <= MAX_U64:
            raise FormatError(f"{field}: must be more than zero")
    most = max(1, sum(content.files[index].size for index in files) * wish.sessions)
    wanted = most if wish.bytes is None else wish.bytes
    if not 0 < wanted <= most:
        raise FormatError(
            f"bytes: {wanted} asked, but {wish.sessions} sessions of these files are {most}",
            hint="ask for more sessions, or leave the bytes out",
        )
    begin = now if wish.not_before is None else wish.not_before
    if begin + wish.start_within <= now:
        raise FormatError(f"the start window ends at {Time(begin + wish.start_within)}, which is over")
    request = Request(
        deployment=content.deployment,
        kind="open",
        requester=requester,
        beneficiary=wish.beneficiary,
        version=content.version,
        content=digest,
        files=ranges_of(files),
        purpose=wish.purpose,
        not_before=Time(begin),
        open_before=Time(begin + wish.start_within),
        duration=U64(wish.duration),
        sessions=U64(wish.sessions),
        bytes=U64(wanted),
        mode=wish.mode,
        reason=wish.reason,
        ticket=wish.ticket,
        created=Time(now),
        nonce=nonce,
        lifts=(),
        roster=None,
    )
    return Request.parse(request.encode())  # what Python lets pass and a parser would not is refused here, by field
