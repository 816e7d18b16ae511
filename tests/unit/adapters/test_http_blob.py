"""Ranges over HTTPS: whose certificate is trusted, URLs that end, connections that are kept."""

import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from custody.adapters.http_blob import HttpBlob
from custody.adapters.http_pool import HttpPool, Target
from custody.adapters.surroundings import Surroundings
from custody.errors import ConfigError, FormatError, IntegrityError, UnavailableError
from custody.ports import Pinned, Presigned
from custody.segments.streams import StillWanted
from tests.doubles.deployment import now, rng

DATA = bytes(range(256)) * 40
BLOB = Pinned("a", len(DATA), "etag:1")
WAIT = 10.0


class Store(http.server.ThreadingHTTPServer):
    """Serves DATA by ranges, over TLS where it has a context. ``good`` are the tokens it takes; ``connections`` counts.

    ``hangs`` says where an answer stops: before its head, in its body, or that each is a 503.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.hangs = ""
        self.asked = threading.Event()
        self.released = threading.Event()
        self.good = {"t0"}
        self.refuses: list[tuple[int, str]] = []  # statuses and codes for those who have no good token
        self.ends: list[int] = []  # after so many bytes an answer breaks off, and its URL ends
        self.connections = 0
        self.url = f"http{'s' if context else ''}://localhost:{self.server_port}/a?token="

    def handle_error(self, *_: object) -> None:
        """A client that does not trust us is no error of ours."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_GET(self) -> None:
        if self.path.partition("token=")[2] not in self.server.good:
            status, code = self.server.refuses.pop(0) if self.server.refuses else (403, "")
            body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.server.asked.set()
        if self.server.hangs == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.hangs == "head":
            self.server.released.wait(30)
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.server.ends:
            self.wfile.write(DATA[first : first + self.server.ends.pop(0)])
            self.server.good = {f"t{int(self.path.rpartition('t')[2]) + 1}"}
            self.close_connection = True
            return
        if self.server.hangs == "body":
            self.wfile.write(DATA[first : first + 5])
            self.server.released.wait(30)
        self.wfile.write(DATA[first : last + 1])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def store(tls_context: ssl.SSLContext) -> Iterator[Store]:
    with serving(tls_context) as server:
        yield server


@contextmanager
def serving(context: ssl.SSLContext | None) -> Iterator[Store]:
    with Store(context) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


class Signer:
    """Signs with one token after another. ``left`` is for how many seconds each holds."""

    def __init__(self, store: Store, left: int = 900) -> None:
        self.store = store
        self.left = left
        self.clock = now()
        self.signed = 0

    def __call__(self, _wanted: StillWanted) -> Presigned:
        self.signed += 1
        return Presigned(f"{self.store.url}t{self.signed - 1}", {}, self.clock + self.left)

    def blob(self, pool: HttpPool) -> HttpBlob:
        around = Surroundings(lambda: self.clock, rng, sleep=lambda _: None)
        return HttpBlob(BLOB, self, pool, around, patience=1)


def read(blob: HttpBlob, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    blob.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.fixture
def pool(tls: Path) -> Iterator[HttpPool]:
    pool = HttpPool(tls / "ca.pem", timeout=5)
    yield pool
    pool.close()


def test_ranges_come_over_one_connection_under_a_ca_of_ones_own(store: Store, pool: HttpPool) -> None:
    signer = Signer(store)
    blob = signer.blob(pool)
    for offset in range(0, 5000, 1000):
        assert read(blob, offset, 777) == DATA[offset : offset + 777]
    assert (store.connections, signer.signed) == (1, 1)


def test_a_certificate_that_is_not_trusted_is_an_error_that_says_what_to_do(store: Store) -> None:
    pool = HttpPool(timeout=5)
    with pytest.raises(ConfigError, match="not trusted") as caught:
        read(Signer(store).blob(pool), 0, 10)
    assert "?ca=" in caught.value.hint
    assert "token" not in caught.value.message
    with pytest.raises(ConfigError, match="CA"):
        read(Signer(store).blob(HttpPool(Path("/nowhere"))), 0, 10)


def test_a_url_is_renewed_before_it_ends(store: Store, pool: HttpPool) -> None:
    signer = Signer(store, left=100)
    blob = signer.blob(pool)
    store.good = {"t0", "t1"}
    assert read(blob, 0, 10) == DATA[:10]
    signer.clock += 60
    assert read(blob, 0, 10) == DATA[:10]
    assert signer.signed == 1
    signer.clock += 10  # a third of its time is left
    assert read(blob, 0, 10) == DATA[:10]
    assert signer.signed == 2


def test_a_url_that_ended_early_is_renewed_once(store: Store, pool: HttpPool) -> None:
    signer = Signer(store)
    blob = signer.blob(pool)
    store.good = {"t1"}
    assert read(blob, 0, 10) == DATA[:10]
    assert signer.signed == 2
    store.good = set()
    with pytest.raises(ConfigError, match="HTTP 403") as caught:
        read(blob, 0, 10)
    assert signer.signed == 3
    assert "token" not in caught.value.message


def test_a_url_whose_credentials_ended_is_renewed_once(store: Store, pool: HttpPool) -> None:
    signer = Signer(store)
    blob = signer.blob(pool)
    store.good, store.refuses = {"t1"}, [(400, "ExpiredToken")] * 3
    assert read(blob, 0, 10) == DATA[:10]
    assert signer.signed == 2
    store.good = set()
    with pytest.raises(ConfigError, match=r"HTTP 400 \(ExpiredToken\)") as caught:
        read(blob, 0, 10)
    assert signer.signed == 3
    assert "have ended: renew them" in caught.value.hint
    assert "token=" not in caught.value.message


def test_a_request_that_the_store_did_not_hear_whole_is_made_again(store: Store, pool: HttpPool) -> None:
    signer = Signer(store)
    store.good, store.refuses = {"t1"}, [(400, "RequestTimeout"), (400, "ExpiredToken")]
    assert read(signer.blob(pool), 0, 10) == DATA[:10]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AuthorizationHeaderMalformed", "HTTP 400 (AuthorizationHeaderMalformed)"),
        ("\x1b[2J", "HTTP 400"),
        ("", "HTTP 400"),
    ],
)
def test_a_refusal_names_the_stores_code_if_it_is_one(store: Store, pool: HttpPool, code: str, said: str) -> None:
    store.good, store.refuses = set(), [(400, code)]
    with pytest.raises(ConfigError) as caught:
        read(Signer(store).blob(pool), 0, 10)
    assert caught.value.message == f"store: a: {said}"


def test_a_connection_that_is_given_back_late_is_not_kept(store: Store, pool: HttpPool) -> None:
    with Signer(store).blob(pool).stretch(0, 100) as fill:
        fill(memoryview(bytearray(50)))
        pool.close()
        fill(memoryview(bytearray(50)))
    assert not any(pool._idle.values())


def test_a_url_that_ends_in_the_middle_of_an_answer_is_renewed_as_often_as_it_does(
    store: Store, pool: HttpPool
) -> None:
    """Temporary credentials may end more than once while a file is read. What has arrived is not asked for again."""
    signer = Signer(store)
    store.ends = [1000, 2000, 1]
    out = bytearray(5000)
    with signer.blob(pool).stretch(100, 5000) as fill:
        for begin in range(0, 5000, 500):
            fill(memoryview(out)[begin : begin + 500])
    assert out == DATA[100:5100]
    assert signer.signed == 4


def test_a_stretch_that_is_given_up_costs_its_connection_and_one_that_is_read_keeps_it(
    store: Store, pool: HttpPool
) -> None:
    blob = Signer(store).blob(pool)
    out = memoryview(bytearray(3000))
    with blob.stretch(0, 3000) as fill:
        fill(out[:2000])
        with pytest.raises(ValueError):
            fill(out[:2000])
    with blob.stretch(0, 3000) as fill:
        fill(out[:1000])
        fill(out[1000:])
    assert out == DATA[:3000]
    assert read(blob, 7, 100) == DATA[7:107]
    assert store.connections == 2


def test_whoever_waits_for_a_url_is_let_go(pool: HttpPool) -> None:
    """One asks for it, and waits for a broker that is away; the other waits for that."""
    gone, asked = threading.Event(), threading.Event()

    def wanted() -> None:
        if gone.is_set():
            raise UnavailableError("nobody wants it")

    def sign(still: StillWanted) -> Presigned:
        asked.set()
        while True:
            still()
            time.sleep(0.05)

    blob = HttpBlob(BLOB, sign, pool, Surroundings.real())

    def fill() -> None:
        with blob.stretch(0, 100, wanted) as fill:
            fill(memoryview(bytearray(100)))

    with ThreadPoolExecutor(2) as readers:
        readings = [readers.submit(fill) for _ in range(2)]
        assert asked.wait(WAIT)
        gone.set()
        for reading in readings:
            with pytest.raises(UnavailableError, match="nobody wants it"):
                reading.result(WAIT)


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("hangs", ["head", "body", "503"])
@pytest.mark.parametrize("how", ["the blob is closed", "nobody wants it"])
def test_whoever_waits_for_a_store_is_let_go(store: Store, tls: Path, how: str, hangs: str, *, secure: bool) -> None:
    with ThreadPoolExecutor(1) as reader, serving(None) as plain:
        server = store if secure else plain
        server.hangs = hangs
        pool = HttpPool(tls / "ca.pem", timeout=60)
        blob = HttpBlob(BLOB, Signer(server), pool, Surroundings.real(), patience=60)
        gone = threading.Event()

        def wanted() -> None:
            if gone.is_set():
                raise UnavailableError("nobody wants it")

        def fill() -> None:
            with blob.stretch(0, 100, wanted) as fill:
                fill(memoryview(bytearray(100)))

        reading = reader.submit(fill)
        assert server.asked.wait(WAIT)
        with pytest.raises(TimeoutError):
            reading.result(0.2)
        if how == "nobody wants it":
            gone.set()
        else:
            blob.close()
        kind = UnavailableError if how == "nobody wants it" else ValueError
        with pytest.raises(kind, match=how.removeprefix("the blob is ")):
            reading.result(WAIT)
        pool.close()


def test_a_blob_of_another_size_is_refused(store: Store, pool: HttpPool) -> None:
    blob = HttpBlob(Pinned("a", len(DATA) + 1, "x"), Signer(store), pool, Surroundings(now, rng, sleep=lambda _: None))
    with pytest.raises(IntegrityError, match="it answered others"):
        read(blob, 0, 10)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/a",
        "http:///a",
        "http://u@host/a",
        "http://host:x/",
        "http://host/a b",
        "http://host/é",
        f"http://{'host' * 16}/a",
        f"http://{'host.' * 51}/a",
        "http://host..name/a",
        "http://.host/a",
        "http://hos\0t/a",
        "http://hòst/a",
        "http://host%41/a",
    ],
)
def test_what_is_no_url_of_http_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(FormatError) as caught:
        Target.of(url)
    assert not set(caught.value.message.split()) & {"http://", "hos"}
    assert "//" not in caught.value.message


@pytest.mark.parametrize("host", ["localhost", "s3.eu-west-1.amazonaws.com", "a_b.example.", "127.0.0.1", "[::1]"])
def test_hosts_that_can_be_are_taken(host: str) -> None:
    assert Target.of(f"https://{host}:444/a?b").host == host.strip("[]")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\u1234", "a\0"])
def test_headers_that_no_request_has_are_refused_before_anything_is_sent(
    store: Store, pool: HttpPool, value: str
) -> None:
    signed = Presigned(f"{store.url}t0", {"If-Match": value}, now() + 900)
    with pytest.raises(FormatError, match="header"):
        read(HttpBlob(BLOB, lambda _: signed, pool, Surroundings.real()), 0, 10)
    assert store.connections == 0
