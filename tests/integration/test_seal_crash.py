"""What a seal leaves behind when something dies or fails, in the store and in memory."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.adapters.store_local import LocalStore
from custody.app.source import scan
from custody.app.unfinished import Unfinished
from custody.app.versions import has_version, unfinished
from custody.crypto.secret import SecretBytes
from custody.documents.dsse import sign
from custody.errors import CustodyError, FormatError, IntegrityError
from tests.doubles.seal_site import FILES, VERSION, SealSite
from tests.doubles.store import Dead, Fault, FaultyStore
from tests.unit.house.tree import ROOT


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SealSite]:
    (tmp_path / "store").mkdir()
    for name, data in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    made = SealSite(tmp_path)
    yield made
    made.store.close()


# ------------------------------------------------------------------------------------------------------------- crashes


def _operations(tmp_path: Path) -> int:
    (tmp_path / "count").mkdir()
    store = LocalStore(tmp_path / "count")
    counting = FaultyStore(store)
    SealSite(tmp_path).seal(store=counting)
    store.close()
    return counting.done


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC, Fault.PERSISTED])
def test_a_store_that_fails_at_any_step_leaves_nothing_visible(site: SealSite, fault: Fault) -> None:
    for at in range(_operations(site.directory)):
        with pytest.raises(CustodyError):
            site.seal(store=FaultyStore(site.store, at=at, fault=fault))
        assert not has_version(site.store, VERSION), at
        assert fault is Fault.ENOSPC or unfinished(site.store) == {}, at
    site.seal()
    site.recover("alice", "bob")
    assert site.written() == FILES


def test_a_seal_killed_at_any_step_is_swept_by_the_next(site: SealSite) -> None:
    notes = Unfinished(site.directory / "home", "file:store")
    for at in range(_operations(site.directory) - 1):
        with pytest.raises(Dead):
            site.seal(store=FaultyStore(site.store, at=at, fault=Fault.KILLED))
        assert not has_version(site.store, VERSION), at
    left = unfinished(site.store)
    assert left
    for vid in left:  # what a killed process leaves: a note that nobody has locked
        (site.directory / "home/unfinished").mkdir(parents=True, exist_ok=True)
        (site.directory / "home/unfinished" / vid).write_text("file:store")
    assert notes.sweep(site.store) == len(left)
    assert unfinished(site.store) == {}
    assert list((site.directory / "home/unfinished").iterdir()) == []


def test_a_seal_under_way_is_not_swept(site: SealSite) -> None:
    notes = Unfinished(site.directory / "home", "file:store")
    vid = "ab" * 32
    site.store.put(f"versions/{vid}/0.floe", b"x")
    with notes.sealing(vid):
        assert notes.sweep(site.store) == 0
        assert Unfinished(site.directory / "home", "file:other").sweep(site.store) == 0
    assert set(unfinished(site.store)) == {vid}


def test_a_note_of_a_finished_seal_sweeps_nothing(site: SealSite) -> None:
    """Killed between the manifest and the end: the version stays."""
    vid = site.seal().content.vid
    (site.directory / "home/unfinished").mkdir(parents=True)
    (site.directory / "home/unfinished" / vid).write_text("file:store")
    assert Unfinished(site.directory / "home", "file:store").sweep(site.store) == 0
    site.recover("alice", "bob")


def test_a_file_that_changes_while_it_is_sealed_is_refused(site: SealSite) -> None:
    files = scan(site.directory / "model")
    (site.directory / "model/config.json").write_bytes(b"longer than before")
    with pytest.raises(IntegrityError, match=r"config\.json: changed while it was read"):
        site.seal(files=files)
    assert unfinished(site.store) == {}


def test_a_directory_swapped_for_a_link_while_sealing_is_not_followed(site: SealSite) -> None:
    files = scan(site.directory / "model")
    (site.directory / "model/a").rename(site.directory / "elsewhere")
    (site.directory / "model/a").symlink_to(site.directory / "elsewhere")
    with pytest.raises(CustodyError, match=r"not a directory|link"):
        site.seal(files=files)
    assert not has_version(site.store, VERSION)


def test_a_content_that_cannot_be_is_refused_and_leaves_nothing(site: SealSite) -> None:
    with pytest.raises(FormatError, match="retention"):
        site.seal(retention="For Ever")
    assert unfinished(site.store) == {}


# -------------------------------------------------------------------------------------------------------------- memory

_PROGRAM = """
import os, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.doubles.seal_site import SealSite
site = SealSite(Path(sys.argv[2]))
site.seal(segment=1 << 20)
site.recover("alice", "bob")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    peak = {}
    for size in (1 << 20, 256 << 20):
        directory = tmp_path / str(size)
        (directory / "model").mkdir(parents=True)
        (directory / "store").mkdir()
        with (directory / "model/weights").open("wb") as file:
            file.truncate(size)
        words = [sys.executable, "-c", _PROGRAM, str(ROOT), str(directory)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        peak[size] = int(done.stdout) * 1024
    assert peak[256 << 20] - peak[1 << 20] < 16 << 20, peak


def test_no_secret_outlives_a_seal(site: SealSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every SecretBytes that a seal makes is closed when it returns, and when it fails."""
    made: list[SecretBytes] = []
    before = SecretBytes.__init__

    def record(self: SecretBytes, size: int, *, require_lock: bool = False) -> None:
        before(self, size, require_lock=require_lock)
        made.append(self)

    monkeypatch.setattr(SecretBytes, "__init__", record)
    site.seal()
    assert made
    assert all(secret.closed for secret in made)
    for at in (3, 9, 20):
        made.clear()
        with pytest.raises(CustodyError):
            site.seal("demo/next@1", store=FaultyStore(site.store, at=at))
        assert all(secret.closed for secret in made)


def test_a_signature_is_over_what_is_stored(site: SealSite) -> None:
    sealed = site.seal()
    again = sign(sealed.content, [site.world.signer("sam")])
    assert again == sealed.manifest.content
