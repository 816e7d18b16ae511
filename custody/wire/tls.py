"""mTLS with SVIDs on both ends, files reloaded when they change.

``tls.crt`` is PEM, leaf first; ``tls.key`` its PKCS#8 key; ``ca.pem`` the SPIFFE roots. The broker's certificate
carries, beside its SPIFFE ID, a DNS name that clients ask for (``server_name``), since gRPC compares names, not URIs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from custody.errors import ConfigError

__all__ = ["TlsFiles", "channel_credentials", "is_hybrid", "peer_certificate", "server_credentials"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a party's TLS material lies."""

    certificate: Path
    key: Path
    ca: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Return (key, certificate chain, roots) as PEM. Raises ``ConfigError`` naming the file."""
        parts = []
        for path in (self.key, self.certificate, self.ca):
            try:
                parts.append(path.read_bytes())
            except OSError as error:
                raise ConfigError(f"{path}: {error.strerror}", hint="custody ca issue makes certificates") from None
        return parts[0], parts[1], parts[2]

    def chain(self) -> tuple[bytes, ...]:
        """Return the certificate chain as DER, leaf first. Raises ``ConfigError``."""
        try:
            certificates = x509.load_pem_x509_certificates(self.certificate.read_bytes())
        except (OSError, ValueError):
            raise ConfigError(f"{self.certificate}: not a PEM certificate chain") from None
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when a file does."""
        try:
            return tuple(path.stat().st_mtime_ns for path in (self.key, self.certificate, self.ca))
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from None


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Credentials of a client. Read now; a new connection reads them again."""
    key, chain, roots = files.read()
    return grpc.ssl_channel_credentials(roots, key, chain)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a server that requires a client certificate and looks for new files at each handshake.

    A broken new file keeps the old certificate in use: a renewal gone wrong shows when the old one expires, not before.
    """

    def configuration() -> grpc.ServerCertificateConfiguration:
        key, chain, roots = files.read()
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    stamp = files.stamp()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal stamp
        try:
            now = files.stamp()
            if now == stamp:
                return None
            fresh = configuration()
        except ConfigError:
            return None
        stamp = now
        return fresh

    # ``fetch`` returning None means "no change"; the stubs do not know.
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
    return grpc.dynamic_ssl_server_credentials(configuration(), fetcher, require_client_authentication=True)


def peer_certificate(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    """Return the peer's verified certificate (DER), or no bytes where there is none that can be read."""
    return _certificate(next(iter(auth_context.get("x509_pem_cert", ())), b""))


@lru_cache(maxsize=1024)
def _certificate(pem: bytes) -> bytes:
    """A peer calls often with one certificate."""
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except ValueError:
        return b""


def is_hybrid(auth_context: Mapping[str, Iterable[bytes]]) -> bool:
    """Whether the connection's keys come from X25519 together with ML-KEM-768 (draft-ietf-tls-ecdhe-mlkem).

    Whoever records anything less today reads it when there is a quantum computer. TLS 1.3 signs the choice, so nobody
    in the middle can have made it.
    """
    return b"X25519MLKEM768" in auth_context.get("ssl_negotiated_key_exchange_group", ())
