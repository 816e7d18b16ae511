"""A proxy between a client and a store over HTTP, with weather: what networks and tired stores do to answers."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

__all__ = ["FAULTS", "Weather", "weather"]

FAULTS: Final = ("503", "reset", "cut", "wrong range", "whole blob", "shifted", "flipped", "hung up", "short range")


_OURS: Final = ("transfer-encoding", "connection", "date", "server", "content-length")


class Weather:
    """What happens to the next answers with ranges: ``next`` names a fault, or "" for good weather."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.next: Callable[[], str] = str
        self.happened: list[str] = []


class _Server(ThreadingHTTPServer):
    """``state`` is the weather, ``upstream`` the address behind it."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.state = Weather(f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients hang up, and that is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name it has there
        """Nothing."""

    def do_GET(self) -> None:
        """Pass the request on, and what comes back, weather permitting."""
        state = self.server.state
        fault = state.next() if self.command == "GET" and "Range" in self.headers else ""
        if fault:
            state.happened.append(fault)
        headers = dict(self.headers.items())
        if fault == "hung up":
            self.close_connection = True
        elif fault == "503":
            self._answer(503, {}, b"slow down", fault)
        elif fault == "whole blob":
            del headers["Range"]
            self._pass_on(headers, fault)
        elif fault == "wrong range":
            self._pass_on({**headers, "Range": "bytes=0-9"}, fault)
        else:
            self._pass_on(headers, fault)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 - the same

    def _pass_on(self, headers: dict[str, str], fault: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection(self.server.upstream, timeout=20)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        self._answer(response.status, dict(response.headers.items()), _weathered(data, fault), fault)

    def _answer(self, status: int, headers: dict[str, str], data: bytes, fault: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _OURS:
                self.send_header(name, value)
        head = self.command == "HEAD"
        self.send_header("Content-Length", headers.get("Content-Length", "0") if head else str(len(data)))
        self.end_headers()
        if fault in ("cut", "reset"):
            data = data[: len(data) // 2]
            self.close_connection = True
        if not head:
            self.wfile.write(data)
        if fault == "reset":  # linger for no time: the end of the connection is a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _weathered(data: bytes, fault: str) -> bytes:
    half = len(data) // 2
    if fault == "shifted":
        return data[1:] + data[:1]
    if fault == "flipped":
        return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    return data[:half] if fault == "short range" else data


@contextmanager
def weather(upstream: str) -> Iterator[Weather]:
    """Run a proxy before ``upstream``, an http URL; requests keep their Host header, which is signed."""
    server = _Server(urlsplit(upstream).netloc)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
