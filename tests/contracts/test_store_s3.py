"""S3 as a store: the contract on a fake and on a real server, and what only S3 can suffer."""

import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError

from custody.adapters.s3_place import S3Place
from custody.adapters.s3_writer import PART, part_size
from custody.adapters.store import open_store
from custody.adapters.store_s3 import S3Store
from custody.adapters.surroundings import Surroundings
from custody.errors import ConfigError, ConflictError
from custody.ports import LockMode, Presigned
from tests.contracts.store_suite import StoreSuite
from tests.doubles.s3 import KEY_ID, SECRET, S3Server, credentials
from tests.doubles.sealed import plaintext


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(monkeypatch)


class TestMoto(StoreSuite):
    writers = 1  # it looks whether a key is there, and then writes it: of two at once both may win

    @pytest.fixture
    def store(self, moto: S3Server) -> S3Store:
        return moto.emptied()


class TestSeaweed(StoreSuite):
    @pytest.fixture
    def store(self, weed: S3Server) -> S3Store:
        return weed.emptied()


@pytest.fixture(params=["moto", "weed"])
def server(request: pytest.FixtureRequest, moto: S3Server, weed: S3Server) -> S3Server:
    return moto if request.param == "moto" else weed


# ------------------------------------------------------------------------------------------------------------- in parts


def test_a_blob_of_several_parts_is_stored_whole_and_once(server: S3Server) -> None:
    store, data = server.emptied(), plaintext(2 * PART + 1)
    with store.writer("big") as writer:
        for at in range(0, len(data), 1_000_003):
            writer.write(memoryview(data)[at : at + 1_000_003])
    assert store.get("big", limit=len(data)) == data
    store.put_new("big", data)
    with pytest.raises(ConflictError, match="big exists with other content"):
        store.put_new("big", data[:-1] + b"x")
    assert store.get("big", limit=len(data)) == data
    assert not _under_way(server, store)


def test_a_writer_that_fails_aborts_its_parts(server: S3Server) -> None:
    store = server.emptied()
    with pytest.raises(KeyboardInterrupt), store.writer("big") as writer:  # noqa: PT012 - the block is what is tested
        writer.write(plaintext(PART + 1))
        raise KeyboardInterrupt
    assert not _under_way(server, store)
    assert not store.exists("big")


def test_the_parts_of_a_killed_writer_are_swept_when_they_are_old(weed: S3Server) -> None:
    store = weed.emptied()  # to moto every upload began in 2010
    store.begin_parts("killed")
    assert store.sweep(int(time.time())) == 0
    assert len(_under_way(weed, store)) == 1
    assert store.sweep(int(time.time()) + 25 * 3600) == 1
    assert not _under_way(weed, store)


def _under_way(server: S3Server, store: S3Store) -> list[Any]:
    found = server.client.list_multipart_uploads(Bucket=server.common, Prefix=store._prefix)
    return list(found.get("Uploads", []))


def test_parts_grow_so_that_any_object_of_s3_can_be_written() -> None:
    assert part_size(1) == part_size(1000) == PART
    assert sum(part_size(number) for number in range(1, 10_001)) > 5 << 40


# ------------------------------------------------------------------------------------------------------ signed requests


def test_a_signed_get_gives_ranges_of_the_pinned_blob_and_of_no_other(server: S3Server) -> None:
    store = server.emptied()
    store.put_new("a", b"0123456789")
    blob = store.pin("a")
    signed = store.presign_get(blob, 60)
    assert "Signature" not in repr(signed)
    assert 50 < signed.expires - time.time() <= 60
    assert _get(signed, "bytes=2-4") == (206, b"234")
    server.client.put_object(Bucket=server.common, Key=f"{store._prefix}a", Body=b"another one")
    assert _get(signed, "bytes=2-4")[0] == 412
    with pytest.raises(ValueError):
        store.presign_get(blob, 901)


def test_in_a_bucket_with_versions_the_pinned_one_is_read_whatever_comes_after(server: S3Server) -> None:
    bucket = server.bucket()
    server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = server.store(bucket)
    store.put("a", b"0123456789")
    signed = store.presign_get(store.pin("a"), 60)
    blob = store.open("a")
    store.put("a", b"another one")
    store.delete("a")
    buffer = bytearray(3)
    blob.read_into(2, memoryview(buffer))
    assert buffer == b"234"
    assert _get(signed, "bytes=2-4") == (206, b"234")
    store.close()


def test_a_url_ends_with_the_temporary_credentials_that_signed_it(moto: S3Server) -> None:
    store = moto.store()
    store.put_new("a", b"x")
    ends = datetime.now(UTC) + timedelta(seconds=200)
    fetched = {"access_key": KEY_ID, "secret_key": SECRET, "token": "t", "expiry_time": ends.isoformat()}
    store._client._request_signer._credentials = RefreshableCredentials.create_from_metadata(  # type: ignore[attr-defined]
        fetched, refresh_using=lambda: fetched, method="test", advisory_timeout=0, mandatory_timeout=0
    )
    signed = store.presign_get(store.pin("a"), 900)
    assert signed.expires <= ends.timestamp()
    store.close()


def _get(signed: Presigned, ranges: str) -> tuple[int, bytes]:
    request = urllib.request.Request(signed.url, headers={**signed.headers, "Range": ranges})  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


# ---------------------------------------------------------------------------------------------------------------- locks


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_an_administrator_cannot_delete_what_is_locked(server: S3Server, mode: LockMode) -> None:
    store = server.store(server.bucket(lock=True))
    store.put_new("kept", b"weights")
    store.put_new("loose", b"weights")
    store.retain("kept", mode, int(time.time()) + 3600)
    versions = {key: store.pin(key).version.removeprefix("id:") for key in ("kept", "loose")}
    names = {"Bucket": store._bucket, "Key": store._name("loose"), "VersionId": versions["loose"]}
    server.client.delete_object(**names)  # the honest case: an administrator can
    names |= {"Key": store._name("kept"), "VersionId": versions["kept"]}
    with pytest.raises(ClientError, match="AccessDenied"):
        server.client.delete_object(**names)
    if mode == "compliance":
        with pytest.raises(ClientError, match="AccessDenied"):
            server.client.delete_object(**names, BypassGovernanceRetention=True)
    assert store.get("kept") == b"weights"
    assert not store.exists("loose")
    store.close()


def test_a_bucket_without_object_lock_says_so(moto: S3Server) -> None:
    store = moto.emptied()
    store.put_new("a", b"x")
    with pytest.raises(ConfigError):
        store.retain("a", "governance", int(time.time()) + 3600)


# ------------------------------------------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
def test_a_server_that_overwrites_what_exists_is_refused(server: S3Server, operation: str) -> None:
    store = server.store()
    store._client.meta.events.register(
        f"before-parameter-build.s3.{operation}", lambda params, **_: params.pop("IfNoneMatch", None)
    )
    with pytest.raises(ConfigError, match="ignores If-None-Match") as caught:
        store.put_new("a", b"x")
    assert "conditional writes" in caught.value.hint
    assert not store.exists("a")
    store.close()


def test_no_bucket_no_credentials_no_server_are_errors_of_one_line(
    weed: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = weed.store("no-such-bucket")
    with pytest.raises(ConfigError, match="NoSuchBucket"):
        store.put_new("a", b"x")
    store.close()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = weed.store()
    with pytest.raises(ConfigError) as caught:
        store.put_new("a", b"x")
    assert "\n" not in caught.value.message
    store.close()
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    store = weed.store()
    with pytest.raises(ConfigError, match="credentials"):
        store.put_new("a", b"x")
    store.close()


def test_a_url_names_bucket_prefix_and_how_to_reach_them() -> None:
    place = S3Place.parse("s3://models/prod/eu?region=eu-central-1&endpoint=https%3A%2F%2Fs3.example.org%3A9000")
    assert (place.bucket, place.prefix, place.region) == ("models", "prod/eu/", "eu-central-1")
    assert (place.endpoint, place.addressing) == ("https://s3.example.org:9000", "path")
    assert S3Place.parse("s3://models") == S3Place.parse("s3://models/") == S3Place("models", "")
    assert S3Place.parse("s3://models?ca=/etc/ca.pem&addressing=path&profile=p").ca == Path("/etc/ca.pem")


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://Bucket",
        "s3://models/a//b",
        "s3://models/../b",
        "s3://models/A",
        "s3://models?regoin=x",
        "s3://models?region=",
        "s3://models?region=a&region=b",
        "s3://models?region=a b",
        "s3://models#x",
        "s3://models?endpoint=ftp://host",
        "s3://models?endpoint=http://",
        "s3://models?endpoint=http://user@host",
        "s3://models?endpoint=http://host/path",
        "s3://models?endpoint=http://host:99999",
        "s3://models?addressing=both",
        "s3://key:hunter2@models",
    ],
)
def test_a_url_that_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url, Surroundings.real())
    assert "hunter2" not in caught.value.message
