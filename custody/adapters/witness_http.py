"""Asking a witness for a cosignature over HTTP (tlog-witness), from the side of the log.

A witness is not trusted: it may answer with garbage, without end, one byte a minute, with somebody else's signature, or
with a size that does not exist. Whatever it does costs one bounded call: a deadline over the whole exchange, a cap on
what is read, no redirects, no compression, and only lines whose signature verified are returned.
"""

import hashlib
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from socket import SHUT_RDWR, socket
from typing import NamedTuple

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import parse_url

from custody.adapters.http_stretch import reason_of
from custody.errors import ConfigError, ConflictError, CustodyError, FormatError, IntegrityError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.lines import decimal
from custody.tlog.note import COSIGNATURE, MAX_SIGNATURES, Note, SignatureLine, VKey, open_note
from custody.tlog.witness_protocol import MAX_BODY_SIZE, SIZE_CONTENT_TYPE, AddCheckpoint

__all__ = ["HttpWitness", "WitnessConflictError", "WitnessRefusedError"]

_MAX_CHECKPOINT = 64 * 1024  # bytes of a stored checkpoint that we read
_OK = 200
_NOT_FOUND = 404
_CONFLICT = 409
_TRY_LATER = frozenset({408, 429})
_SERVER_ERROR = 500
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "custody"}


class WitnessConflictError(ConflictError):
    """The witness last cosigned another ``size`` (in leaves, never above the one submitted): prove from there."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class WitnessRefusedError(IntegrityError):
    """The witness refuses, or answers what the protocol does not allow. Asking again the same way is no use."""


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class HttpWitness:
    """One witness at one URL; keeps a connection open between calls. Safe for several threads, one call at a time.

    ``name`` is the witness's name in the policy, ``vkey`` its key (type 0x04), ``url`` its submission and monitoring
    prefix (``http`` or ``https``), ``timeout`` the seconds for a whole call. Looking up a host name is done by the
    system and is not covered by it.
    """

    def __init__(
        self, name: str, vkey: VKey, url: str, *, timeout: float, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Connect to nothing yet. ``ConfigError`` for a URL or a key that can't be a witness's."""
        try:
            parsed = parse_url(url)
        except LocationParseError as error:
            raise ConfigError(f"witness {name}: {url} is not a URL") from error
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.auth or parsed.query or parsed.fragment:
            raise ConfigError(f"witness {name}: {url} is not http(s)://host[:port][/path]")
        if vkey.type != COSIGNATURE:
            raise ConfigError(f"witness {name}: its key has type 0x{vkey.type:02x} instead of 0x04")
        self._name = name
        self._vkey = vkey
        self._host, self._port, self._path = parsed.host.strip("[]"), parsed.port, (parsed.path or "").rstrip("/")
        self._timeout = timeout
        self._tls = (ssl_context or ssl.create_default_context()) if parsed.scheme == "https" else None
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None

    @property
    def name(self) -> str:
        """The witness's name in the policy."""
        return self._name

    def add_checkpoint(self, old: int, proof: Sequence[bytes], checkpoint: bytes) -> Sequence[bytes]:
        """Submit a signed checkpoint with its consistency proof from size ``old``; return the cosignature line.

        The line (with newline) was verified over this checkpoint. Raises ``WitnessConflictError``,
        ``WitnessRefusedError``, ``UnavailableError``; ``FormatError`` for a checkpoint that is none.
        """
        request = AddCheckpoint(old, tuple(proof), checkpoint)
        text = Note.parse(checkpoint).text
        size = Checkpoint.parse(text).size
        answer = self._ask("POST", "/add-checkpoint", request.encode(), MAX_BODY_SIZE)
        if answer.status == _OK:
            return [self._cosignature(answer.body, text)]
        if answer.status == _CONFLICT:
            raise self._conflict(answer, old, size)
        raise WitnessRefusedError(f"witness {self._name} refuses: HTTP {answer.status}")

    def latest(self, origin: str) -> bytes | None:
        """Fetch the checkpoint of the log that the witness last cosigned, or ``None`` where it has none.

        The note bears this witness's verified cosignature and names the log; what else stands in it the caller
        verifies. Raises ``WitnessRefusedError``, ``UnavailableError``.
        """
        path = f"/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"
        answer = self._ask("GET", path, None, _MAX_CHECKPOINT)
        if answer.status == _NOT_FOUND:
            return None
        if answer.status != _OK:
            raise WitnessRefusedError(f"witness {self._name} refuses: HTTP {answer.status}")
        try:
            stated = Checkpoint.parse(open_note(answer.body, [self._vkey]).text).origin
        except CustodyError as error:
            raise WitnessRefusedError(f"witness {self._name}: serves a checkpoint that it did not cosign") from error
        if stated != origin:
            raise WitnessRefusedError(f"witness {self._name}: serves the checkpoint of another log")
        return answer.body

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _cosignature(self, body: bytes, text: bytes) -> bytes:
        """Find our witness's line in an answer, verified; lines of other keys are ignored (tlog-witness)."""
        lines = body.removesuffix(b"\n").split(b"\n")
        try:
            if len(lines) > MAX_SIGNATURES:
                raise FormatError("too many lines")
            for line in [SignatureLine.parse(line) for line in lines]:
                if (line.name, line.key_id) == (self._vkey.name, self._vkey.key_id):
                    self._vkey.verify(text, line.signature)
                    return line.encode()
        except CustodyError as error:
            raise WitnessRefusedError(f"witness {self._name}: answered with a bad cosignature") from error
        raise WitnessRefusedError(f"witness {self._name}: answered without a cosignature of its key")

    def _conflict(self, answer: _Answer, old: int, size: int) -> CustodyError:
        """Judge a 409: the size must be one that we could prove from. A bare size proves nothing about our log."""
        try:
            if answer.content_type != SIZE_CONTENT_TYPE or not answer.body.endswith(b"\n"):
                raise FormatError("no size")
            stated = decimal(answer.body[:-1], "size")
        except FormatError:
            return WitnessRefusedError(f"witness {self._name}: a conflict without a size")
        if stated > size or stated == old:
            return WitnessRefusedError(f"witness {self._name}: claims size {stated} against {old} and {size}")
        return WitnessConflictError(f"witness {self._name} is at size {stated}", stated)

    def _ask(self, method: str, path: str, body: bytes | None, limit: int) -> _Answer:
        """Exchange one request for one answer of at most ``limit`` bytes, within the deadline."""
        if not self._lock.acquire(timeout=self._timeout):
            raise UnavailableError(f"witness {self._name}: still busy with an earlier call")
        try:
            answer = self._exchange(method, path, body, limit)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            self._drop()
            raise UnavailableError(f"witness {self._name} does not answer: {_why(error)}") from error
        finally:
            self._lock.release()
        if answer.status in _TRY_LATER or answer.status >= _SERVER_ERROR:
            raise UnavailableError(f"witness {self._name} can't answer now: HTTP {answer.status}")
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, limit: int) -> _Answer:
        """Try the open connection; if it turns out to be closed, try once on a new one (the request is idempotent)."""
        with self._deadline() as expired:
            answer: _Answer | None = None
            if self._connection is not None:
                try:
                    answer = self._exchange_on(self._connection, method, path, body, limit)
                except (HTTPError, HTTPException, OSError, ValueError):
                    self._drop()
            if answer is None and not expired.is_set():
                connection = self._connect()
                if not expired.is_set():  # while connecting there was no socket for the watchdog to shut down
                    answer = self._exchange_on(connection, method, path, body, limit)
            # Asked again after an answer: to http.client a socket shut down amid the headers looks like their end.
            if answer is None or expired.is_set():
                raise TimeoutError
            return answer

    def _connect(self) -> HTTPConnection:
        """Open a connection; the watchdog sees it from the moment it is created."""
        if self._tls is None:
            connection = HTTPConnection(self._host, self._port, timeout=self._timeout)
        else:
            connection = HTTPSConnection(self._host, self._port, timeout=self._timeout, ssl_context=self._tls)
        self._connection = connection
        connection.connect()
        return connection

    def _exchange_on(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, limit: int
    ) -> _Answer:
        """Send and receive. The connection stays open only after a whole answer within the limit."""
        connection.request(
            method, self._path + path, body=body, headers=_HEADERS, preload_content=False, decode_content=False
        )
        response = connection.getresponse()
        data = bytearray()
        # Until the end: only a read that returns nothing notices that the announced length was not reached.
        while len(data) <= limit and (chunk := response.read(limit + 1 - len(data), decode_content=False)):
            data += chunk
        if len(data) > limit:
            self._drop()
            raise WitnessRefusedError(f"witness {self._name}: answered with more than {limit} bytes")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            self._drop()
            raise WitnessRefusedError(f"witness {self._name}: answered compressed")
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.headers.get("Connection", "").lower() == "close":
            self._drop()
        return _Answer(response.status, content_type, bytes(data))

    @contextmanager
    def _deadline(self) -> Iterator[threading.Event]:
        """Shut the socket down when the time is over: a timeout per read would let one byte a second go on for ever."""
        expired = threading.Event()

        def shut_down() -> None:
            expired.set()
            connection = self._connection
            sock = None if connection is None else connection.sock
            if sock is not None:
                with suppress(OSError):
                    # Not SSLSocket.shutdown, which takes the TLS state from under the thread that reads.
                    socket.shutdown(sock, SHUT_RDWR)

        watchdog = threading.Timer(self._timeout, shut_down)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield expired
        finally:
            watchdog.cancel()

    def _drop(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _why(error: Exception) -> str:
    """Say what went wrong: the system, where the library only wraps what it says."""
    return reason_of(error.__cause__ if isinstance(error.__cause__, OSError) else error)
