"""Digests of plaintext segments and of stored files (design section 4, "End-to-end integrity").

::

    digest of segment i of file j = BLAKE3-keyed(digest_key_j, u64 i || plaintext)         32 bytes
    digest list                   = the raw digests in order                                32 bytes * count
    in the signed content         = BLAKE3(digest list), BLAKE3(stored file)

A GCM tag proves only that whoever made a segment had the file key, and every former reader of the version has had it,
the broker included. The list is signed by the sealer through the content; so whoever uses a plaintext checks here
first. The digests are keyed: the list says nothing about the plaintext to those without the key.
"""

import hmac
from collections.abc import Iterable
from typing import Final

from blake3 import blake3

from custody.crypto.encoding import u64
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import Buffer, wipe
from custody.errors import FormatError, IntegrityError

__all__ = ["DIGEST_SIZE", "check_digest", "check_segment", "digest", "digest_at", "hasher", "segment_digest"]

DIGEST_SIZE: Final = 32
_SCRUB: Final = bytes(1024)


def segment_digest(digest_key: SecretBytes, index: int, plaintext: Buffer) -> bytes:
    """Compute the keyed digest of segment ``index`` (from 0), 32 bytes."""
    result = blake3(u64(index), key=digest_key.view).update(plaintext).digest()
    # The library wipes nothing: a copy of the key stays in the freed hasher and on the C stack. A second hasher with
    # a key of zeros gets the same memory and writes over both.
    blake3(_SCRUB, key=_SCRUB[:32]).digest()
    return result


def check_segment(digest_key: SecretBytes, index: int, plaintext: memoryview, expected: Buffer) -> None:
    """Require that a plaintext segment is the one the sealer listed.

    On mismatch the buffer is wiped before ``IntegrityError`` names the segment: nobody can use altered weights by
    forgetting to look.
    """
    if not hmac.compare_digest(segment_digest(digest_key, index, plaintext), expected):
        wipe(plaintext)
        raise IntegrityError(f"segment {index}: not the plaintext that was sealed")


def digest_at(digest_list: Buffer, index: int) -> memoryview:
    """Digest of segment ``index`` in a list; ``FormatError`` where the list has none."""
    start = index * DIGEST_SIZE
    if index < 0 or start + DIGEST_SIZE > len(digest_list):
        raise FormatError(f"digest list: no entry for segment {index}")
    return memoryview(digest_list)[start : start + DIGEST_SIZE]


def hasher() -> blake3:
    """Start a BLAKE3 digest of a stored file, to be fed with ``update(buffer)`` and ended with ``digest()``."""
    return blake3()


def digest(parts: Iterable[Buffer]) -> bytes:
    """Compute the BLAKE3 digest of the concatenation of ``parts``, 32 bytes."""
    state = blake3()
    for part in parts:
        state.update(part)
    return state.digest()


def check_digest(parts: Iterable[Buffer], expected: Buffer, what: str) -> None:
    """Require the BLAKE3 digest of a digest list or a stored file; ``IntegrityError`` naming ``what`` otherwise."""
    if not hmac.compare_digest(digest(parts), expected):
        raise IntegrityError(f"{what}: the bytes are not those that were sealed")
