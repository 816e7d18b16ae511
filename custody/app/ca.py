"""A small certificate authority for identities: SPIFFE IDs of brokers, persons and jobs (SPIFFE X509-SVID).

A deployment that has SPIRE or a CA of its own uses that. The CA key lies in a file without passphrase: it belongs on a
host that does nothing else, since whoever has it can claim to be any job (and still needs a quorum of custodians).

A leaf has exactly one URI SAN, the SPIFFE ID; an empty subject; digitalSignature; client and server authentication.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from custody.adapters import small_files
from custody.app.arguments import checked
from custody.crypto.svid import check_chain
from custody.errors import ConfigError, FormatError
from custody.values import SpiffeId

__all__ = ["MAX_HOURS", "Authority", "Issued", "create_authority", "load_authority", "load_certificates"]

MAX_HOURS: Final = 24 * 31
"""Longest life of a leaf. Jobs rotate hourly; a person's certificate may last a month."""

_CA_YEARS: Final = 10
_BACKDATE: Final = timedelta(minutes=1)  # clocks differ a little
_MAX_PEM: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Issued:
    """A leaf that was issued: its SPIFFE ID, when it ends (seconds), its serial number, and its DER certificate."""

    identity: str
    not_after: int
    serial: int
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    trust_domain: str

    def issue(self, identity: str, out: Path, *, hours: float, dns: Sequence[str], now: int) -> Issued:
        """Issue a leaf with a fresh P-256 key into ``out``: ``tls.key`` (0600), ``tls.crt``, ``ca.pem``.

        Each file is replaced whole, the key before the certificate, so that a running process can load them again;
        one that reads just between the two sees a pair that does not fit, and reads once more. Raises ``FormatError``
        for an identity outside the trust domain, a bad DNS name, or a life of more than ``MAX_HOURS``.
        """
        example = f"it looks like spiffe://{self.trust_domain}/job/training"
        checked(SpiffeId, identity, "SPIFFE ID", example)
        if not identity.startswith(f"spiffe://{self.trust_domain}/"):
            raise FormatError(f"SPIFFE ID {identity} is outside this CA's trust domain", hint=example)
        if not 0 < hours <= MAX_HOURS:
            raise FormatError(f"{hours} hours: a certificate lives at most {MAX_HOURS} hours")
        key = ec.generate_private_key(ec.SECP256R1())
        begin = datetime.fromtimestamp(now, UTC) - _BACKDATE
        end = min(datetime.fromtimestamp(now, UTC) + timedelta(hours=hours), self.certificate.not_valid_after_utc)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity), *map(_host, dns)])
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(names, critical=True)  # RFC 5280 section 4.2.1.6: the subject is empty
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(usages, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, SHA256())
        )
        der, root = leaf.public_bytes(Encoding.DER), self.certificate.public_bytes(Encoding.DER)
        check_chain([der], [root], self.trust_domain, now)
        small_files.make_directory(out, 0o700)
        small_files.replace(out / "ca.pem", self.certificate.public_bytes(Encoding.PEM))
        small_files.replace(out / "tls.key", _private_pem(key), 0o600)
        small_files.replace(out / "tls.crt", leaf.public_bytes(Encoding.PEM))
        return Issued(identity, int(end.timestamp()), leaf.serial_number, der)


def create_authority(directory: Path, trust_domain: str, now: int) -> Authority:
    """Make ``ca.key`` (PKCS#8, 0600) and ``ca.crt`` in ``directory``. ``ConflictError`` where they exist."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain[:40]} Custody CA")])
    begin = datetime.fromtimestamp(now, UTC) - _BACKDATE
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # X509-SVID section 3: a signing certificate carries the SPIFFE ID of its trust domain, without a path.
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        )
        .sign(key, SHA256())
    )
    small_files.make_directory(directory, 0o700)
    small_files.create(directory / "ca.key", _private_pem(key), 0o600)
    small_files.create(directory / "ca.crt", certificate.public_bytes(Encoding.PEM))
    return Authority(key, certificate, trust_domain)


def load_authority(directory: Path) -> Authority:
    """Read a CA that ``create_authority`` made. ``ConfigError`` where it is none."""
    pem = small_files.read_private(directory / "ca.key", _MAX_PEM)
    try:
        key = load_pem_private_key(pem, None)
        (certificate,) = x509.load_pem_x509_certificates(small_files.read(directory / "ca.crt", _MAX_PEM))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, TypeError, x509.ExtensionNotFound):
        raise ConfigError(f"{directory}: ca.key and ca.crt are not a CA of Custody") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{directory}: ca.key is not the key of ca.crt")
    return Authority(key, certificate, uri.removeprefix("spiffe://"))


def load_certificates(path: Path) -> tuple[bytes, ...]:
    """Read the certificates of a PEM file as DER, in order. ``ConfigError`` where there is none."""
    try:
        found = x509.load_pem_x509_certificates(small_files.read(path, _MAX_PEM))
    except ValueError:
        raise ConfigError(f"{path}: holds no PEM certificates") from None
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.split(".")
    if len(name) > 253 or not all(0 < len(part) < 64 and part.replace("-", "a").isalnum() for part in labels):  # noqa: PLR2004 - RFC 1035
        raise FormatError(f"{name[:80]!a} is not a DNS name")
    if not name.isascii():
        raise FormatError(f"{name[:80]!a} is not ASCII", hint="write the xn-- form")
    return x509.DNSName(name)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
