"""DER certificates, each parsed once: whoever checks a chain, reads an identity or takes out a key has the same one."""

from functools import lru_cache

from cryptography import x509

__all__ = ["parsed"]


@lru_cache(maxsize=256)
def parsed(der: bytes) -> x509.Certificate:
    """Parse a certificate; its key is parsed when it is first asked for, and kept. Raises what the library raises."""
    return x509.load_der_x509_certificate(der)
