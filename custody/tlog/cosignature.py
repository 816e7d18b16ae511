r"""Timestamped Ed25519 cosignatures over checkpoints (tlog-cosignature, signature type 0x04).

::

    blob    = u64be time || ed25519 signature                               72 bytes
    message = "cosignature/v1\n" || "time " || decimal time || "\n" || the whole note text

A cosignature says: at ``time`` this was the largest tree that the cosigner had seen of this log, and it is consistent
with all it had seen before. The message does not name the cosigner, so one key must never serve two cosigners.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from custody.errors import FormatError, IntegrityError
from custody.tlog.lines import SIZE_END

__all__ = ["BLOB_SIZE", "cosign", "message", "verify_cosignature"]

_TIME_SIZE = 8
BLOB_SIZE = _TIME_SIZE + 64  # bytes


def message(time: int, text: bytes) -> bytes:
    """Build what a cosigner signs: ``time`` in POSIX seconds, and the note text including its final newline.

    Zero means "no statement about time" elsewhere in C2SP; a witness must state one, so it is a ``ValueError`` here.
    """
    if not 0 < time < SIZE_END:
        raise ValueError(f"cosignature time {time} is not within 1..2^63-1")
    return b"cosignature/v1\ntime %d\n%b" % (time, text)


def cosign(key: Ed25519PrivateKey, time: int, text: bytes) -> bytes:
    """Return the 72-byte blob of a cosignature over ``text`` at ``time`` (POSIX seconds)."""
    return time.to_bytes(_TIME_SIZE, "big") + key.sign(message(time, text))


def verify_cosignature(key: bytes, text: bytes, blob: bytes) -> int:
    """Verify ``blob`` over ``text`` under the 32-byte public ``key`` and return its time in POSIX seconds.

    Raises ``FormatError`` for a blob of another size or a time outside 1..2^63-1, ``IntegrityError`` for a signature
    that does not verify.
    """
    if len(blob) != BLOB_SIZE:
        raise FormatError(f"cosignature: {len(blob)} bytes instead of {BLOB_SIZE}")
    time = int.from_bytes(blob[:_TIME_SIZE], "big")
    if not 0 < time < SIZE_END:
        raise FormatError("cosignature: time is not within 1..2^63-1")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(blob[_TIME_SIZE:], message(time, text))
    except InvalidSignature as error:
        raise IntegrityError("cosignature: does not verify") from error
    return time
