"""A stretch of a blob, taken in order: one ranged GET whose body goes from the socket into the caller's buffers.

No byte is taken on trust. An answer counts only when it says 206, exactly that range and the pinned size; one that
breaks off is gone on with at the byte it reached, on another connection, for as long as patience lasts. What the bytes
say is for the caller to check: each segment has a tag and a digest.
"""

import http.client
import io
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple

from custody.adapters.backoff import Backoff
from custody.adapters.http_pool import Deadline, HttpPool, Target, receive
from custody.adapters.surroundings import Around
from custody.errors import ConfigError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import Pinned, Presigned
from custody.segments.streams import StillWanted

__all__ = ["SLOWEST", "TRANSIENT", "Answer", "AnswerError", "Stretch", "Way", "reason_of"]

SLOWEST: Final = 1 << 20
"""Bytes a second: a store that is slower than this for long is held to be down."""

_MOST_WRONG: Final = 3  # answers of another range, until the store is held to be broken: a proxy may hiccup
_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.ASCII)
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>", re.ASCII)
_MOST_TOLD: Final = 4 << 10  # bytes of an error's body in which its code is looked for
_ENDED: Final = "ExpiredToken"
_MEANINGS: Final = {
    _ENDED: http.client.FORBIDDEN,
    "RequestTimeout": http.client.REQUEST_TIMEOUT,
}
"""What S3 says with a 400, and the status that means it."""

TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that another attempt may improve."""


class Answer(NamedTuple):
    """A status, and the code in S3's error body; empty where there is none."""

    status: int
    code: str

    @classmethod
    def of(cls, status: int, body: bytes) -> "Answer":
        """Find the code: a word, for a store is not trusted with anybody's terminal."""
        found = _CODE.search(body[:_MOST_TOLD]) if status >= http.client.BAD_REQUEST else None
        return cls(status, found[1].decode() if found else "")

    @property
    def meaning(self) -> int:
        """The status that says what S3 means."""
        return _MEANINGS.get(self.code, self.status) if self.status == http.client.BAD_REQUEST else self.status

    def refusal(self, what: str, hint: str) -> ConfigError:
        """Return the error to raise when the store will not, even asked again."""
        if self.code == _ENDED:
            hint = "the credentials that sign for this store have ended: renew them"
        return ConfigError(f"store: {what}: HTTP {self}", hint=hint)

    def __str__(self) -> str:
        return f"{self.status} ({self.code})" if self.code else str(self.status)


class AnswerError(Exception):
    """What went wrong with one attempt; the next may do better."""


class _WrongAnswerError(AnswerError):
    """It answered something else than was asked."""


@dataclass(frozen=True, slots=True)
class Way:
    """The way to a blob. ``sign`` returns a URL that holds for a while, and is not the one that it is given.

    ``patience`` is for how many seconds what fails is tried again.
    """

    blob: Pinned
    sign: Callable[[Presigned | None, StillWanted], tuple[Presigned, Target]]
    pool: HttpPool
    around: Around
    patience: float


class Stretch:
    """``size`` bytes from ``offset`` on. Nothing is asked before the first ``fill``. Close it; for one thread."""

    def __init__(self, way: Way, offset: int, size: int, wanted: StillWanted) -> None:
        self._way = way
        self._wanted = wanted
        self._at = offset
        self._end = offset + size
        self._wrong = 0
        self._refused: Presigned | None = None
        self._body: _Body | None = None

    def fill(self, buffer: memoryview) -> None:
        """See ``BlobReader.read_into``, of what comes next. ``ConfigError`` when a URL that was just made is refused.

        ``ValueError`` for more than there is in the stretch. What ``wanted`` raises ends the waiting.
        """
        view = memoryview(buffer).cast("B")
        goal = self._at + len(view)
        if goal > self._end:
            raise ValueError("more than the stretch has")
        around = self._way.around
        seconds = self._way.patience + len(view) / SLOWEST
        deadline = self._way.pool.deadline(around.monotonic, seconds, self._wanted)
        backoff = Backoff(around.rng, deadline.at)
        while self._at < goal:
            reached = self._at
            try:
                self._advance(view[reached - goal :], deadline)
            except (AnswerError, OSError, http.client.HTTPException) as error:
                self.close()
                self._judge(error)
                if self._at > reached:
                    backoff = Backoff(around.rng, deadline.at)  # it works, if haltingly
                if not deadline.rest(around.sleep, backoff):
                    raise UnavailableError(
                        f"store: {self._way.blob.key}: {reason_of(error)}, at byte {self._at}",
                        hint="try again: reading goes on at the segment it reached",
                    ) from error

    def close(self) -> None:
        """Give up the answer under way, and its connection."""
        body, self._body = self._body, None
        if body is not None:
            body.drop()

    def _advance(self, view: memoryview, deadline: Deadline) -> None:
        """Receive ``view`` whole, from the answer under way or a new one."""
        if self._body is None:
            self._body = self._ask(deadline)
        while view:
            got = self._body.receive(view, deadline)
            if not got:
                raise AnswerError("the answer broke off")
            self._at += got
            view = view[got:]
            if view and deadline.passed:
                raise AnswerError("too slow")
        if self._at == self._end:
            self._body.keep()
            self._body = None

    def _ask(self, deadline: Deadline) -> "_Body":
        """Ask for all that is missing, once."""
        signed, target = self._way.sign(self._refused, self._wanted)
        first, last = self._at, self._end - 1
        with ExitStack() as lent:
            connection = lent.enter_context(self._way.pool.borrow(target, deadline))
            connection.request("GET", target.path, headers={**signed.headers, "Range": f"bytes={first}-{last}"})
            sock = connection.sock  # theirs to forget, if the answer is the connection's last
            response = lent.enter_context(connection.getresponse())
            refuses = response.status in (http.client.BAD_REQUEST, http.client.FORBIDDEN)
            answer = Answer.of(response.status, response.read(_MOST_TOLD) if refuses else b"")
            if answer.meaning == http.client.FORBIDDEN and self._refused is None:
                self._refused = signed  # it may have ended early, with the credentials that signed it
                raise AnswerError("it refuses the signed URL")
            self._check(answer, response, first, last)
            self._refused = None
            return _Body(connection, response.fp, sock, lent.pop_all())

    def _check(self, answer: Answer, response: http.client.HTTPResponse, first: int, last: int) -> None:
        """Require that the body will be the bytes asked for, of the pinned version."""
        key, size, status = self._way.blob.key, self._way.blob.size, answer.meaning
        if status in TRANSIENT:
            raise AnswerError(f"it answered {answer}")
        if status == http.client.NOT_FOUND:
            raise NotFoundError(f"store: there is no {key}, or not this version of it any more")
        if status in (http.client.PRECONDITION_FAILED, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise IntegrityError(f"store: {key} is not what it was when it was opened (HTTP {status})")
        if status not in (http.client.OK, http.client.PARTIAL_CONTENT):
            raise answer.refusal(key, "do the credentials permit reading, is the region right?")
        said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if (
            status != http.client.PARTIAL_CONTENT
            or said is None
            or tuple(map(int, said.groups())) != (first, last, size)
            or response.length != last - first + 1
            or response.headers.get("Content-Encoding", "identity") != "identity"
        ):
            raise _WrongAnswerError(f"asked for bytes {first}-{last} of {size}, it answered others")

    def _judge(self, error: Exception) -> None:
        """Raise for what no further attempt can mend."""
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"store: {self._way.blob.key}: {reason_of(error)}", hint="name the file of its CA: ?ca=/path/ca.pem"
            ) from error
        if isinstance(error, _WrongAnswerError):
            self._wrong += 1
            if self._wrong >= _MOST_WRONG:
                raise IntegrityError(f"store: {self._way.blob.key}: {error}") from error


class _Body:
    """What follows the head of an answer: some of it was read along with the head, the rest is at the socket."""

    def __init__(
        self, connection: http.client.HTTPConnection, head: io.BufferedReader, sock: socket.socket, lent: ExitStack
    ) -> None:
        self._connection = connection
        self._head = head
        self._sock = sock
        self._lent = lent
        self._along: int | None = None

    def receive(self, view: memoryview, deadline: Deadline) -> int:
        """Put what comes next at the start of ``view``; return how many bytes, 0 at the end."""
        if self._along is None:
            self._along = len(self._head.peek(1))
        if self._along:
            got = self._head.readinto1(view[: self._along])
            self._along -= got
            return got
        return receive(self._sock, view, deadline)

    def keep(self) -> None:
        """All was read: the connection can serve another request."""
        self._lent.close()

    def drop(self) -> None:
        """Close the connection in the middle."""
        self._connection.close()
        self._lent.close()


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
