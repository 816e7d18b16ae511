"""Whose key a command signs with."""

from pathlib import Path

import pytest

from custody.adapters.home import Home
from custody.app.client import person_identity
from custody.app.connect import find_key
from custody.crypto.sodium import random_into
from custody.custodian.keys import create_key
from custody.documents.actor import Person
from custody.errors import ConfigError, CustodyError
from tests.doubles.world import World


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "alice.key"
    create_key(path, "alice", "laptop", bytearray(b"correct horse battery"), random_into)
    return path


def _home(path: Path, *lines: str) -> Home:
    (path / "custody.toml").write_text("\n".join(['deployment = "custody.example.org/test"', *lines]) + "\n")
    return Home(path)


def test_without_a_key_file_there_is_nobody(tmp_path: Path) -> None:
    assert find_key(Home(tmp_path / "none"), None) is None
    assert find_key(_home(tmp_path), None) is None


def test_the_given_key_goes_before_the_homes(tmp_path: Path, key: Path) -> None:
    home = _home(tmp_path, 'key_file = "missing.key"')
    found = find_key(home, key)
    assert found is not None
    assert (found.person, found.path) == ("alice", key)
    assert found.device == found.file.key_id.hex()
    with pytest.raises(CustodyError, match=r"missing\.key"):
        find_key(home, None)


def test_the_key_of_somebody_else_is_refused(tmp_path: Path, key: Path) -> None:
    with pytest.raises(ConfigError, match=r"is the key of alice, but .* is that of bob"):
        find_key(_home(tmp_path, 'person = "bob"'), key)


def test_a_person_signs_with_the_unlocked_device(tmp_path: Path, key: Path) -> None:
    found = find_key(_home(tmp_path), key)
    assert found is not None
    device = World().devices["alice"]
    credential = person_identity(found, device).credential()
    assert credential.actor == Person(person="alice")
    assert credential.signer is device
