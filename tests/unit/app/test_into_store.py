"""Sealing into a store: what stays where not even the cleaning up succeeds."""

from pathlib import Path

import pytest

from custody.adapters.store_local import LocalStore
from custody.app.into_store import IntoStore
from custody.app.sealing import Sealing
from custody.app.unfinished import Unfinished
from custody.documents.actor import Person
from custody.errors import UnavailableError
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
            writer.write(b"x")
        raise KeyboardInterrupt


def test_a_note_stays_where_blobs_could_not_be_deleted_and_the_next_seal_sweeps(
    store: LocalStore, tmp_path: Path
) -> None:
    job = Sealing(version="demo/x@1", files=[], sealer=Person(person="sam"), signer=World().signer("sam"))
    notes = Unfinished(tmp_path / "home", "file:store")
    fail(store, notes, job)
    assert list(store.list("")) == list((tmp_path / "home/unfinished").iterdir()) == []
    counting = FaultyStore(store)
    fail(counting, notes, job)
    broken = FaultyStore(store, at=counting.done - 1, fault=Fault.EIO)
    fail(broken, notes, job)
    assert len(list(store.list(""))) == len(list((tmp_path / "home/unfinished").iterdir())) == 1
    assert notes.sweep(store) == 1
    assert list(store.list("")) == list((tmp_path / "home/unfinished").iterdir()) == []
    with pytest.raises(UnavailableError):
        IntoStore(FaultyStore(store, at=0), "demo/x@1")
