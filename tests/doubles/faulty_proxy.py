"""An HTTP proxy between a client and a store, which goes wrong when told to.

It forwards one request a connection and understands just enough of HTTP for that. What it does to a request is chosen
by ``choose``, called once for each; so a campaign is repeated by its seed.
"""

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum

__all__ = ["Fault", "FaultyProxy"]

_CHUNK = 16 << 10
_LENGTH = re.compile(rb"(?im)^content-length: *([0-9]+)\r?$")
_RANGE = re.compile(rb"(?im)^range: *bytes=([0-9]+)-([0-9]+)\r?$")


class Fault(Enum):
    """What happens to one request."""

    DOWN = "the connection is closed at once"
    SILENT = "nothing is answered for longer than anybody waits"
    BUSY = "503, and nothing is forwarded"
    SLOW = "the answer comes in small pieces, but comes"
    CUT = "the answer ends in the middle"
    RESET = "the connection is reset in the middle of the answer"
    LOST = "the store does what it is asked, and the answer is lost"
    OTHER_RANGE = "another range is asked for and answered, and says so"
    LYING_RANGE = "another range is answered under the name of the one asked for"
    WHOLE = "the range is left out, so all is answered"
    FLIPPED = "one bit of the body is another"


class FaultyProxy:
    """``choose`` returns what to do to the next request, or None. ``served`` counts what was done."""

    def __init__(self, port: int, choose: Callable[[], Fault | None] = lambda: None) -> None:
        self._upstream = ("127.0.0.1", port)
        self.choose = choose
        self.served: dict[Fault | None, int] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stop = threading.Event()
        self._lock = threading.Lock()

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
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(30)
            head, body = _request(client)
            if not head:
                return
            with self._lock:
                fault = self.choose()
                self.served[fault] = self.served.get(fault, 0) + 1
            self._answer(client, head, body, fault)

    def _answer(self, client: socket.socket, head: bytes, body: bytes, fault: Fault | None) -> None:
        if fault is Fault.DOWN:
            return
        if fault is Fault.SILENT:
            self._stop.wait(2)
            return
        if fault is Fault.BUSY:
            client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with socket.create_connection(self._upstream, 30) as store:
            store.sendall(_asked(head, fault) + body)
            answer = b"".join(iter(lambda: store.recv(1 << 16), b""))
        if fault is not Fault.LOST:
            _deliver(client, _answered(head, answer, fault), fault)


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


def _answered(head: bytes, answer: bytes, fault: Fault | None) -> bytes:
    top, separator, body = answer.partition(b"\r\n\r\n")
    if fault is Fault.LYING_RANGE and (wanted := _RANGE.search(head)):
        top = re.sub(rb"(?i)(content-range: bytes )[0-9]+-[0-9]+", rb"\g<1>%s-%s" % (wanted[1], wanted[2]), top)
    if fault is Fault.FLIPPED and body:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    return top + separator + body


def _deliver(client: socket.socket, answer: bytes, fault: Fault | None) -> None:
    if fault in (Fault.CUT, Fault.RESET):
        head = answer.index(b"\r\n\r\n") + 4 if b"\r\n\r\n" in answer else 0
        answer = answer[: head + (len(answer) - head) // 2]
    if fault is Fault.SLOW:
        for at in range(0, len(answer), _CHUNK):
            client.sendall(answer[at : at + _CHUNK])
            time.sleep(0.002)
    else:
        client.sendall(answer)
    if fault is Fault.RESET:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
