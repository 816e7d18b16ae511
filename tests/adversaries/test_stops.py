"""Stopping never waits: a running stream is cut, a stop survives its host, and nobody uses one twice or unasked."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.crypto.schedule import file_key
from custody.documents.actor import Person, Workload
from custody.documents.dsse import sign
from custody.documents.stop import Stop
from custody.errors import ConflictError, DeniedError, IntegrityError, NotFoundError, UnavailableError
from custody.values import U64
from custody.wire.calls import Calls
from tests.doubles import malice, scanner
from tests.doubles.site import JOB, Site, WorkloadSigner, write_model

SIZE = 64 << 20  # more than a connection buffers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment of its own: its processes are stopped and killed."""
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


@pytest.fixture(scope="module")
def large(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """A version that takes a while to stream."""
    sealed = site.seal(
        write_model(tmp_path_factory.mktemp("large"), {"weights.bin": SIZE}), "demo/large@1", segment=1 << 20
    )
    site.register(sealed)
    return sealed


@contextmanager
def streaming(site: Site, sealed: Sealed) -> Iterator[tuple[str, Calls, Iterator[bytes]]]:
    """A job in the middle of a file: its lease, its connection, and what is still to come."""
    _, lease = site.granted(sealed)
    with site.calls("job") as job:
        session = site.open(job, sealed, lease).session
        stream = (bytes(piece.data) for piece in job.read(session, 0))
        assert len(next(stream)) == 1 << 20
        yield lease, job, stream


def cut(stream: Iterator[bytes]) -> None:
    """Read on: what was on its way still comes, then the stream is cut."""
    more: list[int] = []
    with pytest.raises(DeniedError, match=r"over|not open"):
        more.extend(map(len, stream))
    assert sum(more) < SIZE // 2


def stop(site: Site, who: str, action: str, target: str) -> None:
    with site.calls(who) as calls:
        calls.stop(site.stop_document(who, action, target))


@pytest.mark.parametrize("who", ["alice", "carol", "olga", "dave"])
def test_a_revocation_cuts_a_stream_in_the_middle_of_a_file(site: Site, large: Sealed, who: str) -> None:
    """One is enough: any custodian, the owner of the workload, the requester."""
    with streaming(site, large) as (lease, job, stream):
        stop(site, who, "revoke", lease)
        cut(stream)
        with pytest.raises(DeniedError, match="closed: revoked"):
            site.open(job, large, lease)


def test_a_whole_stream_is_whole(site: Site, large: Sealed) -> None:
    """The honest case of the above."""
    with streaming(site, large) as (_, __, stream):
        assert sum(len(data) for data in stream) == SIZE - (1 << 20)


def test_a_stop_by_somebody_who_may_not(site: Site, sealed: Sealed) -> None:
    view, lease = site.granted(sealed)
    honest = site.stop_document("dave", "revoke", lease).document(Stop)
    for who, changes, error, match in (
        ("dave", {"action": "return"}, DeniedError, "may not return"),
        ("alice", {"action": "withdraw", "target": view.request}, DeniedError, "may not withdraw"),
        ("alice", {"target": view.request}, NotFoundError, "no lease"),
        ("alice", {"target": "ab" * 32}, NotFoundError, "no lease"),
    ):
        document = replace(honest, actor=Person(person=who), **changes)
        with site.calls(who) as calls, pytest.raises(error, match=match):
            calls.stop(site.sign_as(who, document))
    with site.calls("job") as job:
        stranger = replace(honest, actor=site.workload())
        with pytest.raises(DeniedError, match=f"{JOB} may not revoke"):
            job.stop(sign(stranger, [site.job_signer()]))
        assert site.open(job, sealed, lease).session


def test_a_stop_again_and_of_something_else(site: Site, sealed: Sealed) -> None:
    """Sent again it gives the same receipt, also after a restart; it stops nothing but what it names."""
    _, lease = site.granted(sealed)
    _, other = site.granted(sealed)
    document = site.stop_document("alice", "revoke", lease)
    with site.calls("alice") as alice:
        first = alice.stop(document)
        assert alice.stop(document).entry == first.entry
        with pytest.raises(ConflictError, match="closed already: revoked"):
            alice.stop(site.stop_document("alice", "revoke", lease))
    site.restart_broker()
    with site.calls("bob") as bob:
        assert bob.stop(document).entry == first.entry
    with site.calls("dave") as dave:
        phases = [dave.get_request(view.request).phase for view in dave.list_requests(closed=True)[0][-2:]]
    assert phases == ["closed", "granted"]
    stop(site, "alice", "revoke", other)


@contextmanager
def ledger_held(site: Site) -> Iterator[None]:
    """Somebody holds the database: nothing can be written."""
    with closing(sqlite3.connect(site.directory / "broker/ledger.sqlite", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def no_tombstones(site: Site) -> None:
    """A tombstone goes when the stop is published, which takes a moment more than logging it."""
    deadline = time.monotonic() + 20
    while tombstones(site):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def tombstones(site: Site) -> list[Path]:
    return list((site.directory / "broker/state").glob("*.stop"))


def settled(site: Site) -> None:
    """Wait until the stops are published: then no tombstone is left."""
    with site.calls("dave") as dave:
        while tombstones(site):
            dave.list_versions()


def reasons(site: Site, lease: str) -> list[str | None]:
    """Why a lease was closed, by the ledger."""
    return [entry.reason for entry in malice.entries(site) if entry.type == "close" and entry.terms == lease]


def test_a_stop_whose_host_dies_before_it_is_logged(site: Site, large: Sealed) -> None:
    """It takes effect at once, before callers who wait for the database, and the next start honours it."""
    with streaming(site, large) as (lease, _, stream):
        with ledger_held(site), site.calls("alice") as alice, ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(alice.hello, site.hello("alice")) for _ in range(2)]
            stopping = pool.submit(alice.stop, site.stop_document("alice", "revoke", lease))
            cut(stream)
            assert not any(call.done() for call in (*waiting, stopping))
            while not tombstones(site):
                pass
            site.stop("broker", signal.SIGKILL)
            assert isinstance(stopping.exception(), UnavailableError)
        assert reasons(site, lease) == []
        site.start_broker()
    assert reasons(site, lease) == ["revoked"]
    no_tombstones(site)
    with site.calls("job") as job, pytest.raises(DeniedError, match="closed"):
        site.open(job, large, lease)


def test_a_stop_that_no_disk_takes_and_nobody_sends_again(site: Site, large: Sealed) -> None:
    """Granting waits, stopping does not: the keys go, the caller is told that it is not confirmed, and it is logged."""
    state = site.directory / "broker/state"
    with streaming(site, large) as (lease, _, stream), site.calls("alice") as alice:
        state.rename(state.with_name("gone"))
        with pytest.raises(UnavailableError, match="could not be written down") as caught:
            alice.stop(site.stop_document("alice", "revoke", lease))
        assert "until it is confirmed" in caught.value.hint
        cut(stream)
        state.with_name("gone").rename(state)
        while not reasons(site, lease):
            alice.list_versions()
    assert reasons(site, lease) == ["revoked"]


def test_a_stop_sent_again_and_again_while_no_witness_answers(site: Site, large: Sealed) -> None:
    """It takes effect before anybody has witnessed it, and those who repeat it hold up nobody, least another stop."""
    _, other = site.granted(large)
    with streaming(site, large) as (lease, _, stream), site.calls("alice") as alice, site.calls("dave") as dave:
        document = site.stop_document("alice", "revoke", lease)
        with ThreadPoolExecutor(16) as pool:
            with site.frozen("witness"):
                waiting = [pool.submit(alice.stop, document) for _ in range(12)]
                cut(stream)
                waiting.append(pool.submit(alice.stop, site.stop_document("alice", "revoke", other)))
                while not reasons(site, other):
                    dave.list_versions()
                assert not any(call.done() for call in waiting)
            assert len({call.result().entry for call in waiting}) == 2
    assert reasons(site, lease) == ["revoked"]


def test_a_stop_of_another_deployment_leaves_no_trace(site: Site, sealed: Sealed) -> None:
    """Were it buried before it is judged, the broker would never start again."""
    _, lease = site.granted(sealed)
    document = site.stop_document("alice", "revoke", lease).document(Stop)
    staging = replace(document, deployment="custody.example.org/staging")
    with site.calls("alice") as alice, pytest.raises(IntegrityError, match="deployment"):
        alice.stop(site.sign_as("alice", staging))
    no_tombstones(site)
    with site.calls("job") as job:
        assert site.open(job, sealed, lease).session


def test_a_tombstone_that_was_damaged(site: Site) -> None:
    """Nobody knows what it stopped: the broker says so and does not serve."""
    site.stop("broker")
    planted = site.directory / "broker/state" / "damaged.stop"
    planted.write_bytes(b"{}")
    with pytest.raises(AssertionError, match=r"damaged\.stop: not a stop"):
        site.start_broker()
    planted.unlink()
    site.start_broker()


def test_a_stop_whose_certificate_has_ended_at_the_next_start(site: Site, sealed: Sealed, tmp_path: Path) -> None:
    """It was good when it took effect. It is honoured although it cannot be logged, and the broker starts."""
    view, lease = site.granted(sealed)
    ended = malice.certificate(site.authority, tmp_path / "ended", [JOB], begin=-7200, end=-60)
    actor = Workload(spiffe=JOB, x5c=ended.chain())
    document = replace(site.stop_document("alice", "return", lease).document(Stop), actor=actor)
    site.stop("broker", signal.SIGKILL)
    buried = sign(document, [WorkloadSigner(ended)])
    (site.directory / "broker/state" / f"{buried.digest}.stop").write_bytes(buried.encode())
    site.start_broker()
    with site.calls("dave") as dave:
        view = dave.get_request(view.request)
    for person in ("alice", "bob"):
        _, release, wrapped = site.decide(view, person)
        with site.calls(person) as calls:
            calls.release_share(release, wrapped)
    with site.calls("job") as job, pytest.raises(DeniedError, match="the lease was stopped"):
        site.open(job, sealed, lease)
    with site.calls("alice") as alice:
        alice.stop(site.stop_document("alice", "revoke", lease))  # a stop that can be logged settles it
    site.restart_broker(signal.SIGTERM)
    no_tombstones(site)


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory takes CAP_SYS_PTRACE")
def test_leases_that_end_while_nothing_can_be_written(
    site: Site, draft: Sealed, source: Path, fresh: Callable[[str], str]
) -> None:
    """The ends cannot be logged. The keys of all of them go all the same, not just of the first."""
    second = site.seal(source, fresh("second"))
    keys, leases = [], []
    with site.calls("job") as job:
        for sealed in (draft, second):
            site.register(sealed)
            with malice.version_key(site, sealed) as version_key, file_key(version_key, 1) as key:
                keys.append(bytes(key.view))
            view, lease = site.granted(sealed, open_before=site.time(5), duration=U64(1))
            site.open(job, sealed, lease)
            leases.append((view.request, lease))
        assert live(site, keys) == {0, 1}
        with ledger_held(site):
            while live(site, keys):
                pass
        for request, lease in leases:
            while not reasons(site, lease):
                job.get_request(request)
            assert reasons(site, lease) == ["expired"]


def live(site: Site, keys: list[bytes]) -> set[int]:
    """Which keys are found in the broker's memory, from outside."""
    return {number for number, _ in scanner.find(site.processes["broker"].pid, keys)}
