"""Strangers and greedy peers: they are refused in numbers, others are served meanwhile, and the log does not grow."""

import os
import resource
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.broker.refusals import EACH
from custody.documents.decision import Decision
from custody.errors import CustodyError, DeniedError, UnavailableError
from custody.server.often import MAX_FILED, MAX_HELLOS
from custody.server.streams import MAX_STREAMS_OF_SESSION
from custody.values import U64
from custody.wire import connection as wire
from custody.wire.calls import Calls
from custody.wire.v1 import broker_pb2 as pb
from custody.wire.v1.broker_pb2_grpc import BrokerStub
from tests.doubles import malice
from tests.doubles.site import Site, impatient, write_model

GARBAGE = (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(1000))


def strict(text: str) -> str:
    return impatient(text).replace("requests-per-minute = 60000", f"requests-per-minute = {MAX_FILED}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment that tells callers after two seconds that the log is blocked."""
    with Site(tmp_path_factory.mktemp("deployment") / "site", change_config=strict) as running:
        yield running


@pytest.fixture(scope="module")
def large(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """More than a connection buffers."""
    source = write_model(tmp_path_factory.mktemp("large"), {"weights.bin": 32 << 20})
    sealed = site.seal(source, "demo/large@1", segment=1 << 20)
    site.register(sealed)
    return sealed


def connect(site: Site) -> socket.socket:
    host, port = site.address.split(":")
    return socket.create_connection((host, int(port)), 5)


def knock(site: Site, data: bytes) -> None:
    with suppress(OSError), connect(site) as connection:
        connection.sendall(data)


def handshake_without_certificate(site: Site) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with suppress(OSError), connect(site) as raw, context.wrap_socket(raw) as connection:
        connection.settimeout(5)
        connection.recv(1)


def served(site: Site, sealed: Sealed) -> None:
    """An honest caller, on a connection of his own, gets his answer."""
    with site.calls("alice") as alice:
        assert alice.get_version(sealed.content.version).version


def memory(site: Site) -> int:
    """Bytes that the broker keeps in memory."""
    status = Path(f"/proc/{site.processes['broker'].pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.fixture(autouse=True)
def honest(site: Site, sealed: Sealed) -> Iterator[None]:
    """Others are served before and after, and the log has grown by one count a minute at most, and a few names."""
    served(site, sealed)
    before, entries = memory(site), len(malice.entries(site))
    yield
    served(site, sealed)
    assert memory(site) - before < 200 << 20
    said = Counter(entry.reason for entry in malice.entries(site)[entries:] if entry.type == "system")
    minutes = 2
    assert said.pop("refused-strangers", 0) < minutes
    assert said.pop("refused-more", 0) < minutes
    assert said.total() <= EACH * minutes


def test_thousands_of_failed_handshakes(site: Site, sealed: Sealed) -> None:
    said, before = len(site.errors("broker")), len(malice.entries(site))
    with ThreadPoolExecutor(8) as pool:
        for i in range(2000):
            pool.submit(knock, site, GARBAGE[i % len(GARBAGE)])
        for _ in range(200):
            pool.submit(handshake_without_certificate, site)
        for _ in range(10):
            served(site, sealed)
    assert len(malice.entries(site)) - before <= 1
    assert len(site.errors("broker")) - said < 10_000  # nor are the broker's own logs flooded


def test_a_peer_of_another_trust_domain_who_calls_and_calls(site: Site, sealed: Sealed, tmp_path: Path) -> None:
    files = malice.certificate(site.authority, tmp_path / "tls", ["spiffe://evil.example/job/serving"])
    said = len(site.errors("broker"))
    with Calls(site.address, "broker-1.custody", files) as stranger:
        for _ in range(500):
            with pytest.raises(UnavailableError, match="UNAUTHENTICATED"):
                stranger.get_request("ab" * 32)
        served(site, sealed)
    assert len(site.errors("broker")) - said < 10_000


def test_connections_that_say_nothing(site: Site, sealed: Sealed) -> None:
    with ExitStack() as stack:
        for i in range(300):
            connection = stack.enter_context(connect(site))
            if i % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a handshake
        served(site, sealed)


def test_readers_that_take_nothing(site: Site, sealed: Sealed, large: Sealed) -> None:
    """Each holds a segment and a message at most; a job that reads is served beside them."""
    _, lease = site.granted(large, sessions=U64(40), bytes=U64(40 * (32 << 20)))
    before = memory(site)
    with ExitStack() as stack:
        for _ in range(20):
            job = stack.enter_context(site.calls("job"))
            stream = job.read(site.open(job, large, lease).session, 0)
            stack.callback(stream.close)  # type: ignore[attr-defined]
            next(stream)
        served(site, sealed)
        with site.calls("job") as job:
            assert len(site.read(job, site.open(job, large, lease).session)) == 32 << 20
        assert memory(site) - before < 400 << 20


def test_one_session_that_wants_every_stream(site: Site, large: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are shared out: a job that begins hundreds and reads none leaves enough to others."""
    size = large.content.size
    _, lease = site.granted(large, sessions=U64(30), bytes=U64(30 * size))
    with ExitStack() as stack:
        with monkeypatch.context() as patched:
            # Its window stays small; on a busy machine it would grow, and whole streams would end in it unread.
            patched.setattr(wire, "_OPTIONS", (*wire._OPTIONS, ("grpc.http2.bdp_probe", 0)))
            greedy = stack.enter_context(site.calls("job"))
        other = stack.enter_context(site.calls("job"))
        session = greedy.open_session(site.open_document(lease, {0}, 29 * size)).session
        begun = 0
        for _ in range(30):
            stream = greedy.read(session, 0)
            stack.callback(stream.close)  # type: ignore[attr-defined]
            with suppress(UnavailableError):
                begun += bool(next(stream).data)
        assert begun == MAX_STREAMS_OF_SESSION
        assert len(site.read(other, site.open(other, large, lease).session)) == size


def test_giant_messages_and_headers(site: Site, sealed: Sealed) -> None:
    files = site.tls("tls/alice")
    key, chain, roots = files.read()
    options = [("grpc.ssl_target_name_override", "broker-1.custody"), ("grpc.max_send_message_length", -1)]
    before = memory(site)
    with grpc.secure_channel(site.address, grpc.ssl_channel_credentials(roots, key, chain), options) as channel:
        stub = BrokerStub(channel)
        giant = pb.Envelope(envelope=bytes(50 << 20))
        for method in (stub.Hello, stub.Stop, stub.OpenSession):
            with pytest.raises(grpc.RpcError) as caught:
                method(giant, timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # Fifty megabytes of zeros are fifty kilobytes on the wire.
        with pytest.raises(grpc.RpcError) as caught:
            stub.Hello(giant, timeout=60, compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        headers = tuple((f"x-{i}", "y" * 1000) for i in range(64))
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListVersions(pb.ListVersionsRequest(), timeout=60, metadata=headers)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert memory(site) - before < 300 << 20


def test_decisions_by_the_hundred_hold_up_nobody(site: Site, sealed: Sealed) -> None:
    """One custodian's flood does not keep two others from granting."""
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed))
    document = site.decide(view, "carol")[0].document(Decision)
    ended = site.sign_as("carol", replace(document, issued=site.time(-7200), expires=site.time(-3600)))
    over = threading.Event()

    def flood() -> None:
        with site.calls("carol") as carol:
            while not over.is_set():
                with pytest.raises(DeniedError, match="expired"):
                    carol.decide(ended)

    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(flood) for _ in range(4)]
        assert site.approve(view, "alice", "bob").phase == "granted"
        over.set()
        for one in floods:
            one.result()


def test_hellos_without_end(site: Site, sealed: Sealed) -> None:
    """Each would be an entry for ever. One identity has so many a minute; others have theirs."""
    before = len(malice.entries(site))
    with site.calls("olga") as olga, site.calls("bob") as bob:

        def greet() -> bool:
            with suppress(UnavailableError):
                olga.hello(site.hello("olga"))
                return True
            return False

        with ThreadPoolExecutor(8) as pool:
            taken = sum(pool.map(lambda _: greet(), range(MAX_HELLOS + 40)))
        with pytest.raises(UnavailableError, match="too many hellos"):
            _greet_often(site, olga)
        bob.hello(site.hello("bob"))
    assert taken >= MAX_HELLOS
    hellos = [entry for entry in malice.entries(site)[before:] if entry.type == "hello"]
    assert len(hellos) <= 2 * MAX_HELLOS + 1  # the minute may have turned meanwhile


def _greet_often(site: Site, calls: Calls) -> None:
    for _ in range(MAX_HELLOS + 1):
        calls.hello(site.hello("olga"))


def test_releases_and_requests_without_end(site: Site, sealed: Sealed) -> None:
    """A share that is wrapped again is an entry for ever, and so is a request; others have their own minute, and a stop
    is taken from whoever has used theirs up.
    """
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed))
    decision, _, _ = site.decide(view, "carol")
    mine = site.request(sealed, requester=site.workload())
    before = len(malice.entries(site))
    with site.calls("carol") as carol, site.calls("job") as job:
        carol.decide(decision)
        for again in (
            lambda: carol.release_share(*site.decide(view, "carol")[1:]),
            lambda: job.submit_request(mine),
        ):
            with pytest.raises(UnavailableError, match="too many requests, releases and versions"):
                _often(again)
        releases = [entry for entry in malice.entries(site)[before:] if entry.type == "release"]
        assert MAX_FILED <= len(releases) <= 2 * MAX_FILED  # the minute may have turned meanwhile
        assert site.approve(view, "bob").phase == "granted"
        carol.stop(site.stop_document("carol", "revoke", site.lease_of(view)))


def _often(again: Callable[[], object]) -> None:
    """Twice as often as a minute allows: it may turn once."""
    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(again) for _ in range(2 * MAX_FILED + 1)]:
            one.result()


def test_callers_who_wait_for_a_witness_that_is_down(site: Site, sealed: Sealed) -> None:
    """However many wait for the log, what does not need it goes on: looking, denials, stops."""
    _, lease = site.granted(sealed)
    revoke = site.stop_document("alice", "revoke", lease)
    with ExitStack() as stack:
        callers = [stack.enter_context(site.calls(who)) for who in ("bob", "carol", "dave")]
        alice = stack.enter_context(site.calls("alice"))
        assert alice.list_versions()
        pool = stack.enter_context(ThreadPoolExecutor(45))
        with site.frozen("witness"):
            waiting = [
                pool.submit(calls.hello, site.hello(who))
                for _ in range(15)
                for who, calls in zip(("bob", "carol", "dave"), callers, strict=True)
            ]
            time.sleep(0.7)  # they are all there, and wait for two seconds
            assert not any(one.done() for one in waiting)
            began = time.monotonic()
            assert alice.get_version(sealed.content.version).version
            assert time.monotonic() - began < 1
            with pytest.raises(UnavailableError, match="not published"):
                alice.stop(revoke)
            with site.calls("job") as job, pytest.raises(DeniedError):
                site.open(job, sealed, lease)
            for one in waiting:
                with pytest.raises(UnavailableError, match="not published"):
                    one.result()


@pytest.mark.skipif(os.geteuid() != 0, reason="the descriptors of a hardened process are seen with CAP_SYS_PTRACE only")
def test_every_descriptor_in_use(site: Site, sealed: Sealed) -> None:
    """A broker that can open no file and start no process refuses, loses nothing, and goes on when it can again."""
    _, lease = site.granted(sealed)
    pid = site.processes["broker"].pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with site.calls("job") as job, site.calls("dave") as dave:
        job.list_versions()
        dave.list_versions()
        used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
        full = min(set(range(len(used) + 1)) - used)  # no lower number is free
        for few in (full, full + 2):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, hard))
            try:
                with pytest.raises(CustodyError):
                    site.open(job, sealed, lease)
                if few == full:
                    with pytest.raises(CustodyError):
                        dave.submit_request(site.request(sealed))
            finally:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert "Traceback" not in site.errors("broker")
        assert site.open(job, sealed, lease).session
