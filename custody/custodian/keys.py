"""The key file of a person's device on disk, and the device as a signer of documents.

What a key file is stands in ``custody.crypto.keyfile``. Its label is ``person/device``, so that a file says whose it
is before anybody types a passphrase. An exported key is one object of canonical JSON::

    {"device", "ed25519": base64, "format": "custody/v1/device", "key_id": hex, "person", "xwing": base64}

It is a claim, nothing more: what makes it a custodian's key is a trust root that names it, signed with it.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from custody.adapters import small_files
from custody.crypto import hpke, keys
from custody.crypto.keyfile import MAX_FILE_SIZE, KeyFile, Passphrase, UnlockedKey
from custody.crypto.secret import RandomInto, SecretBytes
from custody.documents.codec import Record, decode, encode
from custody.documents.root import Device
from custody.errors import ConflictError, FormatError, IntegrityError
from custody.values import Digest, Ed25519Key, Name, PersonId, XWingKey

__all__ = ["DeviceSigner", "ExportedKey", "check_new", "create_key", "export_key", "load_key", "owner_of"]

_MAX_EXPORT: Final = 8192
_MAX_LABEL: Final = 64


class ExportedKey(Record, frozen=True, kw_only=True):
    """The public half of a key file, for the trust root."""

    device: Name
    ed25519: Ed25519Key
    format: Literal["custody/v1/device"] = "custody/v1/device"
    key_id: Digest
    person: PersonId
    xwing: XWingKey

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Parse an exported key, with or without a line feed at its end, and check the keys in it.

        ``what`` names it in messages. Raises ``FormatError``; ``IntegrityError`` where the key id is not that of the
        keys.
        """
        if len(data) > _MAX_EXPORT:
            raise FormatError(f"{what}: larger than an exported key")
        exported = decode(data.removesuffix(b"\n"), cls, what)
        keys.check_public(exported.ed25519)
        hpke.check_public(exported.xwing)
        if keys.key_id(exported.ed25519, exported.xwing).hex() != exported.key_id:
            raise IntegrityError(f"{what}: key_id is not the id of the keys in it")
        return exported

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode(self)

    def as_device(self) -> Device:
        """Return the device as a trust root names it."""
        return Device(name=self.device, ed25519=self.ed25519, xwing=self.xwing)


class DeviceSigner:
    """A device whose key is unlocked: a ``Signer`` of documents. Close it as soon as possible."""

    def __init__(self, key: UnlockedKey) -> None:
        """Take over the key."""
        self._key: Final = key

    @property
    def key_id(self) -> str:
        """The device's key id, hex."""
        return self._key.key_id.hex()

    @property
    def xwing_seed(self) -> SecretBytes:
        """The seed that opens shares wrapped to this device."""
        return self._key.xwing_seed

    def sign(self, message: bytes) -> bytes:
        """Sign with the device's Ed25519 key: 64 bytes."""
        return self._key.sign(message)

    def close(self) -> None:
        """Wipe the seeds."""
        self._key.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the seeds."""
        self.close()


def create_key(path: Path, person: str, device: str, passphrase: Passphrase, random_into: RandomInto) -> KeyFile:
    """Make a key file of mode 0600 that did not exist. ``ConflictError`` where it does, before any work."""
    label = f"{person}/{device}"
    if len(label) > _MAX_LABEL:
        raise FormatError(f"{label}: person and device together have more than {_MAX_LABEL - 1} characters")
    check_new(path)
    key_file = KeyFile.generate(passphrase, label, random_into)
    small_files.create(path, key_file.encode(), 0o600)
    return key_file


def check_new(path: Path) -> None:
    """Raise ``ConflictError`` where something stands at ``path``: before a passphrase is asked for."""
    if os.path.lexists(path):
        raise ConflictError(f"{path}: exists already", hint="a key file is never overwritten: choose another name")


def load_key(path: Path) -> KeyFile:
    """Read a key file, locked. ``ConfigError`` where others may use it, ``FormatError`` where it is none."""
    try:
        return KeyFile.parse(small_files.read_private(path, MAX_FILE_SIZE))
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", hint=error.hint) from error


def owner_of(key_file: KeyFile) -> tuple[str, str]:
    """Return person and device as the label says. It is a claim until the file is unlocked."""
    person, slash, device = key_file.label.partition("/")
    if not slash:
        raise FormatError(f"key file: label {key_file.label!a} is not person/device")
    return person, device


def export_key(key_file: KeyFile) -> ExportedKey:
    """Return the public half of a key file. Raises ``FormatError`` for a label that names nobody."""
    person, device = owner_of(key_file)
    exported = ExportedKey(
        device=device,
        ed25519=key_file.ed25519,
        key_id=key_file.key_id.hex(),
        person=person,
        xwing=key_file.xwing,
    )
    return ExportedKey.parse(exported.encode(), "key file")
