"""Direct mode over S3: the job reads at presigned URLs, renewed through the broker, with no credentials of its own."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from custody.app.sealing import Sealed
from custody.client.link import BoundedCalls
from custody.client.tensors import Names
from custody.errors import ConfigError, CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.segments.layout import FilePlan
from custody.values import U64
from custody.wire.messages import PlaceReply
from tests.doubles.direct import DirectSite, JobKey
from tests.doubles.faulty_proxy import Fault, FaultyProxy
from tests.doubles.s3 import S3Server, credentials, weed_server
from tests.doubles.site import now, write_model

SIZES = {"config.json": 300, "empty": 0, "weights.bin": 1_000_000}
MODEL = "weights.safetensors"
TENSORS = {name: np.random.default_rng(i).integers(0, 255, (100, 1 << 10), "u1") for i, name in enumerate("abcdef")}
SAVED = save(TENSORS)
SIZE = sum(SIZES.values()) + len(SAVED)
WAIT = 15.0


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch, weed_server(tmp_path_factory.mktemp("weed")) as server:
        credentials(patch)
        yield server


@pytest.fixture(scope="module")
def proxy(weed: S3Server) -> Iterator[FaultyProxy]:
    """What lies between everybody and the store."""
    with FaultyProxy(int(weed.endpoint.rpartition(":")[2])).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, weed: S3Server, proxy: FaultyProxy) -> Iterator[DirectSite]:
    bucket = weed.url(weed.common, "direct", endpoint=proxy.endpoint)
    with DirectSite(tmp_path_factory.mktemp("direct") / "site", how="presigned", bucket=bucket) as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("source"), SIZES)
    (folder / MODEL).write_bytes(SAVED)
    return folder


@pytest.fixture(scope="module")
def sealed(site: DirectSite, source: Path) -> Sealed:
    version = site.seal(source)
    site.register(version)
    return version


@pytest.fixture
def lease(site: DirectSite, sealed: Sealed) -> str:
    return site.granted_direct(sealed, sessions=U64(3), bytes=U64(3 * SIZE))[1]


def test_a_job_without_credentials_reads_the_bucket_as_often_as_it_likes_for_the_files_once(
    site: DirectSite, sealed: Sealed, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, lease = site.granted_direct(sealed, sessions=U64(1), bytes=U64(SIZE))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    weights = (source / "weights.bin").read_bytes()
    with site.job() as custody, custody.lease(lease).open() as session:
        assert session.read("weights.bin", 70_000, 10) == weights[70_000:70_010]
        assert session.read("empty") == b""
        for _ in range(2):
            buffer = bytearray(len(weights))
            session.readinto("weights.bin", buffer)
            assert buffer == weights
        session.download(tmp_path / "out")
        for name in SIZES:
            assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    with site.calls("dave") as dave:
        after = dave.get_request(view.request)
    assert (after.bytes_spent, after.reason) == (SIZE, "budget")


def key_of(site: DirectSite, sealed: Sealed, weed: S3Server, name: str) -> tuple[str, str]:
    """Bucket and name of an object of the version."""
    return weed.common, f"direct/versions/{sealed.content.vid}/{name}"


Locate = Callable[[BoundedCalls, str, int], PlaceReply]


def changing(change: Callable[[PlaceReply, int], PlaceReply]) -> tuple[list[int], Locate]:
    """A broker whose answer to ``Locate`` is changed; the change is told how often it was asked before."""
    asked: list[int] = []

    def locate(self: BoundedCalls, session: str, file: int) -> PlaceReply:
        asked.append(file)
        return change(BoundedCalls.locate(self, session, file), len(asked) - 1)

    return asked, locate


def spoiled(reply: PlaceReply) -> PlaceReply:
    """The same URLs with signatures that are not good any more, as when their credentials have ended."""
    assert reply.ciphertext is not None
    assert reply.digests is not None
    return replace(
        reply,
        ciphertext=replace(reply.ciphertext, url=reply.ciphertext.url[:-4] + "0000"),
        digests=replace(reply.digests, url=reply.digests.url[:-4] + "0000"),
    )


def ended(reply: PlaceReply) -> PlaceReply:
    """The same URLs, said to end now: each request needs another one."""
    assert reply.ciphertext is not None
    assert reply.digests is not None
    return replace(
        reply,
        ciphertext=replace(reply.ciphertext, expires=now()),
        digests=replace(reply.digests, expires=now()),
    )


def read(site: DirectSite, lease: str) -> bytes:
    with site.job() as custody, custody.lease(lease).open(["weights.bin"], patience=0) as session:
        return session.read("weights.bin")


def test_urls_end_within_a_quarter_of_an_hour_and_with_the_lease(site: DirectSite, sealed: Sealed) -> None:
    for changes, most in (({}, 901), ({"open_before": site.time(60), "duration": U64(60)}, 121)):
        _, lease = site.granted_direct(sealed, **changes)
        with site.calls("job") as job:
            session = job.open_session(site.open_direct(lease, sealed, JobKey())).session
            first, second = job.locate(session, 2), job.locate(session, 2)
        for reply in (first, second):
            assert reply.ciphertext is not None
            assert 0 < reply.ciphertext.expires - now() <= most
            assert "X-Amz-Signature" not in repr(reply)


def test_a_url_that_the_store_refuses_is_renewed_through_the_broker(site: DirectSite, lease: str, source: Path) -> None:
    """URLs signed with temporary credentials die before they say so."""
    asked, locate = changing(lambda reply, before: spoiled(reply) if before < 1 else reply)
    with site.job(locate=locate) as custody, custody.lease(lease).open(["weights.bin"]) as session:
        assert session.read("weights.bin") == (source / "weights.bin").read_bytes()
    assert 2 <= len(asked) <= 3
    _, locate = changing(lambda reply, _: spoiled(reply))
    with (
        site.job(locate=locate) as custody,
        custody.lease(lease).open(["weights.bin"]) as session,
        pytest.raises(ConfigError, match="HTTP 403"),
    ):
        session.read("weights.bin")


def test_after_a_revocation_no_url_is_renewed(site: DirectSite, lease: str) -> None:
    _, locate = changing(lambda reply, _: ended(reply))
    with site.job(locate=locate) as custody, custody.lease(lease).open(patience=0) as session:
        session.read("weights.bin", 0, 10)
        with site.calls("alice") as alice:
            alice.stop(site.stop_document("alice", "revoke", lease))
        out = bytearray(b"?" * SIZES["weights.bin"])
        with pytest.raises(DeniedError):
            session.readinto("weights.bin", out)
        assert out == bytes(len(out))


def test_a_blob_that_is_replaced_under_a_session_is_refused_and_so_is_one_that_was_before(
    site: DirectSite, sealed: Sealed, lease: str, weed: S3Server
) -> None:
    bucket, key = key_of(site, sealed, weed, "2.floe")
    whole = weed.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    try:
        with site.job() as custody, custody.lease(lease).open(["weights.bin"]) as session:
            session.read("weights.bin", 0, 10)
            weed.client.put_object(Bucket=bucket, Key=key, Body=flipped)
            out = bytearray(b"?" * SIZES["weights.bin"])
            with pytest.raises((IntegrityError, NotFoundError), match=r"not what it was|not this version"):
                session.readinto("weights.bin", out)
            assert out == bytes(len(out))
        with pytest.raises(IntegrityError, match=r"weights\.bin: segment 15"):
            read(site, lease)
        weed.client.put_object(Bucket=bucket, Key=key, Body=whole[:-1])
        with pytest.raises(IntegrityError, match="bytes, not"):
            read(site, lease)
    finally:
        weed.client.put_object(Bucket=bucket, Key=key, Body=whole)


def test_a_lying_broker_names_no_url_but_of_http(site: DirectSite, sealed: Sealed) -> None:
    _, lease = site.granted_direct(sealed, sessions=U64(9), bytes=U64(9 * SIZE))
    for url in (
        "file:///etc/passwd",
        "http://",
        "ftp://127.0.0.1/x",
        "http://user@127.0.0.1/x",
        "http://127.0.0.1/a b",
    ):

        def lie(reply: PlaceReply, _: int, url: str = url) -> PlaceReply:
            assert reply.digests is not None
            return replace(reply, digests=replace(reply.digests, url=url))

        with (
            site.job(locate=changing(lie)[1]) as custody,
            custody.lease(lease).open(["weights.bin"], patience=0) as session,
            pytest.raises(FormatError, match="a signed URL") as caught,
        ):
            session.read("weights.bin")
        assert url not in str(caught.value)


MENDED = (Fault.CUT, Fault.RESET, Fault.BUSY, Fault.EXPIRED, Fault.STALE, Fault.SHORT)
REFUSED = (Fault.FLIPPED, Fault.CHANGED, Fault.ELSEWHERE)


@pytest.mark.parametrize("mode", ["stream", "direct"])
def test_whatever_the_store_answers_the_job_gets_the_sealers_bytes_or_none(
    site: DirectSite, sealed: Sealed, source: Path, proxy: FaultyProxy, mode: str
) -> None:
    """Through the real broker, in either mode; every kind of fault and pair of them is the store's campaign."""
    _, lease = site.granted(sealed, sessions=U64(12), bytes=U64(12 * SIZE), mode=mode)
    weights = (source / "weights.bin").read_bytes()
    for fault, lasting in [(fault, False) for fault in MENDED] + [(fault, True) for fault in REFUSED]:
        left = iter([fault] * (1000 if lasting else 2))
        out, said = bytearray(b"?" * len(weights)), ""
        with site.job() as custody, custody.lease(lease).open(patience=10) as session:
            proxy.choose = partial(next, left, None)
            try:
                session.readinto("weights.bin", out)
            except CustodyError as error:
                said = f"{error.message} {error.hint}"
            finally:
                proxy.choose = lambda: None
        assert bool(said) == lasting, fault
        assert "X-Amz" not in said
        if said:
            assert out in (bytes(len(out)), b"?" * len(out)), fault
        else:
            assert out == weights, fault
            assert next(left, None) is None, fault  # both happened
    assert proxy.followed == 0


@pytest.mark.parametrize(
    ("names", "tensors", "rows"),
    [({"c"}, "c", slice(None)), ({"b", "c"}, "bc", slice(None)), ({"d": slice(64, 65)}, "d", slice(64, 65))],
    ids=["one", "two that follow one another", "a row"],
)
def test_of_a_tensor_no_byte_is_fetched_that_is_not_in_its_segments(  # noqa: PLR0917 - a fixture or a parameter each
    site: DirectSite, sealed: Sealed, lease: str, proxy: FaultyProxy, names: Names, tensors: str, rows: slice
) -> None:
    (index,) = [i for i, file in enumerate(sealed.content.files) if file.path == MODEL]
    plan = FilePlan.of(sealed.content, index)
    header = len(SAVED) - sum(tensor.nbytes for tensor in TENSORS.values())
    first, last = (sorted(TENSORS).index(name) * TENSORS["a"].nbytes for name in (tensors[0], tensors[-1]))
    begin, end = (first + (rows.start or 0) * 1024, last + (rows.stop or 100) * 1024)
    needed = [plan.locate(i) for i in plan.covering(header + begin, end - begin)]
    head = plan.locate(0).stored_length
    with site.job() as custody, custody.lease(lease).open([MODEL]) as session:
        session.read(MODEL, 0, 1)  # the digest list, and the ciphertext's own header
        proxy.asked.clear()
        loaded = session.load_tensors(MODEL, names, framework="numpy")
        asked = sum(last - first + 1 for first, last in proxy.asked)
        assert asked == head + sum(where.stored_length for where in needed)
        assert len(needed) < plan.count - 3
        for name in tensors:
            assert np.array_equal(loaded[name], TENSORS[name][rows])


def test_a_walk_through_tensors_fetches_each_once(site: DirectSite, lease: str, proxy: FaultyProxy) -> None:
    with site.job() as custody, custody.lease(lease).open([MODEL]) as session:
        proxy.asked.clear()
        walked = session.walk_tensors(MODEL, framework="numpy", memory=300_000)
        seen = {name: tensor.copy() for name, tensor in walked}
        assert all(np.array_equal(seen[name], TENSORS[name]) for name in TENSORS)
        assert list(seen) == sorted(TENSORS)
        asked = sum(last - first + 1 for first, last in proxy.asked)
        assert asked < len(SAVED) + (len(seen) + 3) * (1 << 16) + 5000  # where two tensors meet, a segment of both


def test_many_read_at_once(site: DirectSite, lease: str, source: Path) -> None:
    weights = (source / "weights.bin").read_bytes()
    wrong: list[int] = []
    with site.job() as custody, custody.lease(lease).open(["weights.bin"]) as session:

        def read(start: int) -> None:
            if session.read("weights.bin", start, 300_000) != weights[start : start + 300_000]:
                wrong.append(start)

        threads = [threading.Thread(target=read, args=(start,)) for start in range(0, 700_000, 100_000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_no_url_is_in_any_file_of_broker_log_or_ledger(site: DirectSite, lease: str, sealed: Sealed) -> None:
    with site.calls("job") as job:
        session = job.open_session(site.open_direct(lease, sealed, JobKey())).session
        assert job.locate(session, 2).ciphertext is not None
        with pytest.raises(DeniedError):
            job.locate(session, 4)
    plan = FilePlan.of(sealed.content, 2)
    for path in site.directory.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # a partial tile that has gone meanwhile
            data = path.read_bytes()
            assert b"X-Amz-Signature" not in data, path
            assert plan.ciphertext_key.encode() not in data, path


def test_a_broker_whose_store_is_silent_ends_when_it_is_told_to(
    site: DirectSite, sealed: Sealed, proxy: FaultyProxy
) -> None:
    _, stream = site.granted(sealed)
    with site.calls("job") as job:
        session = site.open(job, sealed, stream).session
        index = [file.path for file in sealed.content.files].index("weights.bin")
        reading = job.read(session, index)
        assert next(reading)
        proxy.choose = lambda: Fault.SILENT  # on connections that are kept, too
        try:
            with ThreadPoolExecutor(4) as readers:
                waiting = [readers.submit(lambda: list(job.read(session, index))) for _ in range(4)]
                until = time.monotonic() + WAIT
                while proxy.served[Fault.SILENT] < 1 and time.monotonic() < until:
                    time.sleep(0.01)
                broker = site.processes["broker"]
                broker.send_signal(signal.SIGTERM)
                for one in waiting:
                    with pytest.raises(CustodyError):
                        one.result(WAIT)
                assert broker.process.wait(WAIT) == 0  # and not after the minute for which a store is asked again
        finally:
            proxy.begin(lambda: None)
            site.stop("broker")
            site.start_broker()
