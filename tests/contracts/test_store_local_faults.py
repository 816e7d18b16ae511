"""The local store on a disk that fails: a fault at every step, and what is left then."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from custody.adapters import local_files, store_local
from custody.adapters.store_local import LocalStore
from custody.errors import StoppedError, UnavailableError
from tests.doubles.store import Dead, Fault, FaultyOs

KEY = "versions/ff/0.floe"
NEW = b"new " * 1000


def _put_new(store: LocalStore) -> None:
    store.put_new(KEY, NEW)


def _put(store: LocalStore) -> None:
    store.put(KEY, NEW)


def _write(store: LocalStore) -> None:
    with store.writer(KEY) as writer:
        for _ in range(10):
            writer.write(NEW[:400])


def _delete(store: LocalStore) -> None:
    store.delete(KEY)


BLOBS = {KEY: NEW, "versions/ff/1.floe": b"other", "checkpoints/1": b"third"}


def _put_all(store: LocalStore) -> None:
    store.put_all(BLOBS)


OPERATIONS = {"put_new": _put_new, "writer": _write, "put": _put, "put_all": _put_all}


def _break(monkeypatch: pytest.MonkeyPatch, at: int | None, fault: Fault) -> FaultyOs:
    double = FaultyOs(at=at, fault=fault)
    monkeypatch.setattr(store_local, "_SYNCERS", 1)  # so that steps come in one order
    monkeypatch.setattr(store_local, "os", double)
    monkeypatch.setattr(local_files, "os", double)
    return double


def test_bytes_are_durable_before_their_name_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    made = ["mkdir", "fsync", "mkdir", "fsync"]
    blob = ["open", "write", "fsync", "link", "fsync"]

    def steps(act: Callable[[], None]) -> list[str]:
        counter = _break(monkeypatch, None, Fault.EIO)
        act()
        monkeypatch.undo()
        return counter.steps

    assert steps(lambda: _put_new(store)) == made + blob
    again = ["open", "write", "fsync", "link", "fsync", "fsync"]
    assert steps(lambda: _put_new(store)) == again, "the same bytes again: neither they nor their name may be durable"
    pair = {KEY: NEW, "versions/ff/1.floe": b"other"}
    together = ["open", "write"] * 2 + ["fsync"] * 2 + ["link", "fsync", "link"] + ["fsync"]
    assert steps(lambda: store.put_all(pair)) == together, "all files, all names, then the directory once"
    assert steps(lambda: _put(store)) == ["open", "write", "fsync", "rename", "fsync"]
    assert steps(lambda: store.delete(KEY)) == ["unlink", "fsync"]
    assert steps(lambda: store.delete(KEY)) == ["unlink", "fsync"], "it is gone, but perhaps not durably"
    assert steps(lambda: store.delete(KEY, durable=False)) == ["unlink"]
    other = LocalStore(tmp_path)
    assert steps(lambda: _put_new(other)) == made + blob, "who made the directories may have crashed before its fsync"


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_at_any_step_leaves_no_part_of_a_blob_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, fault: Fault
) -> None:
    act = OPERATIONS[operation]
    counter = _break(monkeypatch, None, fault)
    (tmp_path / "honest").mkdir()
    act(LocalStore(tmp_path / "honest"))
    assert len(counter.steps) > 5

    for at in range(len(counter.steps)):
        root = tmp_path / str(at)
        root.mkdir()
        _break(monkeypatch, at, fault)
        failed = False
        try:
            act(LocalStore(root))
        except (UnavailableError, Dead):
            failed = True
        monkeypatch.undo()

        after = LocalStore(root)
        whole = after.exists(KEY)
        assert whole or failed, "acknowledged and lost"
        if whole:
            assert after.get(KEY) == NEW
        assert all(after.get(key) == BLOBS[key] for key in after.list(""))
        act(after)
        assert after.get(KEY) == NEW


@pytest.mark.parametrize("operation", ["put_new", "writer"])
def test_a_full_disk_leaves_nothing_under_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    counter = _break(monkeypatch, None, Fault.ENOSPC)
    (tmp_path / "honest").mkdir()
    OPERATIONS[operation](LocalStore(tmp_path / "honest"))
    for at in range(len(counter.steps) - 1):  # up to the link, the last but one, nothing is visible
        root = tmp_path / str(at)
        root.mkdir()
        _break(monkeypatch, at, Fault.ENOSPC)
        with pytest.raises(UnavailableError, match="no space left") as caught:
            OPERATIONS[operation](LocalStore(root))
        monkeypatch.undo()
        assert "make room" in caught.value.hint
        assert not [path for path in root.rglob("*") if not path.is_dir()]


def test_a_write_of_which_the_disk_took_a_part_is_taken_back_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    with store.writer(KEY) as writer:
        writer.write(b"first")
        for fault in (Fault.ENOSPC, Fault.EIO, Fault.PERSISTED):
            _break(monkeypatch, 0, fault)
            with pytest.raises(UnavailableError):
                writer.write(NEW)
            monkeypatch.undo()
        writer.write(NEW)
    assert store.get(KEY) == b"first" + NEW


def test_where_a_write_cannot_be_taken_back_nothing_becomes_a_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)

    def fail(*_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def go_on() -> None:
        with store.writer(KEY) as writer:
            double = _break(monkeypatch, 0, Fault.ENOSPC)
            monkeypatch.setattr(double, "ftruncate", fail, raising=False)
            with pytest.raises(UnavailableError, match="no space left"):
                writer.write(NEW)
            monkeypatch.undo()
            with pytest.raises(UnavailableError, match="quota"):
                writer.write(NEW)

    with pytest.raises(UnavailableError, match="quota"):
        go_on()
    assert list(store.list("")) == []
    _put_new(store)


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.PERSISTED])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_after_an_fsync_that_failed_the_store_takes_no_more_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, fault: Fault
) -> None:
    (tmp_path / "honest").mkdir()
    counter = _break(monkeypatch, None, fault)
    OPERATIONS[operation](LocalStore(tmp_path / "honest"))
    syncs = [at for at, step in enumerate(counter.steps) if step == "fsync"]
    assert len(syncs) > 3
    for at in syncs:
        root = tmp_path / str(at)
        root.mkdir()
        store = LocalStore(root)
        _break(monkeypatch, at, fault)
        with pytest.raises(UnavailableError, match="input/output error"):
            OPERATIONS[operation](store)
        monkeypatch.undo()
        for act in (*OPERATIONS.values(), _delete):
            with pytest.raises(StoppedError, match="no more writes after an fsync that failed"):
                act(store)
        list(store.list(""))
        OPERATIONS[operation](LocalStore(root))


def test_a_full_disk_that_says_so_at_fsync_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put_new("versions/ff/1.floe", b"")  # the directories are there
    double = _break(monkeypatch, 2, Fault.ENOSPC)
    with pytest.raises(UnavailableError, match="no space left"):
        _put_new(store)
    assert double.steps[2] == "fsync"
    monkeypatch.undo()
    _put_new(store)
    assert store.get(KEY) == NEW


def test_a_replaced_blob_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(20):
        root = tmp_path / str(at)
        root.mkdir()
        LocalStore(root).put("checkpoint", b"old")
        double = _break(monkeypatch, at, Fault.KILLED)
        with suppress(Dead):
            LocalStore(root).put("checkpoint", b"new")
        monkeypatch.undo()
        assert LocalStore(root).get("checkpoint") in (b"old", b"new")
        if len(double.steps) <= at:
            assert LocalStore(root).get("checkpoint") == b"new"
            return
    pytest.fail("the loop never came to its end")
