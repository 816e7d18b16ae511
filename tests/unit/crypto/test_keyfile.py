import json
from typing import Any

import pytest

from custody.crypto import hpke, keys
from custody.crypto.keyfile import KdfParams, KeyFile, UnlockedKey
from custody.crypto.secret import SecretBytes
from custody.errors import DeniedError, FormatError, IntegrityError


@pytest.fixture(scope="module")
def file() -> KeyFile:
    """Argon2id at its floor takes its time; one file serves the module."""
    drawn = iter(range(1, 100))

    def fill(out: memoryview) -> None:
        out[:] = bytes([next(drawn)]) * len(out)

    return KeyFile.generate(passphrase(), "laptop of alice", fill)


def passphrase(text: str = "open sesame") -> bytearray:
    return bytearray(text.encode())


def changed(file: KeyFile, **fields: Any) -> bytes:
    """Another file, canonical, with some fields replaced."""
    found = json.loads(file.encode())
    for name, value in fields.items():
        part, _, key = name.partition("__")
        if key:
            found[part][key] = value
        else:
            found[part] = value
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_the_right_passphrase_unlocks_keys_that_work(file: KeyFile) -> None:
    parsed = KeyFile.parse(file.encode())
    assert parsed == file
    with parsed.unlock(passphrase()) as key:
        keys.verify(file.ed25519, key.sign(b"terms"), b"terms")
        sealed = hpke.seal(file.xwing, b"info", b"y" * 32)
        with SecretBytes(32) as out:
            hpke.open_into(key.xwing_seed, b"info", sealed, out)
            assert bytes(out.view) == b"y" * 32
        assert key.key_id == file.key_id == keys.key_id(file.ed25519, file.xwing)
        seeds = key.ed25519_seed, key.xwing_seed
    assert all(seed.closed for seed in seeds)


def test_a_passphrase_may_be_a_secret(file: KeyFile) -> None:
    file.unlock(SecretBytes.take(passphrase())).close()


@pytest.mark.parametrize("text", ["Open sesame", "open sesame ", "o"])
def test_a_wrong_passphrase_is_denied(file: KeyFile, text: str) -> None:
    with pytest.raises(DeniedError, match="wrong passphrase or damaged key file"):
        file.unlock(passphrase(text))


def test_an_empty_passphrase_is_refused(file: KeyFile) -> None:
    for call in (lambda: file.unlock(bytearray()), lambda: KeyFile.generate(bytearray(), "", lambda _: None)):
        with pytest.raises(FormatError, match="empty"):
            call()


def test_a_new_passphrase_keeps_the_keys_and_ends_the_old_one(file: KeyFile) -> None:
    def fill(out: memoryview) -> None:
        out[:] = b"r" * len(out)

    with file.unlock(passphrase()) as key:
        renewed = KeyFile.lock(key, passphrase("new"), file.label, fill)
    assert renewed.key_id == file.key_id
    assert (renewed.salt, renewed.nonce) != (file.salt, file.nonce)
    renewed.unlock(passphrase("new")).close()
    with pytest.raises(DeniedError):
        renewed.unlock(passphrase())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_kib", "65535"),
        ("memory_kib", "8"),
        ("memory_kib", "1048577"),
        ("memory_kib", "4294967295"),
        ("memory_kib", "18446744073709551615"),
        ("passes", "2"),
        ("passes", "17"),
        ("passes", "4294967295"),
        ("lanes", "3"),
        ("lanes", "0"),
        ("lanes", "17"),
    ],
)
def test_argon2_parameters_lowered_or_made_huge_are_refused_before_any_work(
    file: KeyFile, field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("Argon2id ran")

    monkeypatch.setattr("custody.crypto.keyfile.Argon2id", work)
    with pytest.raises(FormatError, match=f"kdf.{field}"):
        KeyFile.parse(changed(file, **{f"kdf__{field}": value}))


def test_parameters_within_the_bounds_are_bound_to_the_passphrase(file: KeyFile) -> None:
    altered = KeyFile.parse(changed(file, kdf__passes="4"))
    with pytest.raises(DeniedError):
        altered.unlock(passphrase())


@pytest.mark.parametrize("field", ["ed25519", "xwing", "label", "salt", "nonce", "commitment", "ciphertext"])
def test_any_altered_field_is_denied(file: KeyFile, field: str) -> None:
    current = json.loads(file.encode())[field]
    first = "B" if current[0] != "B" else "C"
    if field == "commitment":
        first = "0" if current[0] != "0" else "1"
    altered = KeyFile.parse(changed(file, **{field: first + current[1:]}))
    with pytest.raises(DeniedError, match="wrong passphrase or damaged key file"):
        altered.unlock(passphrase())


def test_the_commitment_alone_refuses_a_ciphertext_made_for_two_passphrases(file: KeyFile) -> None:
    """The commitment is compared before the ciphertext is touched: swapping it fails although GCM would pass."""
    altered = KeyFile.parse(changed(file, commitment="00" * 32))
    with pytest.raises(DeniedError):
        altered.unlock(passphrase())


def test_public_keys_that_are_not_those_of_the_seeds_are_refused() -> None:
    """A generator that is broken or lies, with a correct passphrase."""

    class Liar(UnlockedKey):
        def __init__(self) -> None:
            super().__init__(SecretBytes.take(bytearray(b"a" * 32)), SecretBytes.take(bytearray(b"b" * 32)))
            other = SecretBytes.take(bytearray(b"c" * 32))
            object.__setattr__(self, "ed25519_public", keys.public_from_seed(other))

    def fill(out: memoryview) -> None:
        out[:] = b"r" * len(out)

    with Liar() as key:
        file = KeyFile.lock(key, passphrase(), "", fill)
    with pytest.raises(IntegrityError, match="public keys"):
        file.unlock(passphrase())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"format": "custody/v2/keyfile"}, "format"),
        ({"kdf__name": "argon2i"}, "kdf.name"),
        ({"kdf__passes": 3}, "passes"),
        ({"kdf__passes": "03"}, "kdf.passes"),
        ({"kdf__passes": "+3"}, "kdf.passes"),
        ({"kdf__passes": "\u0663"}, "kdf.passes"),
        ({"kdf__passes": ""}, "kdf.passes"),
        ({"kdf__passes": "3" * 5000}, "kdf.passes"),
        ({"kdf__extra": "1"}, "extra"),
        ({"extra": "1"}, "extra"),
        ({"label": "x" * 65}, "label"),
        ({"label": "\x1b[2J"}, "label"),
        ({"label": "caf\u00e9"}, "label"),
        ({"label": "a\u202eb"}, "label"),
        ({"label": None}, "label"),
        ({"salt": "AAAA"}, "salt"),
        ({"nonce": ""}, "nonce"),
        ({"ed25519": "A" * 44}, "ed25519"),
        ({"commitment": "0" * 63}, "commitment"),
        ({"commitment": "A" * 64}, "commitment"),
        ({"ciphertext": "QUJD"}, "ciphertext"),
    ],
)
def test_a_field_that_is_not_what_it_must_be_is_refused_by_name(
    file: KeyFile, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(FormatError, match=named):
        KeyFile.parse(changed(file, **fields))


def test_another_spelling_of_the_same_file_is_refused(file: KeyFile) -> None:
    data = file.encode()
    spellings = [
        data[:-1],
        data + b"\n",
        b" " + data,
        data.replace(b'","', b'", "', 1),
        data.replace(b"laptop", b"\\u006captop"),
        data[:1] + b'"label":"other",' + data[1:],
        data.replace(b'"nonce"', b'"nonce":"","nonce"', 1),
        json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":")).encode() + b"\n",
    ]
    assert len(set(spellings)) == len(spellings)
    for spelling in spellings:
        with pytest.raises(FormatError):
            KeyFile.parse(spelling)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b"[" * 8000, b"{" * 8000, b"\xff" * 90, b'{"a":' * 1500, b"x" * 8193, b"1e999"]
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="key file"):
        KeyFile.parse(data)


def test_truncation_is_refused(file: KeyFile) -> None:
    data = file.encode()
    for length in range(0, len(data), 7):
        with pytest.raises(FormatError):
            KeyFile.parse(data[:length])


def test_no_secret_shows_in_repr(file: KeyFile) -> None:
    with file.unlock(passphrase()) as key:
        text = repr(key)
    assert text == f"<UnlockedKey {file.key_id.hex()}>"


def test_the_default_is_the_second_option_of_rfc_9106() -> None:
    assert KdfParams() == KdfParams(memory_kib=64 * 1024, passes=3, lanes=4)
