"""HTTP connections to stores, kept between requests, and what they need of the world.

The standard library's client is used, with what matters for speed beside it: ``receive`` takes the bytes of a body from
the socket straight into the buffer where they are wanted. (Measured against boto3 and obstore: ``ops/adr``.) Proxies of
the environment are not asked, and no redirect is followed: a signed request is valid at one host only.

Whoever borrows a connection says until when. A server that sends a byte now and then would otherwise hold its reader
for ever: each byte is an answer in time. And nobody waits for longer than a second, be it for a connection, to send or
to receive, without asking whether that is still wanted; only names are looked up as slowly as the system does it.
"""

import errno
import http.client
import io
import os
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from custody.adapters.backoff import Backoff, wait
from custody.errors import ConfigError, FormatError
from custody.ports import Presigned
from custody.segments.streams import StillWanted, still_wanted

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Deadline", "HttpPool", "Target", "receive", "send"]

_TIMEOUT: Final = 15.0
"""Seconds for connecting, and without a single byte, until a request is given up."""

_LOOK: Final = 1.0
"""Seconds after which whoever waits looks whether that is still wanted."""

_MOMENT: Final = 0.001
_KEPT: Final = 64
_PIECE: Final = 256 << 10  # bytes that are sent at once: as a whole, over TLS
_MOST_HOST: Final = 253
_HOST: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)
_HEADER: Final = re.compile(r"[a-z0-9-]{1,100}", re.ASCII | re.IGNORECASE)


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

    def wait_for(self, within: Callable[[float], int]) -> int:
        """Return what ``within`` returns, which is told how many seconds it may take, and called until it does not time
        out. ``TimeoutError`` when the time for the next byte is over; and what ``wanted`` raises.
        """
        end = self.monotonic() + self.timeout
        while (left := end - self.monotonic()) > 0:
            self.wanted()
            with suppress(TimeoutError, BlockingIOError):
                return within(max(_MOMENT, min(_LOOK, left)))
        raise TimeoutError("timed out")

    def rest(self, sleep: Callable[[float], None], backoff: Backoff) -> bool:
        """Wait before another attempt, as long as that is wanted; tell whether there is time for one."""
        pause = backoff.pause(self.monotonic())
        wait(pause or 0, sleep, self.wanted)
        return pause is not None and not self.passed


class Target(NamedTuple):
    """A URL taken apart: where to connect, and what to ask for there."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> "Target":
        """Take a URL apart. ``FormatError``, which does not show it, for one that is not HTTP."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise FormatError("store: a signed URL that is no URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise FormatError("store: a signed URL that is not HTTP")
        if len(parts.hostname) > _MOST_HOST or _HOST.fullmatch(parts.hostname) is None:
            raise FormatError("store: a signed URL of a host that cannot be")
        secure = parts.scheme == "https"
        path = f"{parts.path or '/'}?{parts.query}"
        if not path.isascii() or any(byte <= " " or byte == "\x7f" for byte in path):
            raise FormatError("store: a signed URL with characters that no URL has")
        return cls(secure, parts.hostname, port or (443 if secure else 80), path)

    @classmethod
    def of_signed(cls, signed: Presigned) -> "Target":
        """Take the URL of a signed request apart. ``FormatError`` also for headers that no request can have: whoever
        signed it, a broker perhaps, is not trusted with what is sent.
        """
        for name, value in signed.headers.items():
            if _HEADER.fullmatch(name) is None or not value.isascii() or not value.isprintable():
                raise FormatError("store: a signed request with a header that cannot be")
        return cls.of(signed.url)


class HttpPool:
    """Connections by host. Thread-safe. ``ca`` is a file of PEM certificates; without it the system's are used."""

    def __init__(self, ca: Path | None = None, *, timeout: float = _TIMEOUT) -> None:
        self._ca = ca
        self._timeout = timeout
        self._lock = threading.Lock()
        self._idle: dict[tuple[bool, str, int], list[http.client.HTTPConnection]] = {}
        self._context: ssl.SSLContext | None = None
        self._closed = False

    @contextmanager
    def borrow(self, target: Target, deadline: Deadline) -> Iterator[http.client.HTTPConnection]:
        """Lend a connection. After the block it is kept if it can be used again; when the block raises, it is closed.

        A connection that the other end has closed meanwhile is not lent: what comes in on an idle one is its end. The
        head of an answer that is not there by ``deadline`` raises ``TimeoutError``.
        """
        place = target[:3]
        connection = self._idle_one(place) or self._connect(target, deadline)
        connection.sock.settimeout(self._timeout)
        connection.response_class = partial(_answer, deadline)  # type: ignore[assignment]  # makes one
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if connection.sock is not None and len(idle) < _KEPT and not self._closed:
                idle.append(connection)
                return
        connection.close()

    def deadline(self, monotonic: Callable[[], float], seconds: float, wanted: StillWanted = still_wanted) -> Deadline:
        """Begin to wait for so many seconds."""
        return Deadline(monotonic, monotonic() + seconds, self._timeout, wanted)

    def close(self) -> None:
        """Close the idle connections, and those that are given back from now on."""
        with self._lock:
            self._closed = True
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

    def _connect(self, target: Target, deadline: Deadline) -> http.client.HTTPConnection:
        if not target.secure:
            plain = http.client.HTTPConnection(target.host, target.port)
            plain.sock = _dial(target, deadline)
            return plain
        context = self._tls()
        secure = http.client.HTTPSConnection(target.host, target.port, context=context)
        secure.sock = _secured(_dial(target, deadline), context, target.host, deadline)
        return secure

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
        return deadline.wait_for(partial(_some_of, sock, view))
    sock.settimeout(None)
    return deadline.wait_for(partial(_all_of, sock, view))


def send(sock: socket.socket, view: memoryview, deadline: Deadline) -> None:
    """Send all of ``view``. ``TimeoutError`` when it is too late, or too long nothing was taken; and what
    ``deadline.wanted`` raises.
    """
    while view:
        if deadline.passed:
            raise TimeoutError("timed out")
        # Over TLS what timed out must be sent again from the same byte on, as it is here.
        view = view[deadline.wait_for(partial(_sent, sock, view[:_PIECE])) :]


def _sent(sock: socket.socket, view: memoryview, seconds: float) -> int:
    sock.settimeout(seconds)
    return sock.send(view)


def _dial(target: Target, deadline: Deadline) -> socket.socket:
    """Connect to the first address of a host that answers."""
    failure: OSError | None = None
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM):
            with ExitStack() as stack:
                sock = stack.enter_context(socket.socket(family, kind, protocol))
                try:
                    _reach(sock, address, deadline)
                except OSError as error:
                    failure = error
                    continue
                stack.pop_all()
                return sock
        raise failure or OSError("no address")
    finally:
        del failure  # a traceback holds this frame


def _reach(sock: socket.socket, address: Any, deadline: Deadline) -> None:
    sock.settimeout(0)
    begun = sock.connect_ex(address)
    if begun not in (0, errno.EINPROGRESS):
        raise OSError(begun, os.strerror(begun))
    deadline.wait_for(partial(_reached, sock))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reached(sock: socket.socket, seconds: float) -> int:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    if not poll.poll(1000 * seconds):
        raise TimeoutError
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        # Not as ``TimeoutError``, which the system's own is: that would be waited for again.
        raise ConnectionError(error, os.strerror(error))
    return 0


def _secured(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline) -> ssl.SSLSocket:
    """Agree on TLS. The certificate is checked meanwhile."""
    with ExitStack() as stack:
        stack.enter_context(sock)
        secure = stack.enter_context(context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False))
        deadline.wait_for(partial(_agreed, secure))
        stack.pop_all()
        return secure


def _agreed(secure: ssl.SSLSocket, seconds: float) -> int:
    secure.settimeout(seconds)
    secure.do_handshake()
    return 0


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
        return self._deadline.wait_for(partial(_some_of, self._sock, buffer))

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
