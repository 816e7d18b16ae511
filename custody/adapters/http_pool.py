"""HTTP connections to stores, kept between requests, and what they need of the world.

The standard library's client is used for what matters for speed: the bytes of a body go from the socket straight into
the buffer where they are wanted. (Measured against boto3 and obstore: ``ops/adr``.) Proxies of the environment are not
asked, and no redirect is followed: a signed request is valid at one host only.
"""

import http.client
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from custody.errors import ConfigError

__all__ = ["HttpPool", "Target"]

_TIMEOUT: Final = 15.0
"""Seconds for connecting, and without a single byte, until a request is given up."""

_KEPT: Final = 64


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
    def borrow(self, target: Target) -> Iterator[http.client.HTTPConnection]:
        """Lend a connection. After the block it is kept if it can be used again; when the block raises, it is closed.

        A connection that the other end has closed meanwhile is not lent: what comes in on an idle one is its end.
        """
        place = target[:3]
        connection = self._idle_one(place) or self._connect(target)
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


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
