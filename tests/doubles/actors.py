"""Those who sign in tests: devices of persons, brokers, workloads with certificates of a CA. Real keys, no passphrases.

Everything follows from an ``rng``, certificates and P-256 signatures included; only RSA and P-384 keys do not.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from custody.crypto import hpke, keys
from custody.crypto.keys import WorkloadKey
from custody.crypto.secret import SecretBytes
from custody.documents import actor, root

__all__ = ["CertificateAuthority", "ServerKey", "TestDevice", "Workload", "deterministic"]

HOUR = 3600
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

KeyKind = Literal["p256", "p384", "ed25519", "rsa"]


def deterministic(seed: bytes) -> Callable[[int], bytes]:
    """Return an ``rng`` that yields the same bytes for the same seed: SHAKE-256 over seed and counter."""
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(seed + drawn.to_bytes(8, "big")).digest(size)

    return draw


class ServerKey:
    """An Ed25519 signing key: a broker's."""

    def __init__(self, seed: bytes) -> None:
        self.seed = SecretBytes.take(bytearray(seed))
        self.ed25519 = keys.public_from_seed(self.seed)

    @property
    def key_id(self) -> str:
        """Hex id of the public key."""
        return keys.key_id(self.ed25519).hex()

    def sign(self, message: bytes) -> bytes:
        """Sign bytes."""
        return keys.sign(self.seed, message)


class TestDevice(ServerKey):
    """A person's device: an Ed25519 and an X-Wing key, as a key file holds them."""

    __test__ = False

    def __init__(self, name: str, seed: bytes, xwing_seed: bytes) -> None:
        super().__init__(seed)
        self.name = name
        self.xwing_seed = SecretBytes.take(bytearray(xwing_seed))
        self.xwing = hpke.public_key(self.xwing_seed)

    @property
    def key_id(self) -> str:
        """Hex id of both public keys."""
        return keys.key_id(self.ed25519, self.xwing).hex()

    def named(self) -> root.Device:
        """Return the device as a trust root names it."""
        return root.Device(name=self.name, ed25519=self.ed25519, xwing=self.xwing)


@dataclass(frozen=True)
class Workload:
    """A workload with an SVID; ``chain`` is DER, leaf first."""

    spiffe: str
    key: WorkloadKey
    chain: tuple[bytes, ...]

    @property
    def key_id(self) -> str:
        """SHA-256 of the leaf, hex."""
        return hashlib.sha256(self.chain[0]).hexdigest()

    @property
    def actor(self) -> actor.Workload:
        """Return the workload as documents name it."""
        return actor.Workload(spiffe=self.spiffe, x5c=self.chain)

    def sign(self, message: bytes) -> bytes:
        """Sign bytes with the key of the certificate, the same bytes each time unless it is an RSA key."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True))
        return keys.sign_svid(self.key, message)


class CertificateAuthority:
    """A CA that issues SVID-shaped certificates, wrong ones too where a test asks for them."""

    def __init__(self, rng: Callable[[int], bytes], now: int, name: str = "ca", above: Self | None = None) -> None:
        self._rng = rng
        self._name = name
        self._key = _p256(rng)
        self._above = above
        issuer = above or self
        builder = issuer._builder(name, self._key, now - HOUR, now + 3650 * 24 * HOUR)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        self.certificate = issuer._sign(builder)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """Certificates from this authority up to the one below the root."""
        return () if self._above is None else (self.certificate, *self._above.chain)

    def issue(
        self,
        spiffe: str,
        start: int,
        lifetime: int = HOUR,
        *,
        kind: KeyKind = "p256",
        uris: Sequence[str] | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Workload:
        """Issue an SVID, valid from ``start`` for ``lifetime`` seconds.

        ``uris`` are the URI names where they are not just the SPIFFE ID; ``extensions`` come in addition, key usage
        instead of the usual one.
        """
        key = _key(kind, self._rng)
        builder = self._builder("", key, start, start + lifetime)
        names = [x509.UniformResourceIdentifier(uri) for uri in ((spiffe,) if uris is None else uris)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        if not any(isinstance(item, x509.KeyUsage) for item in extensions):
            builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        for item in extensions:
            builder = builder.add_extension(item, critical=True)
        return Workload(spiffe, key, (self._sign(builder), *self.chain))

    @classmethod
    def beside(cls, other: Self, rng: Callable[[int], bytes], now: int) -> Self:
        """Make another CA of the same name: only its key tells them apart."""
        return cls(rng, now, other._name)

    def _builder(self, subject: str, key: WorkloadKey, start: int, end: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(self._name))
            .public_key(key.public_key())
            .serial_number(int.from_bytes(self._rng(16), "big") >> 1)
            .not_valid_before(datetime.fromtimestamp(start, UTC))
            .not_valid_after(datetime.fromtimestamp(end, UTC))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def _p256(rng: Callable[[int], bytes]) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(rng(40), "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def _key(kind: KeyKind, rng: Callable[[int], bytes]) -> WorkloadKey:
    match kind:
        case "p256":
            return _p256(rng)
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ed25519":
            return Ed25519PrivateKey.from_private_bytes(rng(32))
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
