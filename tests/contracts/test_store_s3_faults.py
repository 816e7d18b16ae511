"""Between client and store everything goes wrong: a clear outcome each time, and never a wrong byte."""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import botocore.endpoint
import pytest

from custody.adapters.backoff import Backoff
from custody.adapters.http_blob import HttpBlob
from custody.adapters.http_pool import HttpPool
from custody.adapters.http_put import put
from custody.adapters.http_stretch import Stretch
from custody.adapters.s3_writer import PART
from custody.adapters.store_s3 import S3Store
from custody.adapters.surroundings import Surroundings
from custody.errors import ConflictError, IntegrityError, UnavailableError
from custody.segments import open as opening
from custody.segments.open import SegmentChecker
from tests.doubles.faulty_proxy import Fault, FaultyProxy
from tests.doubles.s3 import S3Server, credentials
from tests.doubles.sealed import plaintext
from tests.doubles.store_campaign import Campaign, plan

HURRIED = Surroundings(
    lambda: int(time.time()), random.Random(1).randbytes, sleep=lambda seconds: time.sleep(seconds / 50)
)
PATIENCE = 3.0  # seconds that a read goes on trying here
WRITES = [Fault.DOWN, Fault.BUSY, Fault.SLOW, Fault.CUT, Fault.RESET, Fault.LOST]
READS = [*WRITES, Fault.LATE, Fault.DRIP, Fault.STUCK, Fault.STALE, Fault.GARBAGE, Fault.HEADERS, Fault.SHORT]
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
    blob._way = replace(blob._way, patience=patience)
    return blob


def read(blob: HttpBlob, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    blob.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("fault", READS, ids=lambda fault: fault.name)
def test_a_read_goes_on_where_it_was(proxy: FaultyProxy, through: S3Store, fault: Fault) -> None:
    through.put_new(f"mended/{fault.name.lower()}", DATA)
    blob = open_patiently(through, f"mended/{fault.name.lower()}")
    proxy.choose = script(fault, fault, None)
    proxy.asked.clear()
    assert read(blob, 1000, 200_000) == DATA[1000:201_000]
    assert {last for _, last in proxy.asked} == {200_999}
    if fault in (Fault.CUT, Fault.RESET, Fault.STUCK):
        first, second, third = (first for first, _ in proxy.asked)
        assert first == 1000 < second < third  # what had arrived was not asked for again


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


@pytest.mark.parametrize("fault", WRITES, ids=lambda fault: fault.name)
def test_a_large_blob_is_written_through_faults(proxy: FaultyProxy, through: S3Store, fault: Fault) -> None:
    key, data = f"large/{fault.name.lower()}", plaintext(PART + 100)
    seen = iter(range(1000))
    proxy.choose = lambda: fault if next(seen) % 2 == 0 else None
    through.put_new(key, data)
    proxy.choose = lambda: None
    assert through.get(key) == data


@pytest.mark.parametrize("fault", WRITES, ids=lambda fault: fault.name)
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


@pytest.fixture
def campaign(proxy: FaultyProxy, through: S3Store, tmp_path: Path) -> Iterator[Campaign]:
    mine = through._around, through._http
    yield Campaign(through, proxy, tmp_path)
    through._around, through._http = mine


def test_whatever_goes_wrong_no_wrong_byte_is_delivered(
    campaign: Campaign, record_property: Callable[[str, object], None]
) -> None:
    """``CUSTODY_STORE_SEEDS`` is for a night: so many seeds instead of one."""
    for seed in range(int(os.environ.get("CUSTODY_STORE_SEEDS", "1"))):
        campaign.go(list(plan(seed)))
    record_property("summary", campaign.report())
    assert campaign.violations == []
    assert set(campaign.met) == set(Fault)


def broken(name: str, patch: pytest.MonkeyPatch) -> None:
    """Break what stands between a store and a job, on purpose."""
    if name == "the digest of a segment is not looked at":
        patch.setattr(SegmentChecker, "check", lambda *_: None)
    elif name == "nothing is wiped":
        patch.setattr(opening, "wipe", lambda _: None)
    elif name == "any answer will do":
        patch.setattr(Stretch, "_check", lambda *_: None)
    else:
        patch.setattr(Backoff, "pause", lambda *_: None)


@pytest.mark.parametrize(
    "name",
    [
        "the digest of a segment is not looked at",
        "nothing is wiped",
        "any answer will do",
        "nothing is tried again",
    ],
)
def test_the_campaign_sees_a_client_that_is_broken(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    broken(name, monkeypatch)
    alone = [run for run in plan(0) if len(run.faults) == 1 and not run.lasting and run.way != "download"]
    campaign.go(alone)
    assert campaign.violations
