"""HTTP connections to stores, kept between requests, and what they need of the world.

The standard library's client is used, with what matters for speed beside it: ``receive`` takes the bytes of a body from
the socket straight into the buffer where they are wanted. (Measured against boto3 and obstore: ``ops/adr``.) Proxies of
the environment are not asked, and no redirect is followed: a signed request is valid at one host only.

Whoever borrows a connection says until when. A server that sends a byte now and then would otherwise hold its reader
for ever: each byte is an answer in time.
"""

import http.client
import io
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from custody.errors import ConfigError
from custody.segments.streams import StillWanted, still_wanted

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Deadline", "HttpPool", "Target", "receive"]

_TIMEOUT: Final = 15.0
"""Seconds for connecting, and without a single byte, until a request is given up."""

_LOOK: Final = 1.0
"""Seconds after which whoever waits looks whether that is still wanted."""

_MOMENT: Final = 0.001
_KEPT: Final = 64


class Deadline(NamedTuple):
    """Until when somebody waits: ``at``, by a clock that never jumps; and for one byte no longer than ``pause``.
    ``wanted`` raises when nobody waits any more.
    """

    monotonic: Callable[[], float]
    at: float
    pause: float
    wanted: StillWanted

    @property
    def passed(self) -> bool:
        """Whether it is too late."""
        return self.monotonic() >= self.at

    @property
    def timeout(self) -> float:
        """Seconds to wait for the next byte; never 0, which means another thing to a socket."""
        return max(_MOMENT, min(self.pause, self.at - self.monotonic()))

    def receive(self, within: Callable[[float], int]) -> int:
        """Return what ``within`` seconds has received, which is called until it does not time out. ``TimeoutError``
        when the time for the next byte is over; and what ``wanted`` raises.
        """
        end = self.monotonic() + self.timeout
        while (left := end - self.monotonic()) > 0:
            self.wanted()
            with suppress(TimeoutError, BlockingIOError):
                return within(max(_MOMENT, min(_LOOK, left)))
        raise TimeoutError("timed out")

    def rest(self, sleep: Callable[[float], None], seconds: float) -> None:
        """Wait before another attempt, as long as that is wanted."""
        while seconds > 0:
            self.wanted()
            sleep(min(seconds, _LOOK))
            seconds -= _LOOK
        self.wanted()


class Target(NamedTuple):
    """A URL taken apart: where to connect, and what to ask for there."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> "Target":
        """Take a URL apart. ``ConfigError``, which does not show it, for one that is not HTTP."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigError("store: a signed URL that is no URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigError("store: a signed URL that is not HTTP")
        secure = parts.scheme == "https"
        path = f"{parts.path or '/'}?{parts.query}"
        if not path.isascii() or any(byte <= " " or byte == "\x7f" for byte in path):
            raise ConfigError("store: a signed URL with characters that no URL has")
        return cls(secure, parts.hostname, port or (443 if secure else 80), path)


class HttpPool:
    """Connections by host. Thread-safe. ``ca`` is a file of PEM certificates; without it the system's are used."""

    def __init__(self, ca: Path | None = None, *, timeout: float = _TIMEOUT) -> None:
        self._ca = ca
        self._timeout = timeout
        self._lock = threading.Lock()
        self._idle: dict[tuple[bool, str, int], list[http.client.HTTPConnection]] = {}
        self._context: ssl.SSLContext | None = None

    @contextmanager
    def borrow(self, target: Target, deadline: Deadline) -> Iterator[http.client.HTTPConnection]:
        """Lend a connection. After the block it is kept if it can be used again; when the block raises, it is closed.

        A connection that the other end has closed meanwhile is not lent: what comes in on an idle one is its end. The
        head of an answer that is not there by ``deadline`` raises ``TimeoutError``.
        """
        place = target[:3]
        connection = self._idle_one(place) or self._connect(target)
        if connection.sock is not None:
            connection.sock.settimeout(self._timeout)
        connection.response_class = partial(_answer, deadline)  # type: ignore[assignment]  # makes one
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if connection.sock is not None and len(idle) < _KEPT:
                idle.append(connection)
                return
        connection.close()

    def deadline(self, monotonic: Callable[[], float], seconds: float, wanted: StillWanted = still_wanted) -> Deadline:
        """Begin to wait for so many seconds."""
        return Deadline(monotonic, monotonic() + seconds, self._timeout, wanted)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _idle_one(self, place: tuple[bool, str, int]) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                idle = self._idle.get(place)
                connection = idle.pop() if idle else None
            if connection is None:
                return None
            if connection.sock is not None and not _readable(connection.sock):
                return connection
            connection.close()

    def _connect(self, target: Target) -> http.client.HTTPConnection:
        if not target.secure:
            return http.client.HTTPConnection(target.host, target.port, timeout=self._timeout)
        return http.client.HTTPSConnection(target.host, target.port, timeout=self._timeout, context=self._tls())

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                try:
                    self._context = ssl.create_default_context(cafile=self._ca)
                except OSError as error:  # ssl.SSLError is one
                    raise ConfigError(f"{self._ca}: not a file of CA certificates") from error
                self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            return self._context


def receive(sock: socket.socket, view: memoryview, deadline: Deadline) -> int:
    """Receive into ``view``, all of it at once where the system can wait for that; return how many bytes came.

    0 is the end. ``TimeoutError`` when none came in time; and what ``deadline.wanted`` raises.
    """
    if isinstance(sock, ssl.SSLSocket):
        return deadline.receive(partial(_some_of, sock, view))
    sock.settimeout(None)
    return deadline.receive(partial(_all_of, sock, view))


def _some_of(sock: socket.socket, buffer: "WriteableBuffer", seconds: float) -> int:
    sock.settimeout(seconds)
    return sock.recv_into(buffer)


def _all_of(sock: socket.socket, view: memoryview, seconds: float) -> int:
    """Let the kernel wake us once, when all is there or the time is over, and not for each packet."""
    whole = int(seconds)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", whole, int(1e6 * (seconds - whole))))
    return sock.recv_into(view, 0, socket.MSG_WAITALL)


class _InTime(io.RawIOBase):
    """What comes in on a socket until a deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._keeps = sock.makefile("rb", buffering=0)  # the socket stays until this is closed as well

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        if self._deadline.passed:
            raise TimeoutError("timed out")
        return self._deadline.receive(partial(_some_of, self._sock, buffer))

    def close(self) -> None:
        self._keeps.close()
        super().close()


class _Timed(NamedTuple):
    """Of a socket, what an answer asks of it."""

    sock: socket.socket
    deadline: Deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_InTime(*self))


def _answer(deadline: Deadline, sock: socket.socket, *rest: Any, **named: Any) -> http.client.HTTPResponse:
    """Make an answer as ``http.client`` does, whose head comes in time: a slow one costs no more than a silent one."""
    soon = deadline._replace(at=min(deadline.at, deadline.monotonic() + deadline.pause))
    return http.client.HTTPResponse(_Timed(sock, soon), *rest, **named)  # type: ignore[arg-type]  # enough of one


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
