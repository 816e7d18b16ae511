"""The broker as a server: health, long polls by the hundred, and starts that must be refused."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from custody.client.link import BoundedCalls
from custody.errors import ConfigError, IntegrityError
from custody.values import U64
from custody.wire.pieces import Piece
from custody.wire.tls import channel_credentials
from tests.doubles.direct import DirectSite
from tests.doubles.site import Site, write_model


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("server") / "site", cold=True) as running:
        yield running


def test_health_is_served_over_mtls(site: Site) -> None:
    options = [("grpc.ssl_target_name_override", "broker-1.custody")]
    with grpc.secure_channel(site.address, channel_credentials(site.tls("tls/job")), options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "custody.v1.Broker"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_a_long_poll_returns_with_the_change_and_at_its_end(site: Site, tmp_path: Path) -> None:
    sealed = site.seal(write_model(tmp_path / "source", {"a": 10}), "server/poll@1")
    site.register(sealed)
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed))
        seen = len(view.receipts)
        started = time.monotonic()
        assert len(dave.get_request(view.request, seen=seen, wait_seconds=1).receipts) == seen
        assert time.monotonic() - started >= 0.9
        decision, _, _ = site.decide(view, "alice")
        timer = threading.Timer(0.3, lambda: site.calls("alice").decide(decision))
        timer.start()
        assert len(dave.get_request(view.request, seen=seen, wait_seconds=30).receipts) == seen + 1
        timer.join()


def test_one_request_on_many_connections_at_once_is_filed_once_and_can_be_opened(site: Site, tmp_path: Path) -> None:
    """A client whose connection broke sends its request again while the first call still runs."""
    sealed = site.seal(write_model(tmp_path / "source", {"a": 10}), "server/again@1")
    site.register(sealed)
    document = site.request(sealed)
    with site.calls("dave") as dave, ThreadPoolExecutor(8) as pool:
        views = list(pool.map(lambda _: dave.submit_request(document), range(24)))
    assert {view.request for view in views} == {document.digest}
    assert {len(view.receipts) for view in views} == {1}
    view = site.approve(views[0], "alice", "bob")
    with site.calls("job") as job:
        assert len(site.read(job, site.open(job, sealed, site.lease_of(view)).session)) == 10


@pytest.mark.skipif(os.geteuid() != 0, reason="the descriptors of a hardened process are seen with CAP_SYS_PTRACE only")
def test_what_sessions_read_is_closed_again(site: Site, tmp_path: Path) -> None:
    """A broker serves for months, and versions have thousands of files."""
    files = 30
    sealed = site.seal(write_model(tmp_path / "source", {f"f{i}": 10 for i in range(files)}), "server/files@1")
    site.register(sealed)
    _, lease = site.granted(sealed, sessions=U64(9), bytes=U64(9 * 10 * files))
    blobs = str((site.directory / "store/versions" / sealed.content.vid).resolve())

    def still_open() -> int:
        links = Path(f"/proc/{site.processes['broker'].pid}/fd").iterdir()
        return sum(os.path.realpath(link).startswith(blobs) for link in links)

    with site.calls("job") as job:
        for _ in range(3):
            session = site.open(job, sealed, lease).session
            for file in range(files):
                assert len(site.read(job, session, file)) == 10
                assert still_open() <= 16
            assert still_open() > 0
            job.close_session(session)
            assert still_open() == 0


def test_two_hundred_waiting_calls_hold_up_nobody(site: Site, tmp_path: Path) -> None:
    sealed = site.seal(write_model(tmp_path / "source", {"a": 10}), "server/many@1")
    site.register(sealed)
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed))
        woken: list[int] = []

        def wait() -> None:
            woken.append(len(dave.get_request(view.request, seen=len(view.receipts), wait_seconds=30).receipts))

        waiting = [threading.Thread(target=wait) for _ in range(200)]
        for thread in waiting:
            thread.start()
        with site.calls("alice") as alice:
            alice.hello(site.hello("alice"))
            decision, _, _ = site.decide(view, "alice")
            alice.decide(decision)
        for thread in waiting:
            thread.join(30)
    assert woken == [len(view.receipts) + 1] * 200


def refused(directory: Path) -> tuple[int, str]:
    """Start a broker that must not start; return its exit code and what it said."""
    result = subprocess.run(
        [sys.executable, "-m", "custody.cli", "broker", "serve", "--config", "broker/broker.toml"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in result.stderr
    assert "listening" not in result.stdout
    return result.returncode, "\n".join(line for line in result.stderr.splitlines() if not line.startswith("{"))


WRONG: dict[str, tuple[Callable[[str], str], int, str]] = {
    "another broker id": (lambda text: text.replace('id = "broker-1"', 'id = "broker-9"'), 16, "does not name this"),
    "another genesis": (lambda text: re.sub(r'genesis = "[0-9a-f]{8}', 'genesis = "deadbeef', text), 11, "genesis"),
    "no such key": (lambda text: text.replace("file:broker.key", "file:nothing.key"), 16, "nothing.key"),
    "a secret that is no URI": (lambda text: text.replace("file:row.key", "row.key"), 16, "row.key"),
    "no such root": (lambda text: text.replace("root.json", "root-9.json"), 13, "root-9.json"),
    "no witness URL": (lambda text: text.replace("witness-1 =", "witness-2 ="), 16, "witness-1"),
    "no such certificate": (lambda text: text.replace("tls/tls.crt", "tls/none.crt"), 16, "none.crt"),
    "somebody else's certificate": (
        lambda text: text.replace("tls/tls.", "../tls/alice/tls."),
        16,
        "not of the identity that the trust root names for broker broker-1",
    ),
    "a store of no kind": (lambda text: text.replace('url = "file:../store"', 'url = "ftp://x"'), 16, "ftp"),
    "a port that cannot be": (lambda text: text.replace('address = "127.', 'address = "256.'), 16, "256.0.0.1"),
}


@pytest.fixture(scope="module")
def halted(site: Site) -> Iterator[Site]:
    """The same deployment, its broker ended: for the last tests of this file. With what was right it starts again."""
    site.stop("broker")
    yield site
    site.configure()
    site.start_broker()


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_is_one_line_and_no_service(halted: Site, wrong: str) -> None:
    change, code, says = WRONG[wrong]
    halted.configure(change)
    exit_code, said = refused(halted.directory)
    assert exit_code == code, said
    assert says in said
    assert len([line for line in said.splitlines() if not line.startswith("  hint:")]) == 1


def test_another_policy_or_row_key_is_refused(halted: Site) -> None:
    halted.configure()
    policy = halted.directory / "broker/policy/policy.cedar"
    original = policy.read_bytes()
    policy.write_bytes(original + b"\npermit (principal, action, resource);\n")
    code, said = refused(halted.directory)
    policy.write_bytes(original)
    assert (code, "policy" in said) == (ConfigError.exit_code, True)
    row_key = halted.directory / "broker/row.key"
    key = row_key.read_bytes()
    row_key.write_bytes(bytes(32))
    code, said = refused(halted.directory)
    row_key.write_bytes(key)
    assert (code, "MAC" in said or "row" in said) == (IntegrityError.exit_code, True)


def ageing(text: str) -> str:
    """A configuration whose connections end after a second, and within one more, whatever is under way on them."""
    text = re.sub("max-connection-age = [0-9]+", "max-connection-age = 1", text)
    return re.sub("max-connection-grace = [0-9]+", "max-connection-grace = 1", text)


def test_a_slow_reader_and_one_who_waits_outlive_their_connections(tmp_path: Path) -> None:
    """What takes hours in life, as reading a terabyte: connections end, so that a certificate is not used for ever."""
    with DirectSite(tmp_path / "site", change_config=ageing) as site:
        size = 24 << 20
        source = write_model(tmp_path / "source", {"a": size})
        sealed = site.seal(source, "server/slow@1", segment=1 << 20)
        site.register(sealed)
        view, lease = site.granted(sealed, sessions=U64(4), bytes=U64(4 * size))
        streams = []

        def read_within(calls: BoundedCalls, *asked: Any) -> Iterator[Piece]:
            streams.append(asked)
            return BoundedCalls.read_within(calls, *asked)

        with site.job(read_within=read_within) as job:
            data = bytearray(size)
            with job.lease(lease).open() as session:
                session.readinto("a", data, progress=lambda _: time.sleep(0.2))
            assert data == (source / "a").read_bytes()
            assert len(streams) > 1
            request = job.request("server/slow@1", purpose="serving", reason="again", duration="1h")
            with ThreadPoolExecutor(1) as waiter:
                granted = waiter.submit(request.wait)
                time.sleep(2.5)
                with site.calls("alice") as alice:
                    view = alice.get_request(request.digest)
                site.approve(view, "alice", "bob")
                assert granted.result(30).id == site.lease_of(view)
