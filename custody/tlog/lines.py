"""Strict reading of the lines that all C2SP log formats are made of.

Everything is parsed as bytes: ``int()`` would take full-width digits, a sign, underscores and blanks, and
``str.splitlines`` splits at U+0085 and U+2028. Each value has exactly one spelling, so that whoever signs and whoever
verifies cannot read the same bytes in two ways.
"""

import re

from custody.crypto.encoding import b64decode_strict
from custody.errors import FormatError

__all__ = ["HASH_SIZE", "MAX_PROOF_HASHES", "SIZE_END", "decimal", "hash_line", "key_name", "utf8_text"]

HASH_SIZE = 32  # bytes, SHA-256
SIZE_END = 1 << 63  # tree sizes, indices and POSIX times stay below this
MAX_PROOF_HASHES = 63  # no tree below 2^63 leaves needs more in an inclusion proof
_MAX_DIGITS = 19
_DIGITS = frozenset(b"0123456789")
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")  # but newline
_NO_KEY_NAME = re.compile(r"[\s+\x00-\x1f]")  # of a str, \s is every Unicode space


def decimal(data: bytes, what: str) -> int:
    """Read an ASCII decimal below 2^63 without leading zeros; ``FormatError`` naming ``what`` otherwise."""
    if not data or len(data) > _MAX_DIGITS or not _DIGITS.issuperset(data) or (data.startswith(b"0") and data != b"0"):
        raise FormatError(f"{what}: not a decimal number without leading zeros")
    value = int(data)
    if value >= SIZE_END:
        raise FormatError(f"{what}: not below 2^63")
    return value


def hash_line(data: bytes, what: str) -> bytes:
    """Read the base64 of one 32-byte hash; ``FormatError`` naming ``what`` otherwise."""
    value = b64decode_strict(data, what)
    if len(value) != HASH_SIZE:
        raise FormatError(f"{what}: not {HASH_SIZE} bytes")
    return value


def utf8_text(data: bytes, what: str) -> str:
    """Decode UTF-8 that holds no control character below U+0020 except newline (signed-note, Format)."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{what}: not UTF-8") from error
    if _CONTROL.search(data):
        raise FormatError(f"{what}: holds a control character")
    return text


def key_name(text: str, what: str) -> str:
    """Check a key name or origin: not empty, no Unicode space, no ``+``, no control character (signed-note, Format)."""
    if not text or _NO_KEY_NAME.search(text):
        raise FormatError(f"{what}: a key name is not empty and holds no space, plus or control character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FormatError(f"{what}: not UTF-8") from error
    return text
