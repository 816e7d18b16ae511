"""A blob read by ranges through presigned GETs: by a broker from S3, and by a job in direct mode.

No byte is taken on trust. A range counts only when the answer says 206, exactly that range and the pinned size; a body
that breaks off is resumed at the byte it reached, on another connection, for as long as patience lasts. What the bytes
say is for the caller to check: each segment has a tag and a digest.
"""

import http.client
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from custody.adapters.backoff import Backoff
from custody.adapters.http_pool import HttpPool, Target
from custody.adapters.surroundings import Around
from custody.errors import ConfigError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import Pinned, Presigned

__all__ = ["PATIENCE", "SLOWEST", "TRANSIENT", "AnswerError", "HttpBlob", "reason_of"]

PATIENCE: Final = 60.0
"""Seconds that a request is tried again for, and a second more for every ``SLOWEST`` bytes."""

SLOWEST: Final = 1 << 20
"""Bytes a second: a store that is slower than this for long is held to be down."""

_RENEW: Final = 60  # seconds before its end at which a URL is renewed: no request under way is cut off
_MOST_WRONG: Final = 3  # answers of another range, until the store is held to be broken: a proxy may hiccup
_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.ASCII)
TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that another attempt may improve."""


class AnswerError(Exception):
    """What went wrong with one attempt; the next may do better."""


class _WrongAnswerError(AnswerError):
    """It answered something else than was asked."""


class _RefusedError(AnswerError):
    """403: the URL has ended, or never was good."""


@dataclass(slots=True)
class _Reading:
    """One call of ``read_into``: what is asked, how far it is, what went wrong so far."""

    offset: int
    buffer: memoryview
    deadline: float
    done: int = 0
    wrong: int = 0
    refused: Presigned | None = None


class HttpBlob:
    """``BlobReader`` over a pinned blob. ``sign`` returns a fresh presigned GET; it is asked again as URLs end.

    ``patience`` is seconds. Whoever gives the pool closes it.
    """

    def __init__(
        self,
        blob: Pinned,
        sign: Callable[[], Presigned],
        pool: HttpPool,
        around: Around,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._blob = blob
        self._sign = sign
        self._pool = pool
        self._around = around
        self._patience = patience
        self._lock = threading.Lock()
        self._signed: tuple[Presigned, Target, int] | None = None
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes of the pinned version."""
        return self._blob.size

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """See ``BlobReader.read_into``. ``ConfigError`` when the store refuses a URL that was just made."""
        if offset < 0:
            raise ValueError("a negative offset")
        if self._closed:
            raise ValueError("the blob has been closed")
        if offset + len(buffer) > self.size:
            raise IntegrityError(f"store: {self._blob.key} ends at byte {self.size}")
        deadline = self._around.monotonic() + self._patience + len(buffer) / SLOWEST
        reading = _Reading(offset, memoryview(buffer).cast("B"), deadline)
        backoff = Backoff(self._around.rng, deadline)
        while reading.done < len(buffer):
            reached = reading.done
            try:
                self._attempt(reading)
            except (AnswerError, OSError, http.client.HTTPException) as error:
                self._judge(reading, error)
                if reading.done > reached:
                    backoff = Backoff(self._around.rng, deadline)  # it works, if haltingly
                pause = backoff.pause(self._around.monotonic())
                if pause is None:
                    raise UnavailableError(
                        f"store: {self._blob.key}: {reason_of(error)}, at byte {offset + reading.done}",
                        hint="try again: reading goes on at the segment it reached",
                    ) from error
                self._around.sleep(pause)

    def close(self) -> None:
        """See ``BlobReader.close``. Reads under way go on to their end."""
        self._closed = True

    def _judge(self, reading: _Reading, error: Exception) -> None:
        """Raise for what no further attempt can mend."""
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"store: {self._blob.key}: {reason_of(error)}", hint="name the file of its CA: ?ca=/path/ca.pem"
            ) from error
        if isinstance(error, _WrongAnswerError):
            reading.wrong += 1
            if reading.wrong >= _MOST_WRONG:
                raise IntegrityError(f"store: {self._blob.key}: {error}") from error

    def _attempt(self, reading: _Reading) -> None:
        """Ask for what is missing once."""
        signed, target = self._current(reading.refused)
        first = reading.offset + reading.done
        last = reading.offset + len(reading.buffer) - 1
        with self._pool.borrow(target) as connection:
            connection.request("GET", target.path, headers={**signed.headers, "Range": f"bytes={first}-{last}"})
            response = connection.getresponse()
            if response.status == http.client.FORBIDDEN and reading.refused is None:
                reading.refused = signed  # it may have ended early, with the credentials that signed it
                raise _RefusedError("it refuses the signed URL")
            self._check(response, first, last)
            body = response.fp
            while reading.done < len(reading.buffer):
                # One receive at a time: only so does a trickle run into the deadline.
                got = body.readinto1(reading.buffer[reading.done :])
                if not got:
                    raise AnswerError("the answer broke off")
                reading.done += got
                if self._around.monotonic() > reading.deadline:
                    raise AnswerError("too slow")
            response.close()  # all read: the connection can serve another request

    def _check(self, response: http.client.HTTPResponse, first: int, last: int) -> None:
        """Require that the body will be the bytes asked for, of the pinned version."""
        key, status = self._blob.key, response.status
        if status in TRANSIENT:
            raise AnswerError(f"it answered {status}")
        if status == http.client.NOT_FOUND:
            raise NotFoundError(f"store: there is no {key}, or not this version of it any more")
        if status in (http.client.PRECONDITION_FAILED, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise IntegrityError(f"store: {key} is not what it was when it was opened (HTTP {status})")
        if status not in (http.client.OK, http.client.PARTIAL_CONTENT):
            raise ConfigError(
                f"store: {key}: HTTP {status}", hint="do the credentials permit reading, is the region right?"
            )
        said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if (
            status != http.client.PARTIAL_CONTENT
            or said is None
            or tuple(map(int, said.groups())) != (first, last, self.size)
            or response.length != last - first + 1
            or response.headers.get("Content-Encoding", "identity") != "identity"
        ):
            raise _WrongAnswerError(f"asked for bytes {first}-{last} of {self.size}, it answered others")

    def _current(self, refused: Presigned | None) -> tuple[Presigned, Target]:
        """Return a URL that holds for a while yet, and not the refused one."""
        with self._lock:
            now = self._around.clock()
            if self._signed is None or self._signed[0] is refused or now >= self._signed[2]:
                signed = self._sign()
                margin = min(_RENEW, max(0, signed.expires - now) // 3)
                self._signed = (signed, Target.of(signed.url), signed.expires - margin)
            return self._signed[:2]


def reason_of(error: Exception) -> str:
    """Say in a few words what went wrong; never a URL."""
    if isinstance(error, AnswerError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return f"no HTTP answer ({type(error).__name__})"
