import os
from pathlib import Path

import pytest

from custody.crypto import keys
from custody.crypto.secret import RandomInto
from custody.crypto.serverkey import ServerKey
from custody.errors import ConfigError


def test_a_created_key_loads_and_signs(tmp_path: Path, random_into: RandomInto) -> None:
    path = tmp_path / "broker.key"
    with ServerKey.create(path, random_into) as made, ServerKey.load(path) as loaded:
        assert loaded.public == made.public
        assert loaded.key_id == keys.key_id(loaded.public)
        keys.verify(made.public, loaded.sign(b"hello"), b"hello")
        assert repr(loaded) == f"<ServerKey {loaded.key_id.hex()}>"
    with pytest.raises(ValueError, match="wiped"):
        loaded.sign(b"hello")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o777])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, random_into: RandomInto, mode: int) -> None:
    path = tmp_path / "broker.key"
    ServerKey.create(path, random_into).close()
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}"):
        ServerKey.load(path)


def test_a_read_only_key_and_a_link_to_it_load(tmp_path: Path, random_into: RandomInto) -> None:
    path = tmp_path / "..data"
    ServerKey.create(path, random_into).close()
    path.chmod(0o400)
    (tmp_path / "broker.key").symlink_to(path)
    ServerKey.load(tmp_path / "broker.key").close()


@pytest.mark.parametrize("size", [0, 31, 33, 64, 5000])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "broker.key"
    path.touch(0o600)
    path.write_bytes(bytes(size))
    with pytest.raises(ConfigError, match="32 bytes"):
        ServerKey.load(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError, match=str(path)):
            ServerKey.load(path)


def test_an_existing_key_is_never_overwritten(tmp_path: Path, random_into: RandomInto) -> None:
    path = tmp_path / "broker.key"
    with ServerKey.create(path, random_into) as made:
        with pytest.raises(ConfigError, match="exists"):
            ServerKey.create(path, random_into)
        with ServerKey.load(path) as loaded:
            assert loaded.public == made.public
