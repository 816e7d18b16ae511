"""The local store: the contract, and what only a directory can suffer."""

import errno
import os
from pathlib import Path

import pytest

from custody.adapters import local_files, store_local
from custody.adapters.store import open_store
from custody.adapters.store_local import LocalStore
from custody.adapters.surroundings import Surroundings
from custody.errors import ConfigError, IntegrityError, UnavailableError
from tests.contracts.store_suite import StoreSuite
from tests.doubles.store import FaultyOs, FaultyStore

DAY = 24 * 3600


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


class TestLocalStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        return LocalStore(tmp_path)


class TestOnAFileSystemWithoutNamelessFiles(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
        class Plain(FaultyOs):
            def open(self, path: str, flags: int, *args: int, **options: int) -> int:
                if flags & os.O_TMPFILE == os.O_TMPFILE:
                    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
                return os.open(path, flags, *args, **options)

        monkeypatch.setattr(store_local, "os", Plain())
        return LocalStore(tmp_path)


class TestTheDoubleWithoutAFault(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FaultyStore:
        return FaultyStore(LocalStore(tmp_path))


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_files_and_directories_are_closed_to_others(store: LocalStore, tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        store.put_new("versions/ff/0.floe", b"x")
    finally:
        os.umask(umask)
    assert (tmp_path / "versions/ff/0.floe").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "versions/ff").stat().st_mode & 0o7777 == 0o750
    assert (tmp_path / "versions").stat().st_mode & 0o7777 == 0o750


def test_a_link_planted_as_a_blob_is_refused(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "store").mkdir()
    inner = LocalStore(tmp_path / "store")
    inner.put_new("honest", b"inside")
    assert inner.get("honest") == b"inside"
    (tmp_path / "store/link").symlink_to(tmp_path / "secret")
    for use in (inner.get, inner.open, inner.exists, lambda key: inner.put_new(key, b"outside")):
        with pytest.raises(IntegrityError):
            use("link")
    assert list(inner.list("")) == ["honest"]
    inner.put("link", b"replaces the link, not its target")
    assert (tmp_path / "secret").read_bytes() == b"outside"


def test_a_link_planted_as_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/0").write_bytes(b"outside")
    (tmp_path / "store").mkdir()
    store = LocalStore(tmp_path / "store")
    (tmp_path / "store/versions").symlink_to(tmp_path / "outside")
    for use in (
        store.get,
        store.open,
        store.exists,
        store.delete,
        lambda key: store.put_new(key, b""),
        lambda key: store.put(key, b""),
        lambda key: list(store.list(key)),
    ):
        with pytest.raises(IntegrityError, match="versions"):
            use("versions/0")
    assert names(tmp_path / "outside") == ["0"]


def test_a_fifo_does_not_make_a_reader_wait(store: LocalStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IntegrityError, match="not a regular file"):
        store.get("pipe")
    with pytest.raises(IntegrityError):
        store.exists("pipe")


def test_what_is_no_blob_is_not_listed(store: LocalStore, tmp_path: Path) -> None:
    store.put_new("a/b", b"")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "a/.tmp-1-1").write_bytes(b"half")
    (tmp_path / "README").write_bytes(b"")
    assert list(store.list("")) == ["a/b"]


def test_a_directory_that_does_not_exist_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        LocalStore(tmp_path / "not mounted")
    assert "mkdir" in caught.value.hint
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        LocalStore(tmp_path / "file")


def test_a_store_that_was_closed_is_unavailable(store: LocalStore) -> None:
    store.put_new("a", b"x")
    store.close()
    store.close()
    with pytest.raises(UnavailableError):
        store.get("a")


def test_a_store_renamed_under_a_running_broker_stays_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = LocalStore(tmp_path / "store")
    store.put_new("a/b", b"x")
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "store").mkdir()
    store.put_new("a/c", b"y")
    assert names(tmp_path / "moved") == ["a/b", "a/c"]
    assert names(tmp_path / "store") == []


def test_a_blob_that_shrinks_while_open_is_refused(store: LocalStore, tmp_path: Path) -> None:
    store.put_new("a", b"12345")
    blob = store.open("a")
    os.truncate(tmp_path / "a", 3)
    with pytest.raises(IntegrityError, match="a ends at byte 3"):
        blob.read_into(0, memoryview(bytearray(5)))
    blob.close()


def test_a_blob_closed_in_the_middle_of_a_read_is_not_mixed_up_with_the_next_file(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_new("a", b"a" * 4096)
    store.put_new("b", b"b" * 4096)
    blob = store.open("a")
    others = []

    class CloseFirst(FaultyOs):
        """Another thread closes the blob and opens a file, which gets the first free descriptor number."""

        def preadv(self, descriptor: int, buffers: list[memoryview], offset: int) -> int:
            blob.close()
            others.append(store.open("b"))
            return os.preadv(descriptor, buffers, offset)

    monkeypatch.setattr(local_files, "os", CloseFirst())
    buffer = bytearray(4096)
    blob.read_into(0, memoryview(buffer))
    assert buffer == b"a" * 4096
    with pytest.raises(ValueError):
        blob.read_into(0, memoryview(buffer))
    others[0].close()


def test_stale_temporary_files_are_swept_and_young_ones_left(store: LocalStore, tmp_path: Path) -> None:
    store.put_new("versions/ff/0.floe", b"x")
    for name, changed in ((".tmp-1-0", 1000), (".tmp-1-1", 2000), ("0.digests", 1000)):
        (tmp_path / "versions/ff" / name).write_bytes(b"half")
        os.utime(tmp_path / "versions/ff" / name, (changed, changed))
    assert store.sweep(now=DAY + 1500) == 1
    assert names(tmp_path) == ["versions/ff/.tmp-1-1", "versions/ff/0.digests", "versions/ff/0.floe"]
    assert store.sweep(now=2001, age=0) == 1
    assert store.sweep(now=DAY + 9000) == 0


def test_a_name_left_by_a_dead_process_with_our_number_is_passed_over(store: LocalStore, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f".tmp-{os.getpid()}-{number}").write_bytes(b"half")
    store.put("a", b"x")
    assert store.get("a") == b"x"
    assert len(names(tmp_path)) == 4


def test_a_blob_being_written_has_no_name_that_a_kill_could_leave(store: LocalStore, tmp_path: Path) -> None:
    with store.writer("a") as writer:
        writer.write(b"x")
        assert names(tmp_path) == []
    assert names(tmp_path) == ["a"]


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
    assert waited == [(0, 0), (200, 1200), (1400, 2400)], "the one before: the disk is never far behind"


# ---------------------------------------------------------------------------------------------------------------- URLs


def test_a_url_names_the_store(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    open_store(f"file://{tmp_path}/with%20space", Surroundings.real()).put_new("a", b"x")
    assert open_store(f"file:{tmp_path}/with space", Surroundings.real()).get("a") == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/store",
        "s4://bucket",
        "file:",
        "file:store",
        "file://host/srv/store",
        "file:///srv/store?x=1",
        "file:///srv/store#x",
        "file:///srv/%00",
        "file://[::1/srv",
    ],
)
def test_a_url_that_names_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url, Surroundings.real())
