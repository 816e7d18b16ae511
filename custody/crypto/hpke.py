"""Wrapping a secret for one recipient: HPKE with a hybrid KEM that also withstands a quantum computer.

RFC 9180 base mode, single shot, AAD empty. One suite and no other, so there is nothing to downgrade: KEM X-Wing
(ML-KEM-768 with X25519, HPKE KEM id 0x647A, draft-connolly-cfrg-xwing-kem), HKDF-SHA256, AES-256-GCM. ::

    private key = seed (32);   ML-KEM seed (64) || X25519 private key (32) = SHAKE256(seed, 96)
    public key  = ML-KEM encapsulation key (1184) || X25519 public key (32)      1216 bytes
    sealed      = enc (1120) || AES-256-GCM ciphertext || tag (16)

    wrap_info    = lp("custody/v1/wrap") || sharing_digest || u8 g || u8 i || lp(key_id)
    release_info = lp("custody/v1/release") || request_digest || terms_digest || release_key_digest
                   || sharing_digest || u8 g || u8 i || lp(key_id of the custodian's device)
    direct_info  = lp("custody/v1/direct") || request_digest || intent_leaf_hash || u64 j

The info says what a wrapped secret is for. It is not a field beside the ciphertext but goes into its key: a share
wrapped for one request opens for no other.

The library returns the opened plaintext as ``bytes``, and SHAKE256 its output. They are wiped in place as far as
CPython allows (``sodium.wipe_bytes``), but copies inside the library are beyond reach. That is why shares are opened
in short-lived processes only.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHAKE256, Hash
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from custody.crypto.encoding import lp, u8, u64
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import Buffer, wipe_bytes
from custody.errors import FormatError, IntegrityError

__all__ = [
    "OVERHEAD",
    "PUBLIC_KEY_SIZE",
    "SEED_SIZE",
    "check_public",
    "direct_info",
    "open_into",
    "public_key",
    "release_info",
    "seal",
    "wrap_info",
]

SEED_SIZE: Final = 32
PUBLIC_KEY_SIZE: Final = 1216
OVERHEAD: Final = 1120 + 16
"""Bytes of a sealed message beyond its plaintext."""

_MLKEM_PUBLIC_SIZE: Final = 1184
_MLKEM_SEED_SIZE: Final = 64
_EXPANDED_SIZE: Final = 96
_DIGEST_SIZE: Final = 32
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def public_key(seed: SecretBytes) -> bytes:
    """Compute the public key of an X-Wing seed, 1216 bytes."""
    mlkem, x25519 = _expand(seed)
    return mlkem.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) + x25519.public_key().public_bytes_raw()


def check_public(public: bytes) -> None:
    """Require an X-Wing public key that can be sealed to; ``FormatError`` otherwise. For enrolment."""
    with SecretBytes(1) as nothing:
        seal(public, b"", nothing.view)


def seal(public: bytes, info: bytes, plaintext: Buffer) -> bytes:
    """Encrypt ``plaintext`` to an X-Wing public key for what ``info`` states. Randomized."""
    if len(public) != PUBLIC_KEY_SIZE:
        raise FormatError(f"X-Wing public key: {len(public)} bytes instead of {PUBLIC_KEY_SIZE}")
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_SIZE]),
            X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC_SIZE:]),
        )
        return _SUITE.encrypt(plaintext, key, info)
    except ValueError as error:  # ML-KEM: coefficients out of range; X25519: a point of small order
        raise FormatError("X-Wing public key: not a valid key") from error


def open_into(seed: SecretBytes, info: bytes, sealed: bytes, out: SecretBytes) -> None:
    """Decrypt into ``out``, whose length says what is expected.

    Raises ``FormatError`` for another length than that gives, ``IntegrityError`` for another key, another ``info`` or
    altered bytes; these three cannot be told apart.
    """
    if len(sealed) != len(out) + OVERHEAD:
        raise FormatError(f"sealed secret: {len(sealed)} bytes instead of {len(out) + OVERHEAD}")
    try:
        plaintext = _SUITE.decrypt(sealed, MLKEM768X25519PrivateKey(*_expand(seed)), info)
    except (InvalidTag, ValueError) as error:
        raise IntegrityError("sealed secret: not sealed to this key for this purpose, or altered") from error
    out.view[:] = plaintext
    wipe_bytes(plaintext)
    # The last GCM block of the plaintext stays on the C stack; an encryption of zeros is written over it.
    AESGCM(bytes(32)).encrypt(bytes(12), bytes(len(out)), None)


def wrap_info(sharing_digest: bytes, group: int, slot: int, key_id: bytes) -> bytes:
    """Build the info of a share at rest: this sharing, this slot, this device."""
    return lp(b"custody/v1/wrap") + _digests(sharing_digest) + u8(group) + u8(slot) + lp(key_id)


def release_info(  # noqa: PLR0917 - in the order of the format
    request_digest: bytes,
    terms_digest: bytes,
    release_key_digest: bytes,
    sharing_digest: bytes,
    group: int,
    slot: int,
    key_id: bytes,
) -> bytes:
    """Build the info of a released share: one request on exact terms, to one release key, by one custodian's device."""
    digests = _digests(request_digest, terms_digest, release_key_digest, sharing_digest)
    return lp(b"custody/v1/release") + digests + u8(group) + u8(slot) + lp(key_id)


def direct_info(request_digest: bytes, intent_leaf_hash: bytes, file_index: int) -> bytes:
    """Build the info of the keys of one file in direct mode; the plaintext is ``file_key || digest_key``."""
    return lp(b"custody/v1/direct") + _digests(request_digest, intent_leaf_hash) + u64(file_index)


def _digests(*digests: bytes) -> bytes:
    if any(len(digest) != _DIGEST_SIZE for digest in digests):
        raise ValueError("a digest has 32 bytes")
    return b"".join(digests)


def _expand(seed: SecretBytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """Expand a seed to the two private keys (X-Wing draft, expandDecapsulationKey)."""
    if len(seed) != SEED_SIZE:
        raise ValueError(f"an X-Wing seed has {SEED_SIZE} bytes")
    shake = Hash(SHAKE256(_EXPANDED_SIZE))
    shake.update(seed.view)
    with SecretBytes.take_bytes(shake.finalize()) as expanded:
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded.view[:_MLKEM_SEED_SIZE]),
            X25519PrivateKey.from_private_bytes(expanded.view[_MLKEM_SEED_SIZE:]),
        )
