"""HKDF (RFC 5869) from a buffer into a buffer.

The library's ``derive_into`` still leaves its last block, which is the derived key, in a ``bytes`` object that it frees
without wiping. So each derivation is followed by one of the same size from zeros: the interpreter gives it the block
freed last, and it writes over the key. The memory scan of the tests watches that this holds.
"""

from typing import Final

from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

__all__ = ["expand_into", "hkdf_into"]

_ZERO: Final = bytes(64)


def hkdf_into(algorithm: HashAlgorithm, key: memoryview, salt: bytes, info: bytes, out: memoryview) -> None:
    """Extract and expand: fill ``out`` from a secret that need not look random."""
    HKDF(algorithm, len(out), salt, info).derive_into(key, out)
    HKDF(algorithm, len(out), salt, info).derive_into(_ZERO, bytearray(len(out)))


def expand_into(algorithm: HashAlgorithm, key: memoryview, info: bytes, out: memoryview) -> None:
    """Expand only: fill ``out`` from a key that is uniform already."""
    HKDFExpand(algorithm, len(out), info).derive_into(key, out)
    HKDFExpand(algorithm, len(out), info).derive_into(_ZERO, bytearray(len(out)))
