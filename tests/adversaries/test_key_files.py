"""Key files that somebody has altered: refused before any work, and never a key that is not the person's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custody.crypto.keyfile import KeyFile
from custody.crypto.sodium import random_into
from custody.custodian.keys import create_key, load_key
from custody.errors import ConfigError, CustodyError, DeniedError, FormatError

PASSPHRASE = "correct horse battery staple"


def passphrase(text: str = PASSPHRASE) -> bytearray:
    return bytearray(text.encode())


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("key") / "alice.key"
    create_key(path, "alice", "laptop", passphrase(), random_into)
    with load_key(path).unlock(passphrase()) as key:
        assert key.key_id == load_key(path).key_id
    return path.read_bytes()


def changed(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Edit the JSON and write it as it must be written."""
    fields = json.loads(data)
    change(fields)
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def kdf(**changes: str) -> Callable[[dict[str, Any]], object]:
    return lambda fields: fields["kdf"].update(changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (kdf(memory_kib="8"), "kdf.memory_kib is 8, not within"),  # a guesser's work made cheap
        (kdf(memory_kib="65535"), "kdf.memory_kib is 65535, not within"),
        (kdf(memory_kib="4294967295"), "kdf.memory_kib is 4294967295, not within"),  # the owner's made endless
        (kdf(memory_kib="99999999999999999999999999"), "kdf.memory_kib is not a decimal number"),
        (kdf(passes="1"), "kdf.passes is 1, not within"),
        (kdf(passes="4000000000"), "kdf.passes is 4000000000, not within"),
        (kdf(lanes="1"), "kdf.lanes is 1, not within"),
        (kdf(lanes="65536"), "kdf.lanes is 65536, not within"),
        (kdf(lanes="04"), "kdf.lanes is not a decimal number"),
        (kdf(lanes="\u0664"), "kdf.lanes is not a decimal number"),
        (kdf(name="argon2i"), "format or kdf.name is unknown"),
        (kdf(name="scrypt"), "format or kdf.name is unknown"),
        (lambda fields: fields.update(format="custody/v0/keyfile"), "format or kdf.name is unknown"),
        (lambda fields: fields.update(extra="1"), "unknown field"),
        (lambda fields: fields.pop("commitment"), "missing required field"),
        (lambda fields: fields.update(nonce=fields["nonce"] + "A"), "nonce"),
        (lambda fields: fields.update(label="alice\x1b[2J"), "label"),
        (lambda fields: fields.update(label="x" * 10_000), "more than 8192 bytes"),
    ],
)
def test_parameters_lowered_or_made_huge(honest: bytes, change: Callable[[dict[str, Any]], object], match: str) -> None:
    """Refused while it is read: Argon2 is never started with them."""
    with pytest.raises(FormatError, match=match):
        KeyFile.parse(changed(honest, change))


@pytest.mark.parametrize("field", ["ed25519", "xwing", "salt", "nonce", "commitment", "ciphertext", "label", "passes"])
def test_any_other_field_is_bound_to_the_passphrase(honest: bytes, field: str) -> None:
    other = KeyFile.generate(passphrase(), "mallory/laptop", random_into)
    foreign = json.loads(other.encode())

    def exchange(fields: dict[str, Any]) -> None:
        if field == "passes":
            fields["kdf"]["passes"] = "4"  # within bounds, and not what was used
        else:
            fields[field] = foreign[field]

    with pytest.raises(DeniedError, match="wrong passphrase or damaged key file"):
        KeyFile.parse(changed(honest, exchange)).unlock(passphrase())


def test_a_wrong_passphrase_says_nothing_more_than_a_damaged_file(honest: bytes) -> None:
    for wrong in ("", "Correct horse battery staple", PASSPHRASE + "\n", PASSPHRASE + "\0"):
        with pytest.raises(CustodyError, match=r"wrong passphrase or damaged|is empty"):
            KeyFile.parse(honest).unlock(passphrase(wrong))


def test_a_key_file_that_others_may_read_or_that_is_a_link(honest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    path.write_bytes(honest)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others"):
        load_key(path)
    path.chmod(0o600)
    assert load_key(path).label == "alice/laptop"
    for spoiled in (
        honest[:-1],
        honest + b" ",
        b"\xef\xbb\xbf" + honest,
        honest.replace(b",", b", ", 1),
        b"",
        b"x" * 10_000,
    ):
        path.write_bytes(spoiled)
        with pytest.raises(CustodyError):
            load_key(path)
