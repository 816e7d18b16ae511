"""A log asks witnesses that lie, stall, flood and hang up; each costs one bounded call."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from custody.adapters.witness_http import HttpWitness, WitnessConflictError, WitnessRefusedError
from custody.errors import ConfigError, UnavailableError
from custody.tlog.note import VKey
from tests.doubles.tlog import ORIGIN, TIME, Log, log_signer, witness_signer

_LOG = Log(20)
_WITNESS = witness_signer()
_LINE = _WITNESS.sign(_LOG.head().encode(), TIME)


def _reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


class Server:
    """Answers every request with the same bytes; counts connections and requests."""

    def __init__(self, reply: bytes, *, hang_up: bool = False, then: bytes = b"") -> None:
        self.reply = reply
        self.hang_up = hang_up
        self.then = then  # sent byte by byte, without end, while the other side listens
        self.requests: list[bytes] = []
        self.connections = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        try:
            while not self._stop.is_set():
                data = connection.recv(65_536)
                if not data:
                    return
                received += data
                head, end, body = received.partition(b"\r\n\r\n")
                length = next((int(line[16:]) for line in head.split(b"\r\n") if line[:16] == b"Content-Length: "), 0)
                if not end or len(body) < length:
                    continue
                self.requests.append(received)
                received = b""
                connection.sendall(self.reply)
                while self.then and not self._stop.wait(0.01):
                    connection.sendall(self.then)
                if self.hang_up:
                    return
        except OSError:
            return

    def close(self) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(reply: bytes, *, hang_up: bool = False, then: bytes = b"") -> Server:
        servers.append(Server(reply, hang_up=hang_up, then=then))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def _client(server: Server, timeout: float = 20.0, vkey: VKey = _WITNESS.vkey) -> HttpWitness:
    return HttpWitness("w1", vkey, f"{server.url}/witness/", timeout=timeout)


def _ask(client: HttpWitness, old: int = 7) -> list[bytes]:
    try:
        return list(client.add_checkpoint(old, _LOG.consistency(old), _LOG.checkpoint()))
    finally:
        client.close()


def test_the_request_is_that_of_the_specification(serve: Callable[..., Server]) -> None:
    server = serve(_reply("200 OK", _LINE))
    assert _ask(_client(server)) == [_LINE]
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /witness/add-checkpoint HTTP/1.1\r\n")
    assert body == _LOG.request(7).encode()


def test_lines_of_other_keys_are_ignored(serve: Callable[..., Server]) -> None:
    other = witness_signer(2).sign(_LOG.head().encode(), TIME)
    assert _ask(_client(serve(_reply("200 OK", other + _LINE)))) == [_LINE]
    with pytest.raises(WitnessRefusedError, match="without a cosignature of its key"):
        _ask(_client(serve(_reply("200 OK", other))))


def test_a_connection_is_used_again_and_replaced_when_it_was_closed(serve: Callable[..., Server]) -> None:
    server = serve(_reply("200 OK", _LINE))
    client = _client(server)
    for _ in range(3):
        client.add_checkpoint(7, _LOG.consistency(7), _LOG.checkpoint())
    assert (server.connections, len(server.requests)) == (1, 3)
    client.close()
    server = serve(_reply("200 OK", _LINE), hang_up=True)
    client = _client(server)
    for _ in range(3):
        client.add_checkpoint(7, _LOG.consistency(7), _LOG.checkpoint())
    assert (server.connections, len(server.requests)) == (3, 3)
    client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"garbage\n",
        b"\xff\xff\n",
        _LINE + b"\n",
        _LINE[:-10] + b"\n",
        b"\n" + _LINE,
        _WITNESS.sign(_LOG.head(7).encode(), TIME),
        _WITNESS.sign(Log(20, branch=3).head().encode(), TIME),
        _LINE * 65,
    ],
)
def test_garbage_instead_of_a_cosignature_is_refused(serve: Callable[..., Server], body: bytes) -> None:
    with pytest.raises(WitnessRefusedError):
        _ask(_client(serve(_reply("200 OK", body))))


def test_a_conflict_names_the_size_to_prove_from(serve: Callable[..., Server]) -> None:
    server = serve(_reply("409 Conflict", b"13\n", "Content-Type: text/x.tlog.size"))
    with pytest.raises(WitnessConflictError) as caught:
        _ask(_client(server))
    assert caught.value.size == 13


@pytest.mark.parametrize("body", [b"21\n", b"9223372036854775807\n", b"7\n", b"9" * 400 + b"\n"])
def test_a_size_that_cannot_be_right_is_refused(serve: Callable[..., Server], body: bytes) -> None:
    with pytest.raises(WitnessRefusedError):
        _ask(_client(serve(_reply("409 Conflict", body, "Content-Type: text/x.tlog.size"))))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"13", "text/x.tlog.size"),
        (b"013\n", "text/x.tlog.size"),
        (b"+13\n", "text/x.tlog.size"),
        (b"13\n\n", "text/x.tlog.size"),
        (b"", "text/x.tlog.size"),
        ("\uff11\n".encode(), "text/x.tlog.size"),
        (b"13\n", "text/plain"),
    ],
)
def test_a_conflict_without_a_size_is_a_refusal(serve: Callable[..., Server], body: bytes, kind: str) -> None:
    with pytest.raises(WitnessRefusedError, match="without a size"):
        _ask(_client(serve(_reply("409 Conflict", body, f"Content-Type: {kind}"))))


@pytest.mark.parametrize("status", ["400 Bad", "403 Forbidden", "404 Not Found", "418 Teapot", "422 No", "204 None"])
def test_other_answers_are_refusals(serve: Callable[..., Server], status: str) -> None:
    body = b"" if status == "204 None" else _LINE
    with pytest.raises(WitnessRefusedError, match=status[:3]):
        _ask(_client(serve(_reply(status, body))))


@pytest.mark.parametrize("status", ["429 Later", "408 Slow", "500 Broken", "503 Down"])
def test_answers_that_may_change_are_unavailability(serve: Callable[..., Server], status: str) -> None:
    with pytest.raises(UnavailableError, match=status[:3]):
        _ask(_client(serve(_reply(status, _LINE))))


def test_a_redirect_is_not_followed(serve: Callable[..., Server]) -> None:
    honest = serve(_reply("200 OK", _LINE))
    for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
        with pytest.raises(WitnessRefusedError, match=status[:3]):
            _ask(_client(serve(_reply(status, b"", f"Location: {honest.url}/witness/add-checkpoint"))))
    assert honest.requests == []


def test_a_huge_body_is_cut_off(serve: Callable[..., Server]) -> None:
    with pytest.raises(WitnessRefusedError, match="more than"):
        _ask(_client(serve(_reply("200 OK", bytes(1 << 20)))))
    claimed = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n" + bytes(1 << 20)
    with pytest.raises(WitnessRefusedError, match="more than"):
        _ask(_client(serve(claimed)))
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + bytes(0x4000) + b"\r\n"
    with pytest.raises(WitnessRefusedError, match="more than"):
        _ask(_client(serve(endless, then=b"4000\r\n" + bytes(0x4000) + b"\r\n")))


def test_a_compressed_answer_is_refused(serve: Callable[..., Server]) -> None:
    with pytest.raises(WitnessRefusedError, match="compressed"):
        _ask(_client(serve(_reply("200 OK", _LINE, "Content-Encoding: gzip"))))


@pytest.mark.parametrize(
    ("reply", "then"),
    [
        (b"", b""),
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_a_witness_that_never_finishes_meets_the_deadline(
    serve: Callable[..., Server], reply: bytes, then: bytes
) -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        _ask(_client(serve(reply, then=then), timeout=0.3))


def test_a_witness_that_is_not_there_is_told_in_the_system_s_words() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        client = HttpWitness("w1", _WITNESS.vkey, f"http://127.0.0.1:{nobody.getsockname()[1]}", timeout=5)
        with pytest.raises(UnavailableError, match=r"^witness w1 does not answer: connection refused$"):
            _ask(client)


@pytest.mark.parametrize(
    "reply",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort",
        b"",
    ],
)
def test_broken_http_is_unavailability(serve: Callable[..., Server], reply: bytes) -> None:
    with pytest.raises(UnavailableError):
        _ask(_client(serve(reply, hang_up=True)))


def _latest(client: HttpWitness) -> bytes | None:
    try:
        return client.latest(ORIGIN)
    finally:
        client.close()


def test_a_stored_checkpoint_is_returned_only_with_the_witness_signature(serve: Callable[..., Server]) -> None:
    note = _LOG.checkpoint(cosigners=[_WITNESS])
    assert _latest(_client(serve(_reply("200 OK", note)))) == note
    assert _latest(_client(serve(_reply("404 Not Found", b"")))) is None
    stranger = Log(3, log_signer("other.example", "other")).checkpoint(cosigners=[_WITNESS])
    for reply in (
        _reply("200 OK", _LOG.checkpoint()),
        _reply("200 OK", b"garbage"),
        _reply("200 OK", stranger),
        _reply("200 OK", bytes(100_000)),
        _reply("302 Found", b""),
    ):
        with pytest.raises(WitnessRefusedError):
            _latest(_client(serve(reply)))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "w.example",
        "ftp://w.example",
        "http://",
        "http://user:pass@w.example",
        "http://w.example/?a=b",
        "http://w.example/#a",
        "http://[::1",
        "http://w.example:99999999",
    ],
)
def test_urls_that_are_no_prefix_are_refused(url: str) -> None:
    HttpWitness("w1", _WITNESS.vkey, "https://w.example:8443/witness", timeout=1)
    with pytest.raises(ConfigError):
        HttpWitness("w1", _WITNESS.vkey, url, timeout=1)


def test_a_key_that_cannot_cosign_is_refused() -> None:
    with pytest.raises(ConfigError, match="0x01"):
        HttpWitness("w1", log_signer().vkey, "http://w.example", timeout=1)
