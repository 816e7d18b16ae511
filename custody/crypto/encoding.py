"""The few encodings every construction is built from (design section 4).

::

    u8(n)   = 1 byte
    u64(n)  = 8 bytes, big-endian
    lp(x)   = u64(len(x)) || x

Text forms are canonical: one value has one spelling. Python's own decoders are lenient (``IQ==`` and ``IR==`` decode
to the same byte, line breaks are skipped), which would let one signed thing have two spellings; here they are refused.
"""

import base64
import binascii

from custody.errors import FormatError

__all__ = ["b64decode_strict", "b64encode", "hexdigest_strict", "lp", "u8", "u64"]

_DIGEST_SIZE = 32
_HEX = frozenset("0123456789abcdef")
_U8_END = 1 << 8
_U64_END = 1 << 64


def u8(n: int) -> bytes:
    """Encode ``n`` as one byte. ``ValueError`` outside 0..255."""
    if not 0 <= n < _U8_END:
        raise ValueError(f"{n} does not fit into one byte")
    return n.to_bytes(1, "big")


def u64(n: int) -> bytes:
    """Encode ``n`` as eight bytes, big-endian. ``ValueError`` outside 0..2^64-1."""
    if not 0 <= n < _U64_END:
        raise ValueError(f"{n} does not fit into eight bytes")
    return n.to_bytes(8, "big")


def lp(x: bytes) -> bytes:
    """Prefix ``x`` with its length, so that a concatenation of such parts can be read in one way only."""
    return u64(len(x)) + x


def b64encode(data: bytes) -> str:
    """Encode ``data`` in the base64 of RFC 4648 section 4, with padding and without line breaks."""
    return base64.b64encode(data).decode("ascii")


def b64decode_strict(text: str | bytes, what: str) -> bytes:
    """Decode base64 that has exactly one spelling.

    ``what`` names the field in the error. Raises ``FormatError`` for another alphabet, white space, missing padding
    or trailing bits that are not zero: the decoded bytes must encode to ``text`` again.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else bytes(text)
        data = base64.b64decode(raw, validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise FormatError(f"{what}: not base64") from error
    if base64.b64encode(data) != raw:
        raise FormatError(f"{what}: base64 is not canonical")
    return data


def hexdigest_strict(text: str, what: str) -> bytes:
    """Decode a 32-byte digest written as 64 lower-case hex digits; ``FormatError`` naming ``what`` otherwise."""
    if len(text) != 2 * _DIGEST_SIZE or not _HEX.issuperset(text):
        raise FormatError(f"{what}: not 64 lower-case hex digits")
    return bytes.fromhex(text)
