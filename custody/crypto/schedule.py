"""The keys of one version (design section 4).

::

    K            = HKDF-SHA512(ikm = s, salt = vid, length = 64,
                               info = lp("custody/v1/version") || lp(deployment) || lp(name@label))
    key_commit   = HKDF-Expand-SHA512(K, lp("custody/v1/commit"), 32)
    file_key_j   = HKDF-Expand-SHA512(K, lp("custody/v1/file")   || u64 j, 32)
    digest_key_j = HKDF-Expand-SHA512(K, lp("custody/v1/digest") || u64 j, 32)

``s`` is the scalar that the custodians share (32 bytes, little-endian, below L), ``vid`` the version's 32 random
bytes, ``j`` the index of the file in the content. ``key_commit`` is public: it stands in the content, and an open
compares it before anything is decrypted. So one sharing opens to one K, whatever the shares were.
"""

import hmac
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA512

from custody.crypto.encoding import lp, u64
from custody.crypto.hkdf import expand_into, hkdf_into
from custody.crypto.secret import SecretBytes
from custody.errors import IntegrityError

__all__ = [
    "FILE_KEY_SIZE",
    "VERSION_KEY_SIZE",
    "VID_SIZE",
    "check_commit",
    "digest_key",
    "file_key",
    "key_commit",
    "version_key",
]

VID_SIZE: Final = 32
VERSION_KEY_SIZE: Final = 64
FILE_KEY_SIZE: Final = 32
_SCALAR_SIZE: Final = 32
_COMMIT_SIZE: Final = 32


def version_key(s: SecretBytes, vid: bytes, deployment: str, version: str) -> SecretBytes:
    """Derive K, 64 bytes. ``version`` is ``name@label``; both strings are ASCII. The caller wipes ``s`` and K."""
    if len(s) != _SCALAR_SIZE or len(vid) != VID_SIZE:
        raise ValueError("s and vid have 32 bytes each")
    info = lp(b"custody/v1/version") + lp(deployment.encode("ascii")) + lp(version.encode("ascii"))
    key = SecretBytes(VERSION_KEY_SIZE)
    hkdf_into(SHA512(), s.view, vid, info, key.view)
    return key


def key_commit(version_key: SecretBytes) -> bytes:
    """Derive the public commitment to K, 32 bytes."""
    commit = bytearray(_COMMIT_SIZE)
    expand_into(SHA512(), _whole(version_key), lp(b"custody/v1/commit"), memoryview(commit))
    return bytes(commit)


def check_commit(version_key: SecretBytes, expected: bytes) -> None:
    """Require that K is the key the content commits to; ``IntegrityError`` otherwise."""
    if not hmac.compare_digest(key_commit(version_key), expected):
        raise IntegrityError("key_commit: the opened key is not the one the content commits to")


def file_key(version_key: SecretBytes, index: int) -> SecretBytes:
    """Derive the FLOE key of file ``index``, 32 bytes."""
    return _expand(version_key, b"custody/v1/file", index)


def digest_key(version_key: SecretBytes, index: int) -> SecretBytes:
    """Derive the key of the segment digests of file ``index``, 32 bytes."""
    return _expand(version_key, b"custody/v1/digest", index)


def _expand(version_key: SecretBytes, label: bytes, index: int) -> SecretBytes:
    key = SecretBytes(FILE_KEY_SIZE)
    expand_into(SHA512(), _whole(version_key), lp(label) + u64(index), key.view)
    return key


def _whole(version_key: SecretBytes) -> memoryview:
    if len(version_key) != VERSION_KEY_SIZE:
        raise ValueError(f"a version key has {VERSION_KEY_SIZE} bytes")
    return version_key.view
