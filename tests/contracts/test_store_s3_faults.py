"""Between client and store everything goes wrong: a clear outcome each time, and never a wrong byte."""

import random
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import botocore.endpoint
import pytest

from custody.adapters.http_blob import HttpBlob
from custody.adapters.http_pool import HttpPool
from custody.adapters.http_put import put
from custody.adapters.s3_writer import PART
from custody.adapters.store_s3 import S3Store
from custody.adapters.surroundings import Surroundings
from custody.errors import ConflictError, CustodyError, IntegrityError, UnavailableError
from custody.segments.open import OpenFile
from tests.doubles.faulty_proxy import Fault, FaultyProxy
from tests.doubles.s3 import S3Server, credentials
from tests.doubles.sealed import plaintext, seal

HURRIED = Surroundings(
    lambda: int(time.time()), random.Random(1).randbytes, sleep=lambda seconds: time.sleep(seconds / 50)
)
PATIENCE = 3.0  # seconds that a read goes on trying here
MENDED = [Fault.DOWN, Fault.BUSY, Fault.SLOW, Fault.CUT, Fault.RESET, Fault.LOST]
DATA = plaintext(300_000)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(monkeypatch)
    quick = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 50), time=time.time)
    monkeypatch.setattr(botocore.endpoint, "time", quick)


@pytest.fixture(scope="module")
def proxy(weed: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(int(weed.endpoint.rpartition(":")[2])).running() as running:
        yield running


@pytest.fixture(scope="module")
def through(weed: S3Server, proxy: FaultyProxy) -> Iterator[S3Store]:
    """The store as it is seen through the proxy."""
    with pytest.MonkeyPatch.context() as patch:
        credentials(patch)
        store = weed.store(endpoint=proxy.endpoint, around=HURRIED)
        store._client.head_bucket(Bucket=weed.common)  # credentials are looked up once
    store._http = HttpPool(timeout=0.5)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def _well(proxy: FaultyProxy) -> Iterator[None]:
    """Each test begins without faults, and ends so."""
    proxy.choose = lambda: None
    yield
    proxy.choose = lambda: None


def script(*faults: Fault | None) -> Callable[[], Fault | None]:
    """These, then none."""
    left = list(faults)
    return lambda: left.pop(0) if left else None


def open_patiently(store: S3Store, key: str, patience: float = PATIENCE) -> HttpBlob:
    blob = store.open(key)
    assert isinstance(blob, HttpBlob)
    blob._patience = patience
    return blob


def read(blob: HttpBlob, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    blob.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("fault", MENDED, ids=lambda fault: fault.name)
def test_a_read_goes_on_where_it_was(proxy: FaultyProxy, through: S3Store, fault: Fault) -> None:
    through.put_new(f"mended/{fault.name.lower()}", DATA)
    blob = open_patiently(through, f"mended/{fault.name.lower()}")
    asked = []
    proxy.choose = script(fault, fault, None)
    original = blob._attempt
    blob._attempt = lambda reading: (asked.append(reading.done), original(reading))  # type: ignore[func-returns-value, assignment, method-assign]
    assert read(blob, 1000, 200_000) == DATA[1000:201_000]
    if fault in (Fault.CUT, Fault.RESET):
        assert asked[0] == 0 < asked[1] < asked[2]  # what had arrived was not asked for again


def test_a_silent_store_is_unavailable_in_time(proxy: FaultyProxy, through: S3Store) -> None:
    through.put_new("silent", DATA)
    blob = open_patiently(through, "silent", patience=1)
    assert read(blob, 0, 10) == DATA[:10]
    proxy.choose = lambda: Fault.SILENT
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match="silent: no answer in time"):
        read(blob, 0, 10)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("fault", [Fault.OTHER_RANGE, Fault.WHOLE], ids=lambda fault: fault.name)
def test_a_range_that_was_not_asked_for_is_refused_and_asked_for_again(
    proxy: FaultyProxy, through: S3Store, fault: Fault
) -> None:
    through.put_new(f"range/{fault.name.lower()}", DATA)
    blob = open_patiently(through, f"range/{fault.name.lower()}")
    proxy.choose = script(fault)
    assert read(blob, 5, 1000) == DATA[5:1005]
    proxy.choose = lambda: fault
    with pytest.raises(IntegrityError, match="asked for bytes 5-1004 of 300000, it answered others"):
        read(blob, 5, 1000)


def test_a_blob_replaced_or_cut_behind_our_back_is_refused(weed: S3Server, through: S3Store) -> None:
    through.put_new("swapped", DATA)
    blob = open_patiently(through, "swapped")
    assert read(blob, 0, 10) == DATA[:10]
    weed.client.put_object(Bucket=weed.common, Key=f"{through._prefix}swapped", Body=DATA[:1000])
    with pytest.raises(IntegrityError, match="not what it was when it was opened"):
        read(blob, 0, 10)


@pytest.mark.parametrize("fault", MENDED, ids=lambda fault: fault.name)
def test_a_large_blob_is_written_through_faults(proxy: FaultyProxy, through: S3Store, fault: Fault) -> None:
    key, data = f"large/{fault.name.lower()}", plaintext(PART + 100)
    seen = iter(range(1000))
    proxy.choose = lambda: fault if next(seen) % 2 == 0 else None
    through.put_new(key, data)
    proxy.choose = lambda: None
    assert through.get(key) == data


@pytest.mark.parametrize("fault", MENDED, ids=lambda fault: fault.name)
def test_a_signed_put_is_sent_again_and_never_replaces(proxy: FaultyProxy, through: S3Store, fault: Fault) -> None:
    key = f"signed/{fault.name.lower()}"
    pool = HttpPool(timeout=0.5)
    proxy.choose = script(fault, fault)
    put(key, lambda: through.presign_put(key, len(DATA), 60), DATA, pool, HURRIED, patience=PATIENCE)
    assert through.get(key) == DATA
    with pytest.raises(ConflictError):
        put(key, lambda: through.presign_put(key, len(DATA), 60), DATA[::-1], pool, HURRIED, patience=PATIENCE)
    pool.close()
    assert through.get(key) == DATA


def test_a_store_that_is_down_is_unavailable_and_leaves_nothing(proxy: FaultyProxy, through: S3Store) -> None:
    proxy.choose = lambda: Fault.DOWN
    for use in (
        through.get,
        through.exists,
        lambda key: through.put_new(key, b"x"),
        lambda key: list(through.list("")),
    ):
        with pytest.raises(UnavailableError) as caught:
            use("never")
        assert "\n" not in caught.value.message
        assert "Signature" not in caught.value.message
    proxy.choose = lambda: None
    assert not through.exists("never")


@pytest.mark.parametrize("seed", range(12))
def test_whatever_goes_wrong_no_wrong_byte_is_delivered(proxy: FaultyProxy, through: S3Store, seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(rng.randrange(1, 200_000))
    sealed = seal(data, rng.randbytes, segment=1 << 14)
    through.put_new(f"campaign/{seed}/0.floe", bytes(sealed.ciphertext))
    through.put_new(f"campaign/{seed}/0.digests", bytes(sealed.digests))
    harsh = rng.random()
    mostly = [fault for fault in Fault if fault is not Fault.SILENT]
    delivered = 0
    for _ in range(4):
        proxy.choose = lambda: rng.choice(mostly) if rng.random() < harsh else None
        offset = rng.randrange(len(data))
        out = bytearray(rng.randrange(len(data) - offset + 1))
        try:
            with OpenFile.open(
                sealed.plan,
                expected=sealed.content.digests,
                file_key=sealed.file_key,
                digest_key=sealed.digest_key,
                ciphertext=open_patiently(through, f"campaign/{seed}/0.floe", 0.5),
                digests=open_patiently(through, f"campaign/{seed}/0.digests", 0.5),
            ) as file:
                file.read_into(offset, memoryview(out), threads=2)
        except CustodyError:
            assert out == bytes(len(out))
        else:
            assert out == data[offset : offset + len(out)]
            delivered += 1
        proxy.choose = lambda: None
    assert delivered or harsh > 0.3
    # Nothing is the worse for it afterwards.
    assert through.get(f"campaign/{seed}/0.floe") == sealed.ciphertext
