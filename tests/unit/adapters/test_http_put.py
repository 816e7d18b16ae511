"""Presigned PUTs over plain HTTP: answers that say nothing of what became of the body, and lines that are slow."""

import http.client
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from custody.adapters.http_pool import HttpPool
from custody.adapters.http_put import put
from custody.adapters.surroundings import Surroundings
from custody.errors import ConflictError
from custody.ports import Presigned
from tests.doubles.deployment import now, rng

HURRIED = Surroundings(now, rng, sleep=lambda _: None)
BUFFER = 64 << 10


class Store(http.server.ThreadingHTTPServer):
    """Takes what is PUT, ``pause`` seconds for each 64 KiB, and answers as ``answers`` say, one after the other."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.answers: list[int] = []
        self.pause = 0.0
        self.taken: list[bytes] = []

    def handle_error(self, *_: object) -> None:
        """A client that gives up is no error of ours."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_PUT(self) -> None:
        taken = bytearray()
        while left := int(self.headers["Content-Length"]) - len(taken):
            time.sleep(self.server.pause)
            taken += self.rfile.read(min(left, BUFFER))
        self.server.taken.append(bytes(taken))
        self.send_response(self.server.answers.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(store: Store, body: bytes, timeout: float = 5, *, said: bool = True) -> None:
    headers = {"content-length": str(len(body))} if said else {}
    signed = Presigned(f"http://127.0.0.1:{store.server_port}/a?token=1", headers, 1 << 40)
    pool = HttpPool(timeout=timeout)
    try:
        put("a", lambda: signed, body, pool, HURRIED, patience=5)
    finally:
        pool.close()


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_what_a_gateway_lost_the_answer_to_may_be_there_already(store: Store, status: int) -> None:
    store.answers = [status, 412]
    send(store, b"body")
    assert store.taken == [b"body"] * 2


@pytest.mark.parametrize("answers", [[412], [429, 412]])
def test_what_was_there_before_is_a_conflict(store: Store, answers: list[int]) -> None:
    store.answers = answers
    with pytest.raises(ConflictError, match="a exists"):
        send(store, b"body")


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("size", [0, 1, (256 << 10) + 1])
def test_a_body_goes_out_whole_whether_or_not_its_length_was_signed(store: Store, size: int, *, said: bool) -> None:
    store.answers = [200]
    send(store, b"x" * size, said=said)
    assert store.taken == [b"x" * size]


def test_a_body_may_take_longer_than_a_stall(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(connection: http.client.HTTPConnection) -> None:
        whole(connection)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    whole = http.client.HTTPConnection.connect
    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    store.answers, store.pause = [200], 0.03
    body = bytes(3 << 20)  # a second and a half
    send(store, body, timeout=0.8)
    assert store.taken == [body]
