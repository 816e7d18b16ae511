"""An HTTP proxy between a client and a store, which goes wrong when told to.

It understands just enough of HTTP for that, and keeps connections as a store does. What it does to a request is chosen
by ``choose``, called once for each; so a campaign is repeated by its seed.
"""

import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Final

from custody.crypto.floe import HEADER_SIZE

__all__ = ["Fault", "FaultyProxy"]

_CHUNK = 16 << 10
_MOMENT = 0.05  # seconds
_LENGTH = re.compile(rb"(?im)^content-length: *([0-9]+)\r?$")
_RANGE = re.compile(rb"(?im)^range: *bytes=([0-9]+)-([0-9]+)\r?$")
_SAID = re.compile(rb"(?i)(content-range: bytes )[0-9]+-[0-9]+/[0-9]+")


class Fault(Enum):
    """What happens to one request."""

    DOWN = "the connection is closed at once"
    SILENT = "nothing is answered for longer than anybody waits"
    LATE = "the answer takes a moment to begin"
    BUSY = "503 with Retry-After, and nothing is forwarded"
    SLOW = "the answer comes in small pieces, but comes"
    DRIP = "the answer's head comes byte by byte, and would for minutes"
    STUCK = "the answer stops in the middle, and the connection stays"
    CUT = "the answer ends in the middle"
    RESET = "the connection is reset in the middle of the answer"
    LOST = "the store does what it is asked, and the answer is lost"
    STALE = "the answer is good; the connection it came over is closed when it is used again"
    GARBAGE = "what is answered is not HTTP"
    HEADERS = "the answer's head has no end"
    ELSEWHERE = "a redirect to another place"
    EXPIRED = "403: the credentials that signed the URL have ended"
    CHANGED = "412: the object is not what it was"
    SHORT = "the object is said to end before, and does"
    OTHER_RANGE = "another range is asked for and answered, and says so"
    LYING_RANGE = "another range is answered under the name of the one asked for"
    WHOLE = "the range is left out, so all is answered"
    FLIPPED = "one bit of the body is another"
    FORGED = "the body is what somebody who kept the file key has made of it, with good tags"


_RANGED: Final = frozenset(list(Fault)[list(Fault).index(Fault.GARBAGE) :])
"""Happen to requests for ranges alone; any other request goes well in their place."""

_WORDS: Final = {
    Fault.BUSY: b"HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    Fault.GARBAGE: b"\x16\x03\x01\x00\xff\r\nContent-Range: bytes 0-9/10\r\n\r\n0123456789",
    Fault.EXPIRED: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\nExpiredToken",
    Fault.CHANGED: b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}
_ELSEWHERE: Final = b"/elsewhere"


class FaultyProxy:
    """``choose`` returns what to do to the next request, or None."""

    def __init__(self, port: int, choose: Callable[[], Fault | None] = lambda: None) -> None:
        self._upstream = ("127.0.0.1", port)
        self.choose = choose
        self.served: Counter[Fault | None] = Counter()
        """How often each was done."""
        self.asked: list[tuple[int, int]] = []
        """Ranges that were asked for: first and last byte."""
        self.forged = b""
        """A ciphertext in the place of the true one, as long."""
        self.followed = 0
        """How often somebody went where a redirect led."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._accepted: set[tuple[str, int]] = set()
        self._old: set[tuple[str, int]] = set()

    def begin(self, choose: Callable[[], Fault | None]) -> None:
        """Choose so for what is asked from now on. Ranges that somebody asked for before and gave up do not count."""
        with socket.create_connection(self._listener.getsockname()) as last:  # connections are accepted in turn
            while last.getsockname() not in self._accepted:
                time.sleep(0.001)
        with self._lock:
            self._old |= self._accepted
            self._accepted.clear()
            self.choose = choose

    @contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        """Accept connections, each in a thread of its own."""
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, place = self._listener.accept()
            except OSError:
                return
            self._old.discard(place)
            self._accepted.add(place)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(30)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                head, body = _request(client)
                if not head:
                    return
                fault = self._chosen(head, client.getpeername())
                if not self._answer(client, head, body, fault):
                    return
                if fault is Fault.STALE:
                    client.recv(1)  # somebody uses it again
                    return

    def _chosen(self, head: bytes, place: tuple[str, int]) -> Fault | None:
        wanted = _RANGE.search(head)
        with self._lock:
            if wanted and place in self._old:
                return None
            self.followed += _ELSEWHERE in head.partition(b"\r\n")[0]
            if wanted:
                self.asked.append((int(wanted[1]), int(wanted[2])))
            fault = self.choose()
            if fault in _RANGED and not wanted:
                fault = None
            if fault is Fault.FORGED and (
                b".floe" not in head.partition(b"\r\n")[0] or self.asked[-1][1] < HEADER_SIZE
            ):
                fault = None  # a digest list, or the header, of which there is one
            self.served[fault] += 1
        return fault

    def _answer(self, client: socket.socket, head: bytes, body: bytes, fault: Fault | None) -> bool:
        """Answer a request; tell whether the connection can serve another."""
        if fault is Fault.DOWN:
            return False
        if fault is Fault.SILENT:
            _wait(client)
            return False
        if fault in _WORDS:
            client.sendall(_WORDS[fault])
            return False
        if fault is Fault.ELSEWHERE:
            there = self.endpoint.encode() + _ELSEWHERE
            client.sendall(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % there)
            return False
        if fault is Fault.HEADERS:
            client.sendall(b"HTTP/1.1 206 Partial Content\r\n")
            while not self._stop.is_set():
                client.sendall(b"X-More: of the same\r\n" * 100)
        if fault is Fault.LATE:
            time.sleep(_MOMENT)
        with socket.create_connection(self._upstream, 30) as store:
            store.sendall(_asked(head, fault) + body)
            answer = b"".join(iter(lambda: store.recv(1 << 16), b""))
        if fault is Fault.LOST:
            return False
        return _deliver(client, self._answered(head, answer, fault), fault, self._stop)

    def _answered(self, head: bytes, answer: bytes, fault: Fault | None) -> bytes:
        top, separator, body = answer.partition(b"\r\n\r\n")
        wanted = _RANGE.search(head)
        if fault is Fault.LYING_RANGE and wanted:
            top = re.sub(rb"(?i)(content-range: bytes )[0-9]+-[0-9]+", rb"\g<1>%s-%s" % (wanted[1], wanted[2]), top)
        if fault is Fault.SHORT and wanted and len(body) > 1:
            body = body[: len(body) // 2]
            end = int(wanted[1]) + len(body)
            top = _SAID.sub(rb"\g<1>%s-%d/%d" % (wanted[1], end - 1, end), top)
            top = _LENGTH.sub(b"Content-Length: %d\r" % len(body), top)
        if fault is Fault.FORGED and wanted:
            body = self.forged[int(wanted[1]) : int(wanted[2]) + 1]
        if fault is Fault.FLIPPED and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        return top + separator + body


def _request(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(_CHUNK)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if b"100-continue" in head.lower():
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    wanted = _LENGTH.search(head)
    while wanted and len(body) < int(wanted[1]):
        body += client.recv(1 << 16)
    return head, body


def _asked(head: bytes, fault: Fault | None) -> bytes:
    """The head to forward: one request a connection, and perhaps another range. (No signature covers these.)"""
    kept = [
        line
        for line in head.split(b"\r\n")
        if not line.lower().startswith((b"connection:", b"expect:"))
        and not (fault is Fault.WHOLE and line.lower().startswith(b"range:"))
    ]
    changed = b"\r\n".join([*kept, b"Connection: close", b"", b""])
    if fault in (Fault.OTHER_RANGE, Fault.LYING_RANGE) and (wanted := _RANGE.search(head)):
        first, last = int(wanted[1]), int(wanted[2])
        by = 1 if first == 0 else -1
        changed = _RANGE.sub(b"Range: bytes=%d-%d\r" % (first + by, last + by), changed)
    return changed


def _wait(client: socket.socket) -> None:
    """Wait until a client gives up, or is the only one left who would wait."""
    client.settimeout(2)
    with suppress(TimeoutError):
        client.recv(1)


def _deliver(client: socket.socket, answer: bytes, fault: Fault | None, stop: threading.Event) -> bool:
    """Send an answer, or what there shall be of it; tell whether the connection can serve another request."""
    top, separator, body = answer.partition(b"\r\n\r\n")
    if fault is Fault.DRIP:
        for byte in top:
            client.sendall(bytes([byte]))
            if stop.wait(_MOMENT):
                break
        return False
    if fault in (Fault.CUT, Fault.RESET, Fault.STUCK):
        client.sendall(top + separator + body[: len(body) // 2])
        if fault is Fault.STUCK:
            _wait(client)
        if fault is Fault.RESET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    kept = re.sub(rb"(?im)^connection: close\r\n", b"", top + b"\r\n").removesuffix(b"\r\n")
    framed = _LENGTH.search(kept + b"\r") is not None or b" 204 " in kept or b" 304 " in kept
    answer = (kept if framed else top) + separator + body
    if fault is Fault.SLOW:
        for at in range(0, len(answer), _CHUNK):
            client.sendall(answer[at : at + _CHUNK])
            time.sleep(0.002)
    else:
        client.sendall(answer)
    return framed
