"""Sealing into a store: what stays where not even the cleaning up succeeds."""

import fcntl
import os
from pathlib import Path

import pytest

from custody.adapters import store_local
from custody.adapters.store_local import LocalStore
from custody.app.into_store import IntoStore
from custody.app.sealing import Sealing
from custody.app.unfinished import Unfinished
from custody.app.versions import has_version
from custody.documents.actor import Person
from custody.errors import UnavailableError
from tests.doubles.seal_site import SealSite
from tests.doubles.store import Fault, FaultyStore
from tests.doubles.world import World

VID = b"v" * 32


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "store").mkdir()
    return LocalStore(tmp_path / "store")


def fail(store: FaultyStore | LocalStore, notes: Unfinished, job: Sealing) -> None:
    target = IntoStore(store, job.version, notes)
    with pytest.raises(KeyboardInterrupt), target.sealing(VID, job):  # noqa: PT012 - what is tested
        with target.writer(f"versions/{VID.hex()}/0.floe") as writer:
            writer.write(memoryview(b"x"))
        raise KeyboardInterrupt


def test_a_note_stays_where_blobs_could_not_be_deleted_and_the_next_seal_sweeps(
    store: LocalStore, tmp_path: Path
) -> None:
    job = Sealing(version="demo/x@1", files=[], sealer=Person(person="sam"), signer=World().signer("sam"))
    notes = Unfinished(tmp_path / "home", "file:store")
    fail(store, notes, job)
    assert not [*store.list(""), *(tmp_path / "home/unfinished").iterdir()]
    counting = FaultyStore(store)
    fail(counting, notes, job)
    broken = FaultyStore(store, at=counting.done - 1, fault=Fault.EIO)
    fail(broken, notes, job)
    assert len(list(store.list(""))) == len(list((tmp_path / "home/unfinished").iterdir())) == 1
    assert notes.sweep(store) == 1
    assert not [*store.list(""), *(tmp_path / "home/unfinished").iterdir()]
    with pytest.raises(UnavailableError):
        IntoStore(FaultyStore(store, at=0), "demo/x@1")


def test_a_sweep_that_finds_a_note_before_it_is_locked_costs_nobody_the_note(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Unfinished(tmp_path / "home", "file:store")
    note = tmp_path / "home/unfinished" / VID.hex()
    real, early = fcntl.flock, [True]

    def flock(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX and early:  # the sealer, for the first time
            early.clear()
            assert notes.sweep(store) == 1
        real(descriptor, how)

    monkeypatch.setattr("custody.app.unfinished.fcntl.flock", flock)
    with notes.sealing(VID.hex()):
        assert not early
        assert note.read_text() == "file:store"
        assert notes.sweep(store) == 0
    assert notes.sweep(store) == 1


def test_a_sweep_removes_the_note_that_it_looked_at_and_no_newer_one(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Unfinished(tmp_path / "home", "file:store")
    note = tmp_path / "home/unfinished" / VID.hex()
    note.parent.mkdir(parents=True)
    note.write_text("")
    real = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        note.unlink()  # another sweep was faster, and the sealer has begun its note again
        note.write_text("file:store")
        real(descriptor, how)

    monkeypatch.setattr("custody.app.unfinished.fcntl.flock", flock)
    assert notes.sweep(store) == 0
    assert note.read_text() == "file:store"


def test_a_note_and_its_name_are_durable_before_the_first_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_dev, found.st_ino))

    monkeypatch.setattr("os.fsync", fsync)
    home = tmp_path / "home"
    with Unfinished(home, "file:store").sealing(VID.hex()):
        wanted = [path.stat() for path in (home / "unfinished" / VID.hex(), home / "unfinished", home)]
        assert synced == [(found.st_dev, found.st_ino) for found in wanted]


def test_the_manifest_comes_when_all_blobs_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "store").mkdir()
    for i in range(50):
        (tmp_path / f"model/{i}").write_bytes(bytes(i))
    site = SealSite(tmp_path)
    there: list[set[str]] = []

    def sync(_descriptor: int) -> None:
        there.append(set(site.store.list("")))

    monkeypatch.setattr(store_local, "sync_whole", sync)
    vid = site.seal().content.vid
    (blobs,) = there
    assert len(blobs) == 100
    assert set(site.store.list("")) - blobs == {f"versions/{vid}/manifest.json"}
    site.recover("alice", "bob")

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store_local, "sync_whole", fail)
    with pytest.raises(UnavailableError):
        site.seal("demo/other@1")
    assert not has_version(site.store, "demo/other@1")
