"""Who signs: a workload with its current SVID, or a person with a device.

An SVID is replaced every hour by whoever issues it. So it is read anew for every document, and key and certificate are
matched: between two renames a reader sees a pair that does not fit.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from custody.crypto import keys, svid
from custody.documents.actor import Person, Workload
from custody.documents.dsse import Signer
from custody.errors import ConfigError
from custody.wire.tls import TlsFiles

__all__ = ["Credential", "DeviceIdentity", "Identity", "WorkloadIdentity"]

_ATTEMPTS: Final = 5
_PAUSE: Final = 0.05  # seconds; two renames lie much closer together


@dataclass(frozen=True, slots=True)
class Credential:
    """One actor and the key that signs for it, belonging together."""

    actor: Person | Workload
    signer: Signer


class Identity(Protocol):
    """Somebody who signs."""

    def credential(self) -> Credential:
        """Return what to sign with now."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """A person, signing with a device whose key is unlocked."""

    person: str
    signer: Signer

    def credential(self) -> Credential:
        """Return person and device."""
        return Credential(Person(person=self.person), self.signer)


class WorkloadIdentity:
    """A workload, signing with the key of the SVID that lies in its TLS files now."""

    def __init__(self, files: TlsFiles, sleep: Callable[[float], None]) -> None:
        self._files = files
        self._sleep = sleep

    @property
    def spiffe(self) -> str:
        """The SPIFFE ID of the certificate. Raises ``ConfigError`` or ``FormatError``."""
        return svid.identity_of(self._files.chain()[0])

    def credential(self) -> Credential:
        """Read certificate and key. Raises ``ConfigError`` where they do not belong together."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(_PAUSE)
            chain = self._files.chain()
            key = _load_key(self._files)
            if _public(chain[0]) == key.public_key():
                leaf = chain[0]
                actor = Workload(spiffe=svid.identity_of(leaf), x5c=chain)
                return Credential(actor, _SvidSigner(key, hashlib.sha256(leaf).hexdigest()))
        raise ConfigError(
            f"{self._files.key} is not the key of {self._files.certificate}",
            hint="renew the certificate: custody ca issue",
        )


@dataclass(frozen=True, slots=True, repr=False)
class _SvidSigner:
    """The key of an SVID; its key id is the digest of the leaf certificate."""

    _key: keys.WorkloadKey
    key_id: str

    def sign(self, message: bytes) -> bytes:
        """Sign as verifiers expect for this kind of key."""
        return keys.sign_svid(self._key, message)


def _load_key(files: TlsFiles) -> keys.WorkloadKey:
    try:
        key = load_pem_private_key(files.read()[0], None)
    except (ValueError, TypeError):
        raise ConfigError(f"{files.key}: not a PEM private key without passphrase") from None
    if not isinstance(key, keys.WorkloadKey):
        raise ConfigError(f"{files.key}: not a key of type P-256, Ed25519 or RSA")
    return key


def _public(leaf: bytes) -> PublicKeyTypes:
    return x509.load_der_x509_certificate(leaf).public_key()
