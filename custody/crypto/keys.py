"""Signing keys: Ed25519 of persons' devices and servers, and the keys in workloads' certificates.

::

    key_id = SHA-256(lp("custody/v1/keyid") || ed25519 public key (32) || X-Wing public key (1216, or empty))

A key id is recomputed from the keys wherever it is needed and never believed. Signatures over documents go through
DSSE above this room; here are the primitives. Which algorithm verifies an SVID signature follows from the key in the
certificate, never from the document: ES256 (P-256, DER), Ed25519, or RSA-PSS with SHA-256, MGF1-SHA256, salt 32.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from custody.crypto import hpke
from custody.crypto.certificate import parsed
from custody.crypto.encoding import lp
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import is_valid_point
from custody.errors import FormatError, IntegrityError

__all__ = [
    "KEY_ID_SIZE",
    "PUBLIC_SIZE",
    "SEED_SIZE",
    "SIGNATURE_SIZE",
    "WorkloadKey",
    "check_public",
    "key_id",
    "public_from_seed",
    "sign",
    "sign_svid",
    "verify",
    "verify_svid",
    "verify_svid_signature",
]

SEED_SIZE: Final = 32
PUBLIC_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
KEY_ID_SIZE: Final = 32

_RSA_SIZES: Final = range(2048, 8192 + 1)  # bits; above, a certificate would only cost its verifier time
_SHA256: Final = SHA256()
_ES256: Final = ec.ECDSA(_SHA256)
_PSS: Final = padding.PSS(mgf=padding.MGF1(_SHA256), salt_length=32)

_Check = Callable[[bytes, bytes], None]

WorkloadKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey | rsa.RSAPrivateKey


def key_id(ed25519: bytes, xwing: bytes = b"") -> bytes:
    """Compute the id of a device (both keys) or a server (Ed25519 only), 32 bytes."""
    if len(ed25519) != PUBLIC_SIZE or len(xwing) not in {0, hpke.PUBLIC_KEY_SIZE}:
        raise FormatError(f"public keys of {len(ed25519)} and {len(xwing)} bytes")
    return hashlib.sha256(lp(b"custody/v1/keyid") + ed25519 + xwing).digest()


def check_public(ed25519: bytes) -> None:
    """Require an Ed25519 public key fit for enrolment; ``FormatError`` otherwise.

    Refused: not 32 bytes, not on the curve, not canonically encoded, of small order (one signature would fit every
    message), or with a part of small order.
    """
    if len(ed25519) != PUBLIC_SIZE or not is_valid_point(ed25519):
        raise FormatError("Ed25519 public key: not a canonical point of the prime group")


def public_from_seed(seed: SecretBytes) -> bytes:
    """Compute the Ed25519 public key of a 32-byte seed."""
    return _private(seed).public_key().public_bytes_raw()


def sign(seed: SecretBytes, message: bytes) -> bytes:
    """Sign with the Ed25519 key of ``seed``: 64 bytes."""
    return _private(seed).sign(message)


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Require an Ed25519 signature. ``IntegrityError`` where it is not one of this key, ``FormatError`` for lengths."""
    if len(public) != PUBLIC_SIZE or len(signature) != SIGNATURE_SIZE:
        raise FormatError(f"Ed25519: a key of {len(public)} and a signature of {len(signature)} bytes")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError("Ed25519 signature does not verify") from error


def verify_svid_signature(leaf_der: bytes, signature: bytes, message: bytes) -> None:
    """Require a signature by the key in a DER certificate. The certificate itself is judged elsewhere.

    Raises ``FormatError`` for bytes that are no certificate or a key of another kind, ``IntegrityError`` for a
    signature that does not verify.
    """
    _require(_svid_check(leaf_der), signature, message)


def verify_svid(key: object, signature: bytes, message: bytes) -> None:
    """Require a signature by a certificate's public key, which must be of one of the three kinds; see above."""
    _require(_check_of(key), signature, message)


def _require(check: _Check, signature: bytes, message: bytes) -> None:
    try:
        check(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError("SVID signature does not verify") from error


def _check_of(key: object) -> _Check:
    """Return what verifies (signature, message) with a public key. ``FormatError`` for a key of another kind."""
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return lambda signature, message: key.verify(signature, message, _ES256)
        case Ed25519PublicKey():
            check_public(key.public_bytes_raw())
            return key.verify
        case rsa.RSAPublicKey() if key.key_size in _RSA_SIZES:
            return lambda signature, message: key.verify(signature, message, _PSS, _SHA256)
        case _:
            raise FormatError("SVID: the key is not P-256, Ed25519 or RSA of 2048 to 8192 bits")


@lru_cache(maxsize=256)
def _svid_check(leaf_der: bytes) -> _Check:
    """Return what verifies with the key of a certificate; a job signs several documents with one."""
    try:
        key = parsed(leaf_der).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise FormatError("SVID: not an X.509 certificate with a usable key") from error
    return _check_of(key)


def sign_svid(key: WorkloadKey, message: bytes) -> bytes:
    """Sign as the holder of an SVID. ``FormatError`` for a key that ``verify_svid`` would refuse."""
    match key:
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            return key.sign(message, _ES256)
        case Ed25519PrivateKey():
            return key.sign(message)
        case rsa.RSAPrivateKey() if key.key_size in _RSA_SIZES:
            return key.sign(message, _PSS, _SHA256)
        case _:
            raise FormatError("SVID: the key is not P-256, Ed25519 or RSA of 2048 to 8192 bits")


def _private(seed: SecretBytes) -> Ed25519PrivateKey:
    # OpenSSL keeps its copy in memory that it cleanses when the object goes, at the end of the caller's expression.
    return Ed25519PrivateKey.from_private_bytes(seed.view)
