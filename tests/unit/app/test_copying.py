"""A second copy of a store: whole, checked, and never harmful to either end."""

from pathlib import Path

import pytest

from custody.adapters.store_local import LocalStore
from custody.app.copying import Copied, copy_versions
from custody.app.versions import find_version
from custody.errors import ConflictError, IntegrityError, UnavailableError
from tests.doubles.seal_site import FILES, VERSION, SealSite
from tests.doubles.store import Fault, FaultyStore


@pytest.fixture
def target(tmp_path: Path) -> LocalStore:
    (tmp_path / "copy").mkdir()
    return LocalStore(tmp_path / "copy")


@pytest.fixture
def site(tmp_path: Path) -> SealSite:
    (tmp_path / "store").mkdir()
    for name, data in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    site = SealSite(tmp_path)
    site.seal()
    return site


def copied(site: SealSite, target: LocalStore | FaultyStore) -> list[Copied]:
    done: list[Copied] = []
    copy_versions(site.store, target, done.append)
    return done


def test_a_copy_holds_every_byte_and_is_made_once(site: SealSite, target: LocalStore) -> None:
    (first,) = copied(site, target)
    assert (first.version, first.was_there) == (VERSION, False)
    assert list(target.list("")) == list(site.store.list(""))
    assert all(target.get(key) == site.store.get(key) for key in target.list(""))
    (again,) = copied(site, target)
    assert again.was_there


def test_a_copy_that_is_interrupted_shows_nothing_and_goes_on(site: SealSite, target: LocalStore) -> None:
    for at in range(100):
        faulty = FaultyStore(target, at=at, fault=Fault.EIO)
        try:
            copied(site, faulty)
        except UnavailableError:
            visible = [key for key in target.list("") if key.endswith("manifest.json")]
            assert not visible
        else:
            break
    assert at > 5
    found = find_version(target, VERSION, [site.world.root])
    assert found.manifest.encode() == find_version(site.store, VERSION, [site.world.root]).manifest.encode()


def test_what_a_copy_holds_is_durable_at_once(
    site: SealSite, target: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts again believes what is there: a power cut must not have left a name without its bytes."""
    monkeypatch.setattr(LocalStore, "unsettled_writer", lambda *_: pytest.fail("it may be there and empty"))
    assert copied(site, target)


def test_a_damaged_version_is_not_copied(site: SealSite, target: LocalStore) -> None:
    key = next(key for key in site.store.list("") if key.endswith(".floe"))
    site.store.put(key, damaged(site.store.get(key), "flipped"))
    with pytest.raises(IntegrityError, match=key) as caught:
        copied(site, target)
    assert "in the store that is copied" in caught.value.message
    assert "mend it there" in caught.value.hint
    assert not [key for key in target.list("") if key.endswith("manifest.json")]


@pytest.mark.parametrize("suffix", [".floe", ".digests"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "longer"])
def test_what_was_mended_can_be_copied(site: SealSite, target: LocalStore, suffix: str, damage: str) -> None:
    key = next(key for key in site.store.list("") if key.endswith(suffix))
    good = site.store.get(key)
    site.store.put(key, damaged(good, damage))
    with pytest.raises(IntegrityError, match=key):
        copied(site, target)
    assert not target.exists(key)
    site.store.put(key, good)
    assert copied(site, target)
    assert target.get(key) == good


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer"])
def test_a_wrong_blob_in_the_copy_is_named_with_what_to_do(site: SealSite, target: LocalStore, damage: str) -> None:
    key = next(key for key in site.store.list("") if key.endswith(".floe"))
    good = site.store.get(key)
    target.put_new(key, damaged(good, damage))
    for _ in range(2):
        with pytest.raises(IntegrityError, match=key) as caught:
            copied(site, target)
        assert "in the store that is copied to" in caught.value.message
        assert caught.value.hint == "remove this blob there, then copy again"
    target.delete(key)
    assert copied(site, target)
    assert target.get(key) == good


def damaged(data: bytes, how: str) -> bytes:
    return {"flipped": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-1], "longer": data + b"x"}[how]


def test_another_manifest_in_the_copy_is_never_replaced(site: SealSite, target: LocalStore) -> None:
    key = next(key for key in site.store.list("") if key.endswith("manifest.json"))
    target.put_new(key, b"another")
    with pytest.raises(ConflictError):
        copied(site, target)
    assert target.get(key) == b"another"
