"""The key file of a custodian: an Ed25519 seed and an X-Wing seed behind a passphrase (design section 4).

The file is one object of canonical JSON (RFC 8785) and a line feed; binary values in base64, the digest in hex,
numbers as decimal strings::

    {"ciphertext": 80 bytes, "commitment": 32 bytes, "ed25519": public key, "format": "custody/v1/keyfile",
     "kdf": {"lanes", "memory_kib", "name": "argon2id", "passes"}, "label": text, "nonce": 12 bytes,
     "salt": 16 bytes, "xwing": public key}

    public     = canonical JSON of the same object without "ciphertext" and "commitment"
    secret     = Argon2id(passphrase, salt, memory, passes, lanes; 32 bytes)
    key (32) || commitment (32) = HKDF-SHA512(ikm = secret, salt = "", length = 64,
                                              info = lp("custody/v1/keyfile") || SHA-256(public))
    ciphertext = AES-256-GCM(key, nonce, Ed25519 seed || X-Wing seed, AAD = lp("custody/v1/keyfile") || lp(public))

Everything readable is so bound to the passphrase, the KDF parameters included; they are checked against a floor and a
ceiling before any work, since whoever writes the file could else make unlocking cheap for a guesser or endless for
its owner. The commitment is checked first: without it one file could open under two passphrases (partitioning
oracles). Public keys and label can be exported without the passphrase, and are then no more than a claim.
"""

import hashlib
import hmac
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from custody.crypto import hpke, keys
from custody.crypto.encoding import b64decode_strict, b64encode, hexdigest_strict, lp
from custody.crypto.hkdf import hkdf_into
from custody.crypto.secret import RandomInto, SecretBytes
from custody.errors import DeniedError, FormatError, IntegrityError

__all__ = ["MAX_FILE_SIZE", "KdfParams", "KeyFile", "Passphrase", "UnlockedKey"]

MAX_FILE_SIZE: Final = 8192
"""A key file has about 2,100 bytes; more than this is not read."""

Passphrase = SecretBytes | bytearray | memoryview
"""A passphrase, UTF-8 as typed. Never ``str`` or ``bytes``: the caller wipes it."""

_FORMAT: Final = "custody/v1/keyfile"
_LABEL: Final = lp(_FORMAT.encode())
_SALT_SIZE: Final = 16
_NONCE_SIZE: Final = 12
_COMMITMENT_SIZE: Final = 32
_KEY_SIZE: Final = 32
_SEEDS_SIZE: Final = keys.SEED_SIZE + hpke.SEED_SIZE
_CIPHERTEXT_SIZE: Final = _SEEDS_SIZE + 16
_MAX_LABEL: Final = 64
_WRONG: Final = "wrong passphrase or damaged key file"


@dataclass(frozen=True, slots=True)
class KdfParams:
    """Argon2id parameters. The default is the floor: RFC 9106 section 4, second recommended option.

    ``FormatError`` outside floor and ceiling: memory 64 MiB to 1 GiB, passes 3 to 16, lanes 4 to 16.
    """

    memory_kib: int = 65536  # 64 MiB
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        for name, value, floor, ceiling in (
            ("memory_kib", self.memory_kib, 65536, 1 << 20),
            ("passes", self.passes, 3, 16),
            ("lanes", self.lanes, 4, 16),
        ):
            if not floor <= value <= ceiling:
                raise FormatError(f"key file: kdf.{name} is {value}, not within {floor} and {ceiling}")


class _Kdf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    lanes: str
    memory_kib: str
    name: str
    passes: str


class _Public(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    ed25519: str
    format: str
    kdf: _Kdf
    label: str
    nonce: str
    salt: str
    xwing: str


class _File(_Public, frozen=True, forbid_unknown_fields=True, kw_only=True):
    ciphertext: str
    commitment: str


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file, locked. The public keys are what the file claims; ``unlock`` proves them."""

    ed25519: bytes
    xwing: bytes
    label: str
    params: KdfParams
    salt: bytes
    nonce: bytes
    commitment: bytes
    ciphertext: bytes

    @classmethod
    def generate(
        cls, passphrase: Passphrase, label: str, random_into: RandomInto, params: KdfParams | None = None
    ) -> "KeyFile":
        """Make fresh keys and lock them. Draws the Ed25519 seed, the X-Wing seed, the salt and the nonce.

        ``label`` is for the owner: up to 64 printable ASCII characters, may be empty. ``FormatError`` otherwise, and
        for an empty passphrase.
        """
        with (
            SecretBytes.random(keys.SEED_SIZE, random_into) as ed25519,
            SecretBytes.random(hpke.SEED_SIZE, random_into) as xwing,
            UnlockedKey(ed25519, xwing) as key,
        ):
            return cls.lock(key, passphrase, label, random_into, params)

    @classmethod
    def lock(
        cls,
        key: "UnlockedKey",
        passphrase: Passphrase,
        label: str,
        random_into: RandomInto,
        params: KdfParams | None = None,
    ) -> "KeyFile":
        """Lock existing keys, for a change of passphrase. Draws salt and nonce."""
        _check_label(label)
        salt, nonce = bytearray(_SALT_SIZE), bytearray(_NONCE_SIZE)
        random_into(memoryview(salt))
        random_into(memoryview(nonce))
        draft = cls(
            key.ed25519_public, key.xwing_public, label, params or KdfParams(), bytes(salt), bytes(nonce), b"", b""
        )
        ciphertext = bytearray(_CIPHERTEXT_SIZE)
        with draft._derive(passphrase) as derived, SecretBytes(_SEEDS_SIZE) as seeds:
            seeds.view[: keys.SEED_SIZE] = key.ed25519_seed.view
            seeds.view[keys.SEED_SIZE :] = key.xwing_seed.view
            commitment = bytes(derived.view[_KEY_SIZE:])
            AESGCM(derived.view[:_KEY_SIZE]).encrypt_into(draft.nonce, seeds.view, draft._aad(), memoryview(ciphertext))
        return cls(
            draft.ed25519, draft.xwing, label, draft.params, draft.salt, draft.nonce, commitment, bytes(ciphertext)
        )

    @classmethod
    def parse(cls, data: bytes) -> "KeyFile":
        """Read a key file. ``FormatError`` naming the field for anything but the canonical form."""
        if len(data) > MAX_FILE_SIZE:
            raise FormatError(f"key file: more than {MAX_FILE_SIZE} bytes")
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"key file: {error}") from error
        if file.format != _FORMAT or file.kdf.name != "argon2id":
            raise FormatError("key file: format or kdf.name is unknown")
        _check_label(file.label)
        result = cls(
            _sized(file.ed25519, "ed25519", keys.PUBLIC_SIZE),
            _sized(file.xwing, "xwing", hpke.PUBLIC_KEY_SIZE),
            file.label,
            KdfParams(
                _decimal(file.kdf.memory_kib, "kdf.memory_kib"),
                _decimal(file.kdf.passes, "kdf.passes"),
                _decimal(file.kdf.lanes, "kdf.lanes"),
            ),
            _sized(file.salt, "salt", _SALT_SIZE),
            _sized(file.nonce, "nonce", _NONCE_SIZE),
            hexdigest_strict(file.commitment, "key file: commitment"),
            _sized(file.ciphertext, "ciphertext", _CIPHERTEXT_SIZE),
        )
        if result.encode() != data:  # white space, order, escapes, a key given twice
            raise FormatError("key file: not canonical JSON")
        return result

    def encode(self) -> bytes:
        """Write the file's bytes. The caller stores them with mode 0600."""
        public = msgspec.structs.asdict(self._public())
        file = _File(ciphertext=b64encode(self.ciphertext), commitment=self.commitment.hex(), **public)
        return msgspec.json.encode(file, order="sorted") + b"\n"

    @property
    def key_id(self) -> bytes:
        """Id of the device whose public keys the file names, 32 bytes."""
        return keys.key_id(self.ed25519, self.xwing)

    def unlock(self, passphrase: Passphrase) -> "UnlockedKey":
        """Decrypt the seeds. ``DeniedError`` for a wrong passphrase or an altered file; they cannot be told apart."""
        with self._derive(passphrase) as derived, SecretBytes(_SEEDS_SIZE) as seeds:
            if not hmac.compare_digest(derived.view[_KEY_SIZE:], self.commitment):
                raise DeniedError(_WRONG)
            try:
                AESGCM(derived.view[:_KEY_SIZE]).decrypt_into(self.nonce, self.ciphertext, self._aad(), seeds.view)
            except InvalidTag as error:
                raise DeniedError(_WRONG) from error
            key = UnlockedKey(
                SecretBytes.take(seeds.view[: keys.SEED_SIZE]), SecretBytes.take(seeds.view[keys.SEED_SIZE :])
            )
        if (key.ed25519_public, key.xwing_public) != (self.ed25519, self.xwing):
            key.close()
            raise IntegrityError("key file: the public keys are not those of the seeds")
        return key

    def _derive(self, passphrase: Passphrase) -> SecretBytes:
        """Derive encryption key and commitment, 64 bytes."""
        if len(passphrase) == 0:
            raise FormatError("the passphrase is empty")
        content = passphrase.view if isinstance(passphrase, SecretBytes) else memoryview(passphrase)
        derived = SecretBytes(_KEY_SIZE + _COMMITMENT_SIZE)
        with SecretBytes(_KEY_SIZE) as stretched:
            Argon2id(
                salt=self.salt,
                length=_KEY_SIZE,
                iterations=self.params.passes,
                lanes=self.params.lanes,
                memory_cost=self.params.memory_kib,
            ).derive_into(content, stretched.view)  # type: ignore[arg-type]  # the stub says bytes; any buffer is taken
            info = _LABEL + hashlib.sha256(self._public_bytes()).digest()
            hkdf_into(SHA512(), stretched.view, b"", info, derived.view)
        return derived

    def _aad(self) -> bytes:
        return _LABEL + lp(self._public_bytes())

    def _public_bytes(self) -> bytes:
        return msgspec.json.encode(self._public(), order="sorted")

    def _public(self) -> _Public:
        return _Public(
            ed25519=b64encode(self.ed25519),
            format=_FORMAT,
            kdf=_Kdf(
                lanes=str(self.params.lanes),
                memory_kib=str(self.params.memory_kib),
                name="argon2id",
                passes=str(self.params.passes),
            ),
            label=self.label,
            nonce=b64encode(self.nonce),
            salt=b64encode(self.salt),
            xwing=b64encode(self.xwing),
        )


class UnlockedKey:
    """The keys of a custodian's device, usable. Close it, or leave the ``with`` block, as soon as possible.

    Takes over the two seeds of 32 bytes and wipes them on close.
    """

    def __init__(self, ed25519_seed: SecretBytes, xwing_seed: SecretBytes) -> None:
        self.ed25519_seed: Final = ed25519_seed
        self.xwing_seed: Final = xwing_seed
        self.ed25519_public: Final = keys.public_from_seed(ed25519_seed)
        self.xwing_public: Final = hpke.public_key(xwing_seed)
        self.key_id: Final = keys.key_id(self.ed25519_public, self.xwing_public)

    def sign(self, message: bytes) -> bytes:
        """Sign with the device's Ed25519 key: 64 bytes."""
        return keys.sign(self.ed25519_seed, message)

    def close(self) -> None:
        """Wipe both seeds."""
        self.ed25519_seed.close()
        self.xwing_seed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<UnlockedKey {self.key_id.hex()}>"


def _check_label(label: str) -> None:
    if len(label) > _MAX_LABEL or not (label.isascii() and label.isprintable()):
        raise FormatError(f"key file: label is not up to {_MAX_LABEL} printable ASCII characters")


def _sized(text: str, what: str, size: int) -> bytes:
    data = b64decode_strict(text, f"key file: {what}")
    if len(data) != size:
        raise FormatError(f"key file: {what} has {len(data)} bytes instead of {size}")
    return data


def _decimal(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and str(int(text)) == text):  # noqa: PLR2004 - u64
        raise FormatError(f"key file: {what} is not a decimal number")
    return int(text)
