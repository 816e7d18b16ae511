"""One witness of three lies or hangs: it stops nobody while two are honest, and never counts for the quorum."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

import pytest
from msgspec import structs

from custody.documents.root import Root
from custody.entries.receipt import Verified, verify
from custody.errors import UnavailableError
from custody.rules.trust import policy_of
from custody.tlog.note import COSIGNATURE, NoteSigner, VKey
from custody.tlog.policy import Group, LogKey, Policy, Witness
from custody.tlog.witness_protocol import SIZE_CONTENT_TYPE, AddCheckpoint
from custody.witness.serve import generate_key
from tests.doubles.ports import own_ports
from tests.doubles.site import Site, impatient, rng

_LIAR = NoteSigner("liar.example/witness", COSIGNATURE, bytes(range(32)))

Reply = tuple[int, str, bytes]


def _cosigned(body: bytes, seconds: float) -> Reply:
    text = AddCheckpoint.parse(body).checkpoint.rpartition(b"\n\n")[0] + b"\n"
    return 200, "text/plain", _LIAR.sign(text, int(time.time() + seconds))


def _hang(_: bytes) -> Reply:
    time.sleep(3)
    return 500, "text/plain", b""


LIES: dict[str, Callable[[bytes], Reply]] = {
    "a huge size": lambda _: (409, SIZE_CONTENT_TYPE, b"9223372036854775807\n"),
    "a size that is no number": lambda _: (409, SIZE_CONTENT_TYPE, "١٢\n".encode()),
    "garbage for a cosignature": lambda _: (200, "text/plain", b"\xe2\x80\x94 liar.example/witness !!!!\n"),
    "a cosignature of something else": lambda _: (200, "text/plain", _LIAR.sign(b"x\n", int(time.time()))),
    "a cosignature of next year": lambda body: _cosigned(body, 365 * 86_400),
    "an answer without an end": lambda _: (200, "text/plain", b"x" * (1 << 20)),
    "an unprocessable proof": lambda _: (422, "text/plain", b"no\n"),
    "a redirect": lambda _: (307, "text/plain", b""),
    "silence": _hang,
}


class Liar(ThreadingHTTPServer):
    """A witness that says what ``lie`` makes of a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lie = LIES["an unprocessable proof"]
        self.asked = 0
        Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Liar

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        status, kind, answer = self.server.lie(body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *args: Any) -> None:
        pass


@dataclass
class ThreeWitnesses(Site):
    """Two of three witnesses make a quorum: witness-1 and w2 are honest, and the third is the liar."""

    def __enter__(self) -> Self:
        self.liar = Liar()
        self.make()
        self.start_witness()
        port = own_ports(1)[0]
        self._start(
            "w2",
            [
                *("witness", "serve", "--key", "w2/key", "--state", "w2/state", "--log", "keys/log.vkey"),
                *("--listen", f"127.0.0.1:{port}"),
            ],
        )
        urls = f'w2 = "http://127.0.0.1:{port}"\nw3 = "http://127.0.0.1:{self.liar.server_port}"\n'
        self.configure(lambda text: f"{impatient(text)}\n{urls}")
        self.start_broker()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.liar.shutdown()
        self.liar.server_close()

    def make_root(self) -> Root:
        (self.directory / "w2").mkdir()
        secret, public = generate_key("w2.example/witness", rng)
        (self.directory / "w2/key").write_text(secret)
        (self.directory / "w2/key").chmod(0o600)
        witnesses = (
            Witness("witness-1", self.created.witness),
            Witness("w2", VKey.parse(public.strip())),
            Witness("w3", _LIAR.vkey),
        )
        group = Group("two", 2, tuple(witness.name for witness in witnesses))
        policy = Policy((LogKey(self.created.log),), witnesses, (group,), "two")
        return structs.replace(super().make_root(), witness_policy=tuple(policy.encode().decode().splitlines()))

    def say_hello(self) -> Verified:
        with self.calls("alice") as alice:
            return verify(alice.hello(self.hello("alice")), policy_of(self.root))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeWitnesses]:
    with ThreeWitnesses(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


@pytest.mark.parametrize("lie", LIES)
def test_one_malicious_witness_stops_nobody(site: ThreeWitnesses, lie: str) -> None:
    site.liar.lie = LIES[lie]
    before = site.liar.asked
    for _ in range(3):
        assert set(site.say_hello().cosigned) == {"witness-1", "w2"}
    assert site.liar.asked > before


@pytest.mark.parametrize("lie", ["a huge size", "a cosignature of next year", "silence"])
def test_with_an_honest_one_wedged_it_makes_no_quorum_and_the_caller_is_told_who_is_missing(
    site: ThreeWitnesses, lie: str
) -> None:
    site.liar.lie = LIES[lie]
    site.say_hello()
    with site.frozen("w2"):
        with pytest.raises(UnavailableError, match=r"is not published after 2 s: .*witness w2"):
            site.say_hello()
        with pytest.raises(UnavailableError, match=r"witness w2.*witness w3|witness w3.*witness w2"):
            site.say_hello()
    assert set(site.say_hello().cosigned) == {"witness-1", "w2"}
