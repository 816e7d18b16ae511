"""Small files: never overwritten by accident, never half written, every refusal one line."""

import errno
import os
import stat
from pathlib import Path

import pytest

from custody.adapters import small_files
from custody.errors import ConfigError, ConflictError, NotFoundError, UnavailableError
from tests.doubles.store import Fault, FaultyOs


def test_create_sets_the_mode_and_refuses_what_exists(tmp_path: Path) -> None:
    path = tmp_path / "key"
    small_files.create(path, b"secret", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConflictError, match="file exists"):
        small_files.create(path, b"other")
    assert path.read_bytes() == b"secret"


def test_create_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(ConflictError):
        small_files.create(tmp_path / "link", b"x")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    path = tmp_path / "seen.json"
    path.write_bytes(b"old")
    counting = FaultyOs()
    monkeypatch.setattr(small_files, "os", counting)
    small_files.replace(path, b"old")
    for at in range(len(counting.steps)):
        monkeypatch.setattr(small_files, "os", FaultyOs(at=at, fault=fault))
        with pytest.raises(UnavailableError):
            small_files.replace(path, b"new")
        assert path.read_bytes() in {b"old", b"new"}
        assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_that_others_may_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    small_files.create(path, b"secret", 0o600)
    assert small_files.read_private(path, 100) == b"secret"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may use this key file"):
        small_files.read_private(path, 100)


def test_what_is_not_a_small_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(101))
    with pytest.raises(ConfigError, match="larger than 100 bytes"):
        small_files.read(tmp_path / "large", 100)
    with pytest.raises(ConfigError, match="is a directory"):
        small_files.read(tmp_path, 100)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a regular file"):
        small_files.read(tmp_path / "pipe", 100)
    with pytest.raises(NotFoundError, match="no such file"):
        small_files.read(tmp_path / "none", 100)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, UnavailableError),
        (errno.EDQUOT, UnavailableError),
        (errno.EACCES, ConfigError),
        (errno.EROFS, ConfigError),
        (errno.ENOENT, NotFoundError),
        (errno.EEXIST, ConflictError),
        (errno.EPROTO, UnavailableError),
    ],
)
def test_every_refusal_of_the_system_has_a_meaning(number: int, kind: type[Exception]) -> None:
    error = small_files.explain(OSError(number, os.strerror(number), "the/path"))
    assert type(error) is kind
    assert error.message == f"the/path: {os.strerror(number).lower()}"
