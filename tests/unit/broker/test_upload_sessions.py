"""What bounds an upload: whose it is, how long, how many, and each blob's bytes."""

from dataclasses import replace
from pathlib import Path

import pytest

from custody.adapters import local_files, store_local
from custody.adapters.store_local import LocalStore
from custody.broker import versions
from custody.broker.blobs import PART, PresignedBlob, StreamedBlob, part_size
from custody.broker.context import Peer
from custody.broker.upload_sessions import Upload, Uploads
from custody.errors import DeniedError, FormatError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import Presigned
from custody.segments.layout import manifest_key
from tests.doubles.store import Fault, FaultyOs
from tests.doubles.world import World
from tests.unit.broker.place import broker_of

DAVE = "spiffe://example.org/person/dave"


def upload(number: int, identity: str = DAVE, vid: int | None = None) -> Upload:
    vid_bytes = bytes([number if vid is None else vid]) * 32
    return Upload(f"id-{number}", identity, "demo/a@1", vid_bytes, [], PART, expires=1000, heard=0)


def test_an_upload_is_its_owners_until_its_time_is_over() -> None:
    uploads = Uploads()
    uploads.add(upload(1))
    assert uploads.get("id-1", DAVE, 999).version == "demo/a@1"
    with pytest.raises(NotFoundError):
        uploads.get("id-1", "spiffe://example.org/person/olga", 999)
    with pytest.raises(DeniedError, match="over"):
        uploads.get("id-1", DAVE, 1000)
    assert not uploads.overdue(999)
    (overdue,) = uploads.overdue(1000)
    uploads.remove(overdue)
    with pytest.raises(NotFoundError):
        uploads.get("id-1", DAVE, 999)


def test_nobody_can_take_all_the_room() -> None:
    uploads = Uploads()
    for number in range(4):
        uploads.add(upload(number))
    with pytest.raises(UnavailableError, match="too many"):
        uploads.add(upload(4))
    uploads.add(upload(5, "spiffe://example.org/person/olga"))
    with pytest.raises(DeniedError, match="vid"):
        uploads.add(upload(6, "spiffe://example.org/person/olga", vid=1))


def test_the_idlest_is_the_one_that_its_sealer_has_left_for_longest() -> None:
    uploads = Uploads()
    for number in range(3):
        uploads.add(upload(number))
    uploads.add(upload(3, "spiffe://example.org/person/olga"))
    uploads.get("id-0", DAVE, 20)
    uploads.get("id-1", DAVE, 10)
    uploads.get("id-2", DAVE, 5).registered = True
    uploads.get("id-1", DAVE, 1)  # a thread that was slow
    assert uploads.idlest(DAVE, 3609) is None
    idlest = uploads.idlest(DAVE, 3610)
    assert idlest is not None
    assert idlest is uploads.idlest(DAVE, 5000) is uploads.get("id-1", DAVE, 10)
    uploads.remove(idlest)
    assert uploads.idlest(DAVE, 3619) is None


def test_tidying_is_done_once_unless_it_fails() -> None:
    uploads = Uploads()
    with pytest.raises(UnavailableError), uploads.tidying() as first:  # noqa: PT012 - the block is what is tested
        assert first
        raise UnavailableError("the store is down")
    with uploads.tidying() as first:
        assert first
    with uploads.tidying() as first:
        assert not first


def test_a_streamed_blob_takes_every_byte_once_and_no_gap(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    blob = StreamedBlob(store, "a", 10)
    assert blob.write(0, b"01234") == 5
    assert blob.write(0, b"01234") == 5  # the answer was lost
    assert blob.write(3, b"3456") == 7  # partly known
    for offset, data in ((8, b"8"), (7, b"7890")):
        with pytest.raises(FormatError):
            blob.write(offset, data)
    with pytest.raises(IntegrityError, match="7 bytes were sent, 10 were announced"):
        blob.finish()
    assert not store.exists("a")
    assert blob.write(7, b"789") == 10
    blob.finish()
    assert store.get("a") == b"0123456789"
    for use in (lambda: blob.write(10, b""), blob.finish):
        with pytest.raises(DeniedError):
            use()
    blob.discard()
    assert store.get("a") == b"0123456789"


def test_a_part_that_met_a_full_disk_is_sent_again_and_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    blob = StreamedBlob(store, "a", 10)
    assert blob.write(0, b"01") == 2
    monkeypatch.setattr(local_files, "os", FaultyOs(at=0, fault=Fault.ENOSPC))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="no space left"):
            blob.write(2, b"23456789")
    monkeypatch.undo()
    assert blob.write(2, b"23456789") == 10
    blob.finish()
    assert store.get("a") == b"0123456789"


def test_a_blob_that_could_not_be_finished_says_why_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    blob = StreamedBlob(store, "a", 10)
    blob.write(0, b"0123456789")
    monkeypatch.setattr(local_files, "os", FaultyOs(at=0, fault=Fault.ENOSPC))
    for use in (blob.finish, blob.finish, lambda: blob.write(0, b"0123456789")):
        with pytest.raises(UnavailableError, match="no space left") as caught:
            use()
        assert "make room" in caught.value.hint
    blob.discard()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_discarded_blob_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    blob = StreamedBlob(store, "a", 10)
    blob.write(0, b"01234")
    blob.discard()
    blob.discard()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(DeniedError):
        blob.write(5, b"56789")


class Signing:
    """A store that notes what it signs."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def begin_parts(self, key: str) -> str:
        return "upload"

    def presign_part(self, key: str, upload: str, number: int, size: int, seconds: int) -> Presigned:
        self.lengths.append(size)
        return Presigned("http://x", {}, 0)


def test_parts_are_signed_with_the_length_they_must_have() -> None:
    store = Signing()
    blob = PresignedBlob(store, "a", 2 * PART + 3, PART)  # type: ignore[arg-type]  # what is asked of it here
    assert len(blob.sign(1, 3, 60)) == 3
    assert store.lengths == [PART, PART, 3]
    for first, parts in ((0, 1), (1, 4), (4, 1), (1, 0), (3, 2)):
        with pytest.raises(FormatError):
            blob.sign(first, parts, 60)
    with pytest.raises(IntegrityError, match="nothing of it was sent"):
        PresignedBlob(store, "b", 2 * PART, PART).finish()  # type: ignore[arg-type]  # as above


def test_no_blob_has_more_parts_than_s3_allows() -> None:
    assert part_size(1) == part_size(PART * 10_000) == PART
    assert part_size(PART * 10_000 + 1) == 2 * PART
    assert -(-(5 << 40) // part_size(5 << 40)) <= 10_000


def test_the_blobs_of_a_version_are_synced_once_before_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_local, "can_sync_whole", lambda _descriptor: True)
    steps: list[str] = []
    (tmp_path / "broker").mkdir()
    store = LocalStore(tmp_path)
    with broker_of(world := World(), tmp_path / "broker") as whole:
        context = replace(whole, store=store)
        StreamedBlob(store, "warm", 0).finish()  # makes the directory known
        monkeypatch.setattr(store_local, "sync_whole", lambda _: steps.append("all"))
        monkeypatch.setattr("os.fsync", lambda _: steps.append("one"))
        for key in ("a", "b", "c"):
            blob = StreamedBlob(store, key, 1)
            blob.write(0, b"x")
            blob.finish()
        assert steps == []
        for check in ("_check_stored", "lock_version"):
            monkeypatch.setattr(versions, check, lambda *_: None)
        monkeypatch.setattr(store, "put_new", lambda key, _: steps.append(key))
        content = world.content("demo/new@1")
        manifest = world.manifest(world.sign(content, "sam"), world.sign(world.sharing(content), "sam"))
        versions.register(context, Peer("spiffe://example.org/person/sam", ""), manifest.encode(), store=True)
    assert steps[:2] == ["all", manifest_key(bytes.fromhex(content.vid))]
