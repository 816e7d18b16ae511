"""Plain parallel GETs into memory: the limit of opening from S3, with three clients of which the fastest counts.

All read the same object on eight connections, in ranges as long as a job's, and look at no byte of it. Where the socket
is ours to read, the kernel is told to wake us once for all of a range, as it is by a job.
"""

import configparser
import http.client
import importlib
import re
import socket
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from custody.app.demo.places import BUCKET, S3
from custody.app.sealing import SEGMENT
from custody.client.direct import FETCH
from custody.crypto.floe import OVERHEAD
from ops.bench.limits import decrypt_and_hash

__all__ = ["Gets"]

_RANGE: Final = FETCH // (SEGMENT + OVERHEAD) * (SEGMENT + OVERHEAD)
_CONNECTIONS: Final = 8
_EXPIRES: Final = 3600
_HEADER: Final = 64 << 10
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Gets:
    """The largest object of a place."""

    place: S3
    key: str
    size: int
    host: str
    port: int
    path: str

    @classmethod
    def largest(cls, place: S3) -> "Gets":
        """Find it, and sign a URL of it."""
        client = place.client()
        found = max(client.list_objects_v2(Bucket=BUCKET)["Contents"], key=lambda item: item["Size"])
        where = {"Bucket": BUCKET, "Key": found["Key"]}
        url = urlsplit(client.generate_presigned_url("get_object", where, _EXPIRES))
        path = f"{url.path}?{url.query}"
        return cls(place, found["Key"], found["Size"], url.hostname or "", url.port or 80, path)

    def sockets(self, out: memoryview) -> None:
        """HTTP by hand: from the socket straight into ``out``, which has at least ``size`` bytes."""

        def fetch(numbers: Iterator[int]) -> None:
            with socket.create_connection((self.host, self.port)) as connection:
                for first, last in self._ranges(numbers):
                    place = out[first : last + 1]
                    _receive(connection, place, self._ask(connection, first, last))

        self._on_all(fetch)

    def sockets_and_steps(self, out: memoryview) -> None:
        """The same, and each segment decrypted and hashed when it is there: what opening cannot do without."""

        def fetch(numbers: Iterator[int]) -> None:
            buffer = memoryview(bytearray(SEGMENT + OVERHEAD))
            with socket.create_connection((self.host, self.port)) as connection:
                for first, last in self._ranges(numbers):
                    along = self._ask(connection, first, last)
                    for at in range(first, last + 1, len(buffer)):
                        stored = buffer[: last + 1 - at]
                        _receive(connection, stored, along)
                        decrypt_and_hash(stored, out[at : at + len(stored)])
                        along = b""

        self._on_all(fetch)

    def _ask(self, connection: socket.socket, first: int, last: int) -> bytes:
        """Ask for a range; return what came of it together with the head."""
        ask = f"GET {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nRange: bytes={first}-{last}\r\n\r\n"
        connection.sendall(ask.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            got = connection.recv(_HEADER)
            if not got:
                raise ConnectionError("the server closed the connection")
            head += got
        head, _, along = head.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        _check(int(head[9:12]), int(length[1]) if length else None, last + 1 - first)
        return along

    def standard_library(self, out: memoryview) -> None:
        """The same with ``http.client``."""

        def fetch(numbers: Iterator[int]) -> None:
            connection = http.client.HTTPConnection(self.host, self.port)
            try:
                for first, last in self._ranges(numbers):
                    _get_with_library(connection, self.path, first, out[first : last + 1])
            finally:
                connection.close()

        self._on_all(fetch)

    def obstore(self) -> Callable[[], object]:
        """obstore, in Rust: into memory of its own. ``ImportError`` where it is not installed."""
        library = importlib.import_module("obstore")
        store = importlib.import_module("obstore.store").S3Store(
            BUCKET,
            endpoint=self.place.endpoint,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
            **self._credentials(),
        )
        starts = list(range(0, self.size, _RANGE))
        ends = [min(start + _RANGE, self.size) for start in starts]
        # Adjacent ranges that one call asks for are made one request: each gets a call, on eight threads.
        return lambda: _all(lambda pair: library.get_range(store, self.key, start=pair[0], end=pair[1]), starts, ends)

    def _ranges(self, numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
        for number in numbers:
            yield number * _RANGE, min((number + 1) * _RANGE, self.size) - 1

    def _on_all(self, fetch: Callable[[Iterator[int]], None]) -> None:
        """Let each connection take the next range as it becomes free."""
        numbers = iter(range(-(-self.size // _RANGE)))  # one step of the interpreter: no two threads get the same
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(fetch, [numbers] * _CONNECTIONS))

    def _credentials(self) -> dict[str, str]:
        file = configparser.ConfigParser()
        file.read(self.place.path / "credentials")
        return {name.removeprefix("aws_"): value for name, value in file["default"].items()}


def _all(get: Callable[[tuple[int, int]], Sized], starts: list[int], ends: list[int]) -> list[Sized]:
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        found = list(pool.map(get, zip(starts, ends, strict=True)))
    if [len(part) for part in found] != [end - start for start, end in zip(starts, ends, strict=True)]:
        raise ConnectionError("an answer of another length")
    return found


def _get_with_library(connection: http.client.HTTPConnection, path: str, first: int, out: memoryview) -> None:
    connection.request("GET", path, headers={"Range": f"bytes={first}-{first + len(out) - 1}"})
    sock = connection.sock
    with connection.getresponse() as response:
        _check(response.status, response.length, len(out))
        along = min(len(response.fp.peek(1)), len(out))  # what came with the head; the rest is at the socket
        _receive(sock, out, response.fp.read1(along))


def _check(status: int, length: int | None, wanted: int) -> None:
    """Require that a range is what follows: an error is answered fast, and must not count."""
    if (status, length) != (http.client.PARTIAL_CONTENT, wanted):
        raise ConnectionError(f"a range of {wanted} bytes was asked for, the answer is {status} with {length} bytes")


def _receive(connection: socket.socket, out: memoryview, along: bytes) -> None:
    """Fill ``out``, of which ``along`` is there already."""
    done = len(along)
    out[:done] = along
    while done < len(out):
        size = connection.recv_into(out[done:], 0, socket.MSG_WAITALL)
        if not size:
            raise ConnectionError("the server closed the connection")
        done += size
