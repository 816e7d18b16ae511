"""Presigned PUTs: answers that say nothing of what became of the body, lines that are slow, and who is let go."""

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from custody.adapters import http_pool
from custody.adapters.http_pool import Deadline, HttpPool, Target
from custody.adapters.http_put import put
from custody.adapters.surroundings import Surroundings
from custody.errors import ConfigError, ConflictError, FormatError, UnavailableError
from custody.ports import Presigned
from tests.doubles.deployment import now, rng

HURRIED = Surroundings(now, rng, sleep=lambda _: None)
BUFFER = 64 << 10
WAIT = 10.0

Answers = list[int | tuple[int, str]]


class Store(http.server.ThreadingHTTPServer):
    """Takes what is PUT, ``pause`` seconds for each 64 KiB, and answers as ``answers`` say, one after the other: with a
    status, or one and the code in S3's body. Where nothing is left to say it answers 503.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://localhost:{self.server_port}/a?token="
        self.answers: Answers = []
        self.pause = 0.0
        self.taken: list[bytes] = []
        self.hangs = ""
        self.asked = threading.Event()
        self.released = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client that gives up is no error of ours."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_PUT(self) -> None:
        self.server.asked.set()
        if self.server.hangs == "body":
            self.server.released.wait(30)
        taken = bytearray()
        while left := int(self.headers["Content-Length"]) - len(taken):
            time.sleep(self.server.pause)
            taken += self.rfile.read(min(left, BUFFER))
        self.server.taken.append(bytes(taken))
        if self.server.hangs == "head":
            self.server.released.wait(30)
        said = self.server.answers.pop(0) if self.server.answers else 503
        status, code = said if isinstance(said, tuple) else (said, "")
        body = f"<?xml?><Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Store]:
    with Store(context) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as server:
        yield server


@pytest.fixture
def secure(tls_context: ssl.SSLContext) -> Iterator[Store]:
    with serving(tls_context) as server:
        yield server


class Signer:
    """Signs with one token after another; ``signed`` counts."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.signed = 0

    def __call__(self) -> Presigned:
        self.signed += 1
        return Presigned(f"{self.store.url}t{self.signed}", {}, 1 << 40)


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
def test_what_was_there_before_is_a_conflict(store: Store, answers: Answers) -> None:
    store.answers = answers
    with pytest.raises(ConflictError, match="a exists"):
        send(store, b"body")


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("size", [0, 1, (256 << 10) + 1])
def test_a_body_goes_out_whole_whether_or_not_its_length_was_signed(store: Store, size: int, *, said: bool) -> None:
    store.answers = [200]
    send(store, b"x" * size, said=said)
    assert store.taken == [b"x" * size]


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no system take more than 64 KiB of what is sent, until the store does."""

    def dial(target: Target, deadline: Deadline) -> socket.socket:
        sock = whole(target, deadline)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        return sock

    whole = http_pool._dial
    monkeypatch.setattr(http_pool, "_dial", dial)


def test_a_body_may_take_longer_than_a_stall(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)
    store.answers, store.pause = [200], 0.03
    body = bytes(3 << 20)  # a second and a half
    send(store, body, timeout=0.8)
    assert store.taken == [body]


@pytest.mark.parametrize("kind", ["store", "secure"])
def test_a_body_that_is_sent_in_many_waits_arrives_whole(
    kind: str, request: pytest.FixtureRequest, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS, what timed out must be sent again exactly."""
    narrow(monkeypatch)
    monkeypatch.setattr(http_pool, "_LOOK", 0.01)
    store = request.getfixturevalue(kind)
    store.answers, store.pause = [200], 0.05
    body = rng(1 << 20)
    pool = HttpPool(tls / "ca.pem")
    put("a", Signer(store), body, pool, HURRIED)
    pool.close()
    assert store.taken == [body]


@pytest.mark.parametrize(
    "answers", [[409, 200], [(409, "ConditionalRequestConflict"), 200], [(400, "RequestTimeout"), 200]]
)
def test_what_means_try_again_is_tried_again(store: Store, answers: Answers) -> None:
    store.answers = answers
    send(store, b"body")
    assert store.taken == [b"body"] * 2


def test_what_somebody_else_was_writing_is_a_conflict(store: Store) -> None:
    store.answers = [409, 412]
    with pytest.raises(ConflictError, match="a exists"):
        send(store, b"body")


@pytest.mark.parametrize("refuses", [403, (400, "ExpiredToken")])
def test_a_url_that_ended_early_is_renewed_once(store: Store, refuses: int | tuple[int, str]) -> None:
    signer, pool = Signer(store), HttpPool(timeout=5)
    store.answers = [refuses, 200]
    put("a", signer, b"body", pool, HURRIED, patience=5)
    assert signer.signed == 2
    store.answers = [refuses, refuses]
    with pytest.raises(ConfigError, match=r"HTTP 40[03]") as caught:
        put("a", signer, b"body", pool, HURRIED, patience=5)
    pool.close()
    assert signer.signed == 4
    assert "token=" not in caught.value.message + caught.value.hint
    if isinstance(refuses, tuple):
        assert "have ended: renew them" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("InvalidRequest", "HTTP 400 (InvalidRequest)"),
        ("x" * 64, f"HTTP 400 ({'x' * 64})"),
        ("x" * 65, "HTTP 400"),
        ("\x1b[2J", "HTTP 400"),
        ("a b", "HTTP 400"),
        ("é", "HTTP 400"),
        (f"<Pad>{'x' * 5000}</Pad></Code><Code>Late", "HTTP 400"),
    ],
)
def test_a_refusal_names_the_stores_code_if_it_is_one(store: Store, code: str, said: str) -> None:
    store.answers = [(400, code)]
    with pytest.raises(ConfigError) as caught:
        send(store, b"body")
    assert caught.value.message == f"store: a: {said}"
    assert "clock" not in caught.value.hint


@pytest.mark.parametrize(("name", "value"), [("x-amz-a", "a\nb"), ("x-amz-a", "é"), ("a b", "c"), ("", "")])
def test_headers_that_no_request_has_are_refused_before_anything_is_sent(store: Store, name: str, value: str) -> None:
    signed = Presigned(f"{store.url}1", {name: value}, 1 << 40)
    with pytest.raises(FormatError, match="header"):
        put("a", lambda: signed, b"body", HttpPool(), HURRIED)
    assert not store.asked.is_set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refusal_that_comes_before_the_body_was_read_is_heard(
    scheme: str, tls: Path, tls_context: ssl.SSLContext
) -> None:
    """The store closes the connection while we send; what it said stands before that. Tried again, it would be no
    conflict but an earlier attempt of ours.
    """
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def refuse() -> None:
            with server.accept()[0] as plain:
                secure = tls_context.wrap_socket(plain, server_side=True) if scheme == "https" else plain
                with secure as connection:
                    connection.recv(1 << 10)
                    connection.sendall(b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n")
                    connection.shutdown(socket.SHUT_RD)
                    if scheme == "https":
                        time.sleep(0.2)  # then it is cut off, with no goodbye of TLS

        thread = threading.Thread(target=refuse)
        thread.start()
        signed = Presigned(f"{scheme}://localhost:{server.getsockname()[1]}/a?", {}, 1 << 40)
        with pytest.raises(ConflictError, match="a exists"):
            put("a", lambda: signed, bytes(64 << 20), HttpPool(tls / "ca.pem"), HURRIED, patience=5)
        thread.join()


def test_when_patience_ends_the_last_reason_is_told(store: Store) -> None:
    """The last pause ends with patience: an attempt after it would have no time, and say only that."""
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    store.answers = [(503, "SlowDown")] * 40
    around, pool = Surroundings(now, rng, monotonic=lambda: passed[0], sleep=sleep), HttpPool()
    with pytest.raises(UnavailableError, match=r"it answered 503 \(SlowDown\)"):
        put("a", Signer(store), b"body", pool, around, patience=20)
    pool.close()
    assert passed[0] >= 20


def test_an_address_that_the_system_gives_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ETIMEDOUT is a ``TimeoutError`` to Python, as the end of one of our own short waits."""

    class Hurried(socket.socket):
        def connect_ex(self, address: Any, /) -> int:
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
            return super().connect_ex(address)

    with socket.socket() as server, ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):  # who comes next is not even refused
            other = stack.enter_context(socket.socket())
            other.setblocking(False)  # noqa: FBT003 - its name says what it is
            other.connect_ex(server.getsockname())
        target = Target(secure=False, host="127.0.0.1", port=server.getsockname()[1], path="/?")
        monkeypatch.setattr(socket, "socket", Hurried)
        with pytest.raises(ConnectionError, match="timed out"):
            http_pool._dial(target, HttpPool().deadline(time.monotonic, 60))


@pytest.mark.parametrize("kind", ["store", "secure"])
@pytest.mark.parametrize("hangs", ["body", "head", "503"])
def test_whoever_sends_to_a_store_is_let_go(hangs: str, kind: str, request: pytest.FixtureRequest, tls: Path) -> None:
    store = request.getfixturevalue(kind)
    store.hangs = hangs
    let_go(store.url, tls, store.asked)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whoever_waits_for_a_connection_is_let_go(scheme: str, tls: Path) -> None:
    """Over HTTP for a network that drops what it gets; over HTTPS for a server that says nothing."""
    asked = threading.Event()
    asked.set()
    with socket.socket() as server, ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        if scheme == "http":  # who comes next is not even refused
            for _ in range(2):
                other = stack.enter_context(socket.socket())
                other.setblocking(False)  # noqa: FBT003 - its name says what it is
                other.connect_ex(server.getsockname())
        let_go(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/a?", tls, asked)


def let_go(url: str, tls: Path, asked: threading.Event) -> None:
    """Require that a PUT waits, and that it ends soon when nobody wants it any more."""
    gone = threading.Event()

    def wanted() -> None:
        if gone.is_set():
            raise UnavailableError("nobody wants it")

    with ThreadPoolExecutor(1) as sender:
        pool = HttpPool(tls / "ca.pem", timeout=60)
        signed = Presigned(url, {}, 1 << 40)
        body = bytes(8 << 20)
        sending = sender.submit(put, "a", lambda: signed, body, pool, Surroundings.real(), patience=60, wanted=wanted)
        assert asked.wait(WAIT)
        with pytest.raises(TimeoutError):
            sending.result(0.3)
        gone.set()
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match="nobody wants it"):
            sending.result(WAIT)
        assert time.monotonic() - begin < 4
        pool.close()


def test_nobody_pauses_for_long_without_asking_whether_it_is_wanted(store: Store) -> None:
    slept: list[float] = []
    store.answers = [503, 503, 503, 503, 503, 200]
    pool = HttpPool()
    put("a", Signer(store), b"body", pool, Surroundings(now, bytes, sleep=slept.append))
    pool.close()
    assert sum(slept) > 5
    assert max(slept) <= 1
