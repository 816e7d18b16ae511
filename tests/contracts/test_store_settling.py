"""The local store: when bytes go to the disk, and many blobs made durable all together."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from custody.adapters import file_system, local_files, store_local
from custody.adapters.store_local import LocalStore
from custody.errors import StoppedError, UnavailableError
from tests.doubles.store import FaultyOs


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """On whatever file system the tests run, as on one that is known."""
    monkeypatch.setattr(store_local, "can_sync_whole", lambda _descriptor: True)
    return LocalStore(tmp_path)


def test_a_blob_being_written_has_no_name_that_a_kill_could_leave(store: LocalStore, tmp_path: Path) -> None:
    with store.writer("a") as writer:
        writer.write(b"x")
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_long_blob_goes_to_the_disk_while_it_is_written(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[int, int]] = []
    waited: list[tuple[int, int]] = []
    monkeypatch.setattr(local_files, "STRETCH", 1000)
    monkeypatch.setattr(local_files, "start_write_back", lambda _file, *where: begun.append(where))
    monkeypatch.setattr(local_files, "wait_write_back", lambda _file, *where: waited.append(where))
    with store.writer("a") as writer:
        for _ in range(9):
            writer.write(bytes(400))
    assert begun == [(0, 1200), (1200, 2400), (2400, 3600)]
    assert waited == [(200, 1200), (1400, 2400)], "the one before: the disk is never far behind"


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize(("number", "stops"), [(errno.ENOSPC, False), (errno.EIO, True)])
def test_bytes_that_were_lost_on_the_way_to_the_disk_become_no_blob(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, stops: bool, settled: bool
) -> None:
    """The kernel tells of them once: who is told and goes on gets no blob, though the fsync at the end is fine."""

    def lose(_file: int, _start: int, _end: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local_files, "STRETCH", 1000)
    monkeypatch.setattr(local_files, "wait_write_back", lose)

    def go_on() -> None:
        with (store.writer if settled else store.unsettled_writer)("a") as writer:
            for _ in range(9):
                with suppress(UnavailableError):
                    writer.write(bytes(400))

    with pytest.raises(UnavailableError, match=os.strerror(number).lower()):
        go_on()
    assert list(tmp_path.iterdir()) == []
    if stops:
        with pytest.raises(StoppedError):
            store.put_new("b", b"x")
    else:
        store.put_new("b", b"x")


def test_what_lies_on_another_file_system_below_the_root_is_settled_at_once(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_device", -1)  # as if the blob's directory were a mount
    double = FaultyOs()
    monkeypatch.setattr(store_local, "os", double)
    monkeypatch.setattr(local_files, "os", double)
    with store.unsettled_writer("a") as writer:
        writer.write(b"x")
    assert double.steps == ["open", "write", "fsync", "link", "fsync"]


def test_files_have_names_where_a_power_cut_empties_those_without(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_local, "keeps_nameless", lambda _directory: False)
    with store.writer("a") as writer:
        writer.write(b"x")
        assert [path.name[:5] for path in tmp_path.iterdir()] == [".tmp-"]
    assert store.get("a") == b"x"


def test_unsettled_blobs_cost_no_fsync_and_one_sync_makes_all_durable(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    store.put_new("versions/ff/0.digests", b"")  # the directories are there, durably
    double = FaultyOs()
    monkeypatch.setattr(store_local, "os", double)
    monkeypatch.setattr(local_files, "os", double)
    monkeypatch.setattr(store_local, "sync_whole", synced.append)
    for number in range(3):
        with store.unsettled_writer(f"versions/ff/{number}.floe") as writer:
            writer.write(b"x")
    assert double.steps == ["open", "write", "link"] * 3
    assert not synced
    store.settle()
    assert len(synced) == 1
    assert store.get("versions/ff/2.floe") == b"x"


def test_where_one_sync_is_not_known_to_be_as_good_blobs_are_settled_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_local, "can_sync_whole", lambda _descriptor: False)
    monkeypatch.setattr(store_local, "sync_whole", lambda _descriptor: pytest.fail("it may prove nothing"))
    store = LocalStore(tmp_path)
    assert not store.settles
    double = FaultyOs()
    monkeypatch.setattr(store_local, "os", double)
    monkeypatch.setattr(local_files, "os", double)
    with store.unsettled_writer("a") as writer:
        writer.write(b"x")
    assert double.steps == ["open", "write", "fsync", "link", "fsync"]
    store.settle()


def test_a_sync_that_fails_stops_the_store(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert store.settles
    store.settle()
    monkeypatch.setattr(store_local, "sync_whole", fail)
    with pytest.raises(UnavailableError, match="input/output error"):
        store.settle()
    with pytest.raises(StoppedError):
        store.put_new("a", b"")


def test_kernels_whose_sync_hides_errors_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        release = "5.4.0-150-generic"

    descriptor = os.open(tmp_path, os.O_RDONLY)
    known = file_system.can_sync_whole(descriptor)  # where the tests run on another one, the kernel decides nothing
    try:
        monkeypatch.setattr(os, "uname", Old)
        assert not file_system.can_sync_whole(descriptor)
        monkeypatch.undo()
        assert file_system.can_sync_whole(descriptor) == known
        with pytest.raises(OSError, match="Bad file descriptor"):
            file_system.sync_whole(-1)
    finally:
        os.close(descriptor)
    proc = os.open("/proc/self", os.O_RDONLY)
    assert not file_system.can_sync_whole(proc)
    os.close(proc)
