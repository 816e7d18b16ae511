"""Sealers write through the broker, without credentials of the store: a directory, and a real S3 server."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import blake3
import pytest
from botocore.exceptions import ClientError

from custody.adapters.home import Home
from custody.adapters.s3_place import S3Place
from custody.adapters.store_local import LocalStore
from custody.adapters.store_s3 import S3Store
from custody.adapters.surroundings import Surroundings
from custody.app.sealing import Sealed, Sealing, seal
from custody.app.source import scan
from custody.app.uploading import IntoBroker
from custody.crypto.sodium import random_into
from custody.documents.actor import Person
from custody.errors import ConflictError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.segments.layout import FilePlan, version_prefix
from custody.wire.uploads import BlobPlace
from tests.doubles.s3 import credentials, weed_server
from tests.doubles.site import DEPLOYMENT, Site, now, rng, write_model

SEGMENT = 1 << 20
SIZES = {"config.json": 300, "empty": 0, "weights.bin": (19 << 20) + 5}  # the last takes three parts

Stored = LocalStore | S3Store


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("source"), SIZES)


@pytest.fixture(scope="module", params=["s3", "directory"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Stored]]:
    """A running deployment, and its store as only the broker may open it. On S3 its log is there too."""
    folder = tmp_path_factory.mktemp("deployment") / "site"
    if request.param == "directory":
        with Site(folder) as site, closing(LocalStore(folder / "store")) as store:
            yield site, store
        return
    with pytest.MonkeyPatch.context() as patch, weed_server(tmp_path_factory.mktemp("weed")) as server:
        credentials(patch)
        url = server.url(server.bucket(lock=True))
        lock = '\n[store.lock.standard]\nmode = "compliance"\ndays = 1\n[policy]'

        def on_s3(text: str) -> str:
            text = text.replace('store = "file:../log"', f'store = "{server.url(server.common, "log")}"')
            return text.replace('url = "file:../store"', f'url = "{url}"').replace("[policy]", lock)

        with (
            Site(folder, change_config=on_s3) as site,
            closing(S3Store(S3Place.parse(url), Surroundings.real())) as s3,
        ):
            yield site, s3


@pytest.fixture
def site(place: tuple[Site, Stored]) -> Site:
    return place[0]


@pytest.fixture
def store(place: tuple[Site, Stored]) -> Stored:
    return place[1]


def home_of(site: Site, who: str) -> Home:
    folder = site.directory / f"homes/{who}"
    folder.mkdir(parents=True, exist_ok=True)
    tls = site.directory / f"tls/{who}"
    (folder / "custody.toml").write_text(
        f'deployment = "{DEPLOYMENT}"\ngenesis = "{site.root_envelope.digest}"\n'
        f'[broker]\naddress = "{site.address}"\nserver_name = "broker-1.custody"\n'
        f'[tls]\ncertificate = "{tls}/tls.crt"\nkey = "{tls}/tls.key"\nca = "{tls}/ca.pem"\n'
    )
    return Home(folder)


def job_of(site: Site, source: Path, version: str, who: str = "dave") -> Sealing:
    return Sealing(
        version=version, files=scan(source), sealer=Person(person=who), signer=site.signer(who), segment=SEGMENT
    )


def upload(site: Site, job: Sealing, who: str = "dave") -> Sealed:
    with IntoBroker(home_of(site, who), Surroundings.real()) as target:
        sealed = seal(job, root=site.root, target=target, rng=rng, random_into=random_into, clock=now)
        assert target.registered is not None
        return sealed


def test_a_sealer_without_a_store_seals_through_the_broker(site: Site, store: Stored, source: Path) -> None:
    sealed = upload(site, job_of(site, source, "demo/uploaded@1"))
    with site.calls("dave") as calls:
        assert calls.get_version("demo/uploaded@1").content.digest == sealed.manifest.content.digest
    for index, file in enumerate(sealed.content.files):
        blob = store.open(FilePlan.of(sealed.content, index).ciphertext_key)
        stored = bytearray(blob.size)
        blob.read_into(0, memoryview(stored))
        assert blake3.blake3(stored).hexdigest() == file.ciphertext
    assert list(store.list("uploads/")) == []
    with pytest.raises(ConflictError):
        upload(site, job_of(site, source, "demo/uploaded@1"))


def test_who_may_not_seal_the_name_uploads_nothing(site: Site, store: Stored, source: Path) -> None:
    before = list(store.list(""))
    with site.calls("olga") as calls, pytest.raises(DeniedError, match="olga may not seal"):
        calls.begin_upload("demo/other@1", os.urandom(32), SEGMENT, [5])
    assert list(store.list("")) == before


@pytest.mark.parametrize("place", ["s3"], indirect=True)  # a directory has no locks
def test_nobody_deletes_a_version_whose_retention_class_locks_it(place: tuple[Site, Stored], source: Path) -> None:
    site, store = place
    assert isinstance(store, S3Store)
    sealed = upload(site, job_of(site, source, "demo/locked@1"))
    keys = list(store.list(version_prefix(bytes.fromhex(sealed.content.vid))))
    assert len(keys) == 2 * len(SIZES) + 1
    for key in keys:  # with all rights that the broker's credentials have
        version = store.pin(key).version.removeprefix("id:")
        with pytest.raises(ClientError, match="AccessDenied"):
            store._client.delete_object(
                Bucket=store._bucket, Key=store._name(key), VersionId=version, BypassGovernanceRetention=True
            )
    with pytest.raises(FormatError, match="retention class") as caught:
        upload(site, replace(job_of(site, source, "demo/mistyped@1"), retention="standrad"))
    assert "standard" in caught.value.hint


def test_a_seal_that_fails_leaves_nothing(site: Site, store: Stored, source: Path) -> None:
    before = list(store.list(""))

    def progress(done: int) -> None:
        if done == SEGMENT:
            raise KeyboardInterrupt

    with IntoBroker(home_of(site, "dave"), Surroundings.real()) as target, pytest.raises(KeyboardInterrupt):
        seal(
            job_of(site, source, "demo/failed@1"),
            root=site.root,
            target=target,
            rng=rng,
            random_into=random_into,
            clock=now,
            progress=progress,
        )
    assert list(store.list("")) == before
    upload(site, job_of(site, source, "demo/failed@1"))


def test_what_a_killed_broker_had_taken_is_thrown_away_by_the_next_upload(
    site: Site, store: Stored, source: Path
) -> None:
    vid = os.urandom(32)
    before = set(store.list(""))
    with site.calls("dave") as calls:
        begun = calls.begin_upload("demo/killed@1", vid, SEGMENT, [5])
        place = BlobPlace(begun.upload, 0, digests=True)
        send(site, begun.presigned, place, bytes(32))
        calls.finish_blob(place)
    assert store.exists(version_prefix(vid) + "0.digests")
    site.restart_broker()
    with site.calls("dave") as calls, pytest.raises(NotFoundError, match="no such upload"):
        calls.finish_blob(place)
    upload(site, job_of(site, source, "demo/killed@1"))
    assert not [key for key in set(store.list("")) - before if vid.hex() in key]


def send(site: Site, presigned: bool, place: BlobPlace, data: bytes) -> int:  # noqa: FBT001 - as the broker says
    """Send a small blob the way the broker wants it; return the HTTP status, 200 where there is none."""
    with site.calls("dave") as calls:
        if not presigned:
            calls.write_blob(place, 0, memoryview(data))
            return 200
        (signed,) = calls.sign_parts(place, 1, 1)
    request = urllib.request.Request(signed.url, data, dict(signed.headers), method="PUT")  # noqa: S310 - loopback
    request.headers["Content-length"] = str(len(data))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_blob_has_exactly_the_size_announced_and_is_written_once(site: Site, store: Stored) -> None:
    with site.calls("dave") as calls:
        vid = os.urandom(32)
        begun = calls.begin_upload("demo/sizes@1", vid, SEGMENT, [5])
        place = BlobPlace(begun.upload, 0, digests=True)
        with suppress(FormatError):
            assert send(site, begun.presigned, place, bytes(33)) == 403
        with pytest.raises((FormatError, IntegrityError)):
            calls.finish_blob(place)
        with pytest.raises(FormatError, match="0 of 2 blobs"):
            calls.finish_upload(begun.upload, b"{}")
        assert send(site, begun.presigned, place, bytes(32)) == 200
        if begun.presigned:
            assert send(site, begun.presigned, place, bytes(32)) == 412
        assert calls.finish_blob(place) == calls.finish_blob(place) == 32
        calls.abort_upload(begun.upload)
        calls.abort_upload(begun.upload)
    assert not [key for key in store.list("") if vid.hex() in key]


def test_a_sealer_who_missed_the_answer_gets_the_receipt_again(site: Site, store: Stored, source: Path) -> None:
    with IntoBroker(home_of(site, "dave"), Surroundings.real()) as target:
        sealed = seal(
            job_of(site, source, "demo/again@1"),
            root=site.root,
            target=target,
            rng=rng,
            random_into=random_into,
            clock=now,
        )
        assert target.registered is not None
        first = target.registered.index
        target.publish(b"", sealed.manifest.encode())
        assert target.registered.index == first
        assert target._upload is not None
        target._upload.abort()  # what is in custody is not thrown away
    assert len(list(store.list(version_prefix(bytes.fromhex(sealed.content.vid))))) == 2 * len(SIZES) + 1


def test_a_sealer_who_missed_the_answer_to_a_begin_gets_the_upload_again(site: Site, store: Stored) -> None:
    vid = os.urandom(32)
    with site.calls("dave") as calls:
        begun = calls.begin_upload("demo/begun@1", vid, SEGMENT, [5])
        assert calls.begin_upload("demo/begun@1", vid, SEGMENT, [5]) == begun
        send(site, begun.presigned, BlobPlace(begun.upload, 0, digests=True), bytes(32))
        with pytest.raises(DeniedError, match="vid is in use"):
            calls.begin_upload("demo/begun@1", vid, SEGMENT, [5])
        calls.abort_upload(begun.upload)
    assert not [key for key in store.list("") if vid.hex() in key]


def test_an_upload_is_nobody_elses(site: Site) -> None:
    with site.calls("dave") as calls, site.calls("olga") as others:
        vid = os.urandom(32)
        begun = calls.begin_upload("demo/mine@1", vid, SEGMENT, [5])
        for use in (
            lambda: others.sign_parts(BlobPlace(begun.upload, 0, digests=False), 1, 1),
            lambda: others.finish_blob(BlobPlace(begun.upload, 0, digests=False)),
            lambda: others.write_blob(BlobPlace(begun.upload, 0, digests=False), 0, memoryview(b"x")),
            lambda: others.finish_upload(begun.upload, b"{}"),
        ):
            with pytest.raises(NotFoundError, match="no such upload"):
                use()
        others.abort_upload(begun.upload)
        with pytest.raises(DeniedError, match="vid is in use"):
            calls.begin_upload("demo/mine@2", vid, SEGMENT, [5])
        calls.abort_upload(begun.upload)
