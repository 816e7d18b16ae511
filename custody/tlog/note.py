r"""Signed notes and the keys that sign them (signed-note).

::

    note  = text ending in "\n" || "\n" || one or more signature lines
    line  = "— " || name || " " || base64(4-byte key id || signature) || "\n"          (the dash is U+2014)
    id    = SHA-256(name || 0x0A || type || public key)[:4]
    vkey  = name "+" hex8(id) "+" base64(type || public key)
    skey  = "PRIVATE+KEY+" name "+" hex8(id) "+" base64(type || Ed25519 seed)
    type  = 0x01 Ed25519 over the text, 0x04 timestamped cosignature; 0x06 (ML-DSA-44) is not verified here

The text ends at the *last* empty line, so it may hold empty lines itself. A signature by an unknown (name, id) is
ignored; a bad one by a known key rejects the whole note. Opening succeeds on any single known key: which keys are
*enough* is decided in ``custody.tlog.policy``.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from custody.crypto.encoding import b64decode_strict, b64encode
from custody.crypto.sodium import is_valid_point
from custody.errors import ConfigError, CustodyError, FormatError, IntegrityError
from custody.tlog.cosignature import cosign, verify_cosignature
from custody.tlog.lines import key_name, utf8_text

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "MAX_NOTE_SIZE",
    "MAX_SIGNATURES",
    "ML_DSA_44",
    "Note",
    "NoteSigner",
    "OpenedNote",
    "SignatureLine",
    "VKey",
    "Verified",
    "open_note",
]

ED25519 = 0x01
COSIGNATURE = 0x04
ML_DSA_44 = 0x06
MAX_SIGNATURES = 64  # the spec asks for at least 16
MAX_NOTE_SIZE = 1 << 20  # bytes; 64 ML-DSA-44 lines are about 220 KB

_DASH = "— ".encode()
_ID_SIZE = 4
_KEY_SIZE = 32
_HEX_ID = re.compile(r"[0-9a-f]{8}")
_SKEY_PREFIX = "PRIVATE+KEY+"


@lru_cache(maxsize=1024)  # the same few keys are looked for in every note
def _key_id(name: str, material: bytes) -> bytes:
    """Hash name and typed key to the id that signature lines carry."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + material).digest()[:_ID_SIZE]


@dataclass(frozen=True, slots=True)
class VKey:
    """A verifier key: ``name``, signature ``type`` (0x01 or 0x04) and the 32-byte Ed25519 public ``key``.

    Raises ``FormatError`` for a name that notes cannot carry, another type, or a key of small or mixed order.
    """

    name: str
    type: int
    key: bytes

    def __post_init__(self) -> None:
        """Refuse what could never verify a note, or would verify too much."""
        key_name(self.name, "vkey")
        if self.type == ML_DSA_44:
            raise FormatError(
                f"vkey {self.name}: type 0x06 (ML-DSA-44 cosignatures) is not supported; give its Ed25519 vkey"
            )
        if self.type not in (ED25519, COSIGNATURE):
            raise FormatError(f"vkey {self.name}: type 0x{self.type:02x} is not supported")
        if len(self.key) != _KEY_SIZE:
            raise FormatError(f"vkey {self.name}: the public key is not {_KEY_SIZE} bytes")
        if not is_valid_point(self.key):  # under a key of small order one signature verifies for many texts
            raise FormatError(f"vkey {self.name}: the public key is no point of the prime group")

    @property
    def key_id(self) -> bytes:
        """The four bytes that, together with the name, say in a note which key signed."""
        return _key_id(self.name, bytes([self.type]) + self.key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``name+hex8+base64``; ``FormatError`` where it is not that, or the id is not the one of the key."""
        parts = text.split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004 - name, id, key
            raise FormatError("vkey: not of the form name+id+key")
        name, hex_id, encoded = parts
        material = b64decode_strict(encoded, "vkey: key")
        if not material:
            raise FormatError("vkey: empty key")
        key_name(name, "vkey")
        if not _HEX_ID.fullmatch(hex_id) or bytes.fromhex(hex_id) != _key_id(name, material):
            raise FormatError(f"vkey {name}: the id is not that of the key")
        return cls(name, material[0], material[1:])

    def encode(self) -> str:
        """Return ``name+hex8+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.type]) + self.key)}"

    def verify(self, text: bytes, signature: bytes) -> int | None:
        """Verify one signature over a note text; return the time of a cosignature (POSIX seconds), else ``None``.

        Raises ``IntegrityError`` (or ``FormatError`` for a cosignature of impossible shape).
        """
        if self.type == COSIGNATURE:
            return verify_cosignature(self.key, text, signature)
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text)
        except InvalidSignature as error:
            raise IntegrityError(f"note: the signature of {self.name} does not verify") from error
        return None


class SignatureLine(NamedTuple):
    """One signature line: the key's ``name`` and 4-byte ``key_id``, and the signature bytes."""

    name: str
    key_id: bytes
    signature: bytes

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a line without its newline; ``FormatError`` for any deviation."""
        if not line.startswith(_DASH):
            raise FormatError("note: a signature line does not start with an em dash and a space")
        raw_name, _, encoded = line[len(_DASH) :].partition(b" ")
        name = key_name(utf8_text(raw_name, "note: key name"), "note: key name")
        blob = b64decode_strict(encoded, "note: signature")
        if len(blob) <= _ID_SIZE:
            raise FormatError("note: a signature is too short")
        return cls(name, blob[:_ID_SIZE], blob[_ID_SIZE:])

    def encode(self) -> bytes:
        """Return the line with its newline."""
        return _DASH + f"{self.name} {b64encode(self.key_id + self.signature)}\n".encode()


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note whose signatures nobody has verified: ``text`` must not be used before they are."""

    text: bytes
    signatures: tuple[SignatureLine, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a note; ``FormatError`` for bytes that are not one, or more than it may hold."""
        if len(data) > MAX_NOTE_SIZE:
            raise FormatError(f"note: longer than {MAX_NOTE_SIZE} bytes")
        utf8_text(data, "note")
        split = data.rfind(b"\n\n")
        if split < 0 or not data.endswith(b"\n") or split + 2 == len(data):
            raise FormatError("note: no text, empty line and signatures")
        lines = data[split + 2 : -1].split(b"\n")
        if len(lines) > MAX_SIGNATURES:
            raise FormatError(f"note: more than {MAX_SIGNATURES} signatures")
        return cls(data[: split + 1], tuple(SignatureLine.parse(line) for line in lines))

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        return self.text + b"\n" + b"".join(line.encode() for line in self.signatures)


class Verified(NamedTuple):
    """A known key whose signature verified, and the time (POSIX seconds) that a cosignature states."""

    vkey: VKey
    time: int | None


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note with at least one verified signature; ``verified`` names each key once, in the order of the lines."""

    text: bytes
    verified: tuple[Verified, ...]


def open_note(data: bytes, verifiers: Iterable[VKey]) -> OpenedNote:
    """Parse a note and verify every signature by a known key.

    Several lines by one key count once, with the earliest time that it stated: that order of lines must not matter.
    Raises ``FormatError`` for a malformed note, ``IntegrityError`` where a known key's signature does not verify or
    no known key signed, ``ConfigError`` where two verifiers cannot be told apart.
    """
    known: dict[tuple[str, bytes], VKey] = {}
    for vkey in verifiers:
        if known.setdefault((vkey.name, vkey.key_id), vkey) != vkey:
            raise ConfigError(f"two different keys share the name {vkey.name} and one id")
    note = Note.parse(data)
    found: dict[VKey, int | None] = {}
    for line in note.signatures:
        signer = known.get((line.name, line.key_id))
        if signer is None:
            continue
        try:
            time = signer.verify(note.text, line.signature)
        except CustodyError as error:
            raise IntegrityError(f"note: the signature of {signer.name} does not verify") from error
        earlier = found.get(signer)
        found[signer] = time if earlier is None or time is None else min(earlier, time)
    if not found:
        raise IntegrityError("note: not signed by any known key")
    return OpenedNote(note.text, tuple(Verified(vkey, time) for vkey, time in found.items()))


class NoteSigner:
    """A signing key of a log (type 0x01) or of a cosigner (type 0x04). Refuses repr of its secret, copy and pickle."""

    __slots__ = ("_key", "vkey")

    def __init__(self, name: str, signature_type: int, seed: bytes) -> None:
        """Take the 32-byte Ed25519 ``seed``; ``FormatError`` as for ``VKey`` or for a seed of another length."""
        if len(seed) != _KEY_SIZE:
            raise FormatError("note signer: the seed is not 32 bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.vkey = VKey(name, signature_type, self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str, signature_type: int, rng: Callable[[int], bytes]) -> Self:
        """Make a new key from 32 bytes of ``rng``."""
        return cls(name, signature_type, rng(_KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PRIVATE+KEY+name+hex8+base64`` (without newline); ``FormatError`` where it is not that."""
        parts = text.removeprefix(_SKEY_PREFIX).split("+", 2)
        if not text.startswith(_SKEY_PREFIX) or len(parts) != 3:  # noqa: PLR2004 - name, id, key
            raise FormatError("signing key: not of the form PRIVATE+KEY+name+id+key")
        material = b64decode_strict(parts[2], "signing key")
        if not material:
            raise FormatError("signing key: empty")
        signer = cls(parts[0], material[0], material[1:])
        if parts[1] != signer.vkey.key_id.hex():
            raise FormatError("signing key: the id is not that of the key")
        return signer

    def encode_secret(self) -> str:
        """Return ``PRIVATE+KEY+name+hex8+base64``: only for writing a key file of mode 0600."""
        seed = self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return f"{_SKEY_PREFIX}{self.vkey.name}+{self.vkey.key_id.hex()}+{b64encode(bytes([self.vkey.type]) + seed)}"

    def sign(self, text: bytes, time: int | None = None) -> bytes:
        """Return a signature line (with newline) over a note text.

        ``time`` in POSIX seconds is needed for type 0x04 and impossible for 0x01: ``ValueError``.
        """
        if (time is not None) != (self.vkey.type == COSIGNATURE):
            raise ValueError("a cosignature needs a time, and only a cosignature has one")
        blob = self._key.sign(text) if time is None else cosign(self._key, time, text)
        return SignatureLine(self.vkey.name, self.vkey.key_id, blob).encode()

    def __repr__(self) -> str:
        """Show the public side only."""
        return f"NoteSigner({self.vkey.encode()})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse pickle and copy."""
        raise TypeError("a signing key is neither pickled nor copied")
