"""X.509-SVIDs (SPIFFE X509-SVID specification): check a certificate chain and read the one identity in it.

Rules kept here: exactly one URI SAN and it is a SPIFFE ID with a path (section 2); the leaf is no CA (section 4.1) and
its key signs, but neither certificates nor CRLs (section 4.3, where key usage is stated); the chain leads to one of the
given roots at the given time; the identity lies in the expected trust domain. A chain is in order, from the leaf up, as
section 2 of the Workload API's document has it. Authorities have P-256, P-384, P-521 or
RSA keys, as the library demands; an Ed25519 key is possible in a leaf only.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from custody.crypto.certificate import parsed
from custody.errors import FormatError, IntegrityError

__all__ = ["Path", "check_authority", "check_chain", "check_path", "identity_of", "remember_path", "validity"]

_SPIFFE: Final = re.compile(
    r"\Aspiffe://[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+\Z"
)

_MALFORMED: Final = (
    ValueError,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,  # where warnings are errors: bytes that later versions of the library refuse
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for certificates and extensions that are none; not all of these are ``ValueError``."""

_RSA_BITS: Final = 8192
_RSA_EXPONENT: Final = 1 << 32


class Path(NamedTuple):
    """A way from a leaf to a root: whose it is, and from when to when (seconds, both included) all of it is valid."""

    identity: str
    begin: int
    end: int


def identity_of(leaf: bytes) -> str:
    """Return the SPIFFE ID of a DER certificate. Raises ``FormatError`` unless it has exactly one URI SAN."""
    names = _extension(_load(leaf), x509.SubjectAlternativeName)
    try:
        uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    except _MALFORMED:
        uris = []
    if len(uris) != 1:
        message = f"certificate: {len(uris)} URI names, an SVID has exactly one"
        raise FormatError(message)
    if not _SPIFFE.match(uris[0]):
        message = "certificate: its URI name is not a SPIFFE ID with a path"
        raise FormatError(message)
    return uris[0]


def validity(leaf: bytes) -> tuple[int, int]:
    """Return (not before, not after) of a DER certificate in seconds, both included."""
    certificate = _load(leaf)
    return (
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def check_authority(der: bytes) -> None:
    """Require a DER certificate of an authority. ``FormatError`` otherwise. Its validity in time is not looked at."""
    basic = _extension(_load(der), x509.BasicConstraints)
    if basic is None or not basic.ca:
        message = "certificate: not that of an authority"
        raise FormatError(message)


def check_chain(chain: Sequence[bytes], roots: Sequence[bytes], trust_domain: str, at: int) -> str:
    """Verify ``chain`` (DER, leaf first) to one of ``roots`` (DER) at time ``at`` and return the leaf's SPIFFE ID.

    Raises ``FormatError`` for certificates that are none, ``IntegrityError`` for a chain that does not verify.
    """
    return check_path(chain, roots, trust_domain, at).identity


def check_path(chain: Sequence[bytes], roots: Sequence[bytes], trust_domain: str, at: int) -> Path:
    """Verify as ``check_chain`` does; return the path that was found.

    Of what is verified only the validity of the certificates on the path depends on the time. So the path stands for
    every moment inside it, and a job that opens many sessions with one certificate costs one verification.
    """
    place = _place(tuple(chain), tuple(roots), trust_domain)
    found = place.get("path")
    if found is None or not found.begin <= at <= found.end:
        found = place["path"] = _check_path(chain, roots, trust_domain, at)
    return found


def remember_path(chain: Sequence[bytes], roots: Sequence[bytes], trust_domain: str, path: Path) -> None:
    """Take it that another process of ours has found this path, so that ``check_path`` does not look for it."""
    _place(tuple(chain), tuple(roots), trust_domain)["path"] = path


@lru_cache(maxsize=512)  # a chain has at most 128 KiB
def _place(_chain: tuple[bytes, ...], _roots: tuple[bytes, ...], _trust_domain: str) -> dict[str, Path]:
    """Return the place for the path that was found last; it is empty at first."""
    return {}


def _check_path(chain: Sequence[bytes], roots: Sequence[bytes], trust_domain: str, at: int) -> Path:
    identity = identity_of(chain[0])
    if not identity.startswith(f"spiffe://{trust_domain}/"):
        message = f"certificate: {identity} is not in the trust domain {trust_domain}"
        raise IntegrityError(message)
    leaf = _load(chain[0])
    _check_leaf(leaf, identity)
    _check_effort(chain, identity)
    # Key usage and names are SPIFFE's, not the web's: both were read above, so they are not matched here.
    leaf_policy = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    builder = (
        PolicyBuilder()
        .store(_store(tuple(roots)))
        .time(datetime.fromtimestamp(at, UTC))
        .max_chain_depth(4)
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=leaf_policy)
    )
    try:
        found = builder.build_client_verifier().verify(leaf, [_load(item) for item in chain[1:]])
    except (VerificationError, *_MALFORMED) as error:
        message = f"certificate of {identity} does not verify: {_reason(leaf, at, error)}"
        raise IntegrityError(message) from None
    return Path(
        identity,
        max(int(item.not_valid_before_utc.timestamp()) for item in found.chain),
        min(int(item.not_valid_after_utc.timestamp()) for item in found.chain),
    )


def _check_effort(chain: Sequence[bytes], identity: str) -> None:
    """Refuse a chain that is made to be expensive, before a path is looked for.

    Where several certificates have one name, each may have signed each; and an RSA exponent as long as its modulus
    makes a signature a hundred times dearer. A chain that goes from name to name costs one signature a certificate.
    """
    loaded = [_load(item) for item in chain]
    ordered = all(below.issuer == above.subject for below, above in pairwise(loaded))
    if not ordered or len({item.subject.public_bytes() for item in loaded}) < len(loaded):
        message = f"certificate of {identity}: its chain is not in order, from the leaf up"
        raise IntegrityError(message)
    for certificate in loaded:
        try:
            key = certificate.public_key()
        except (UnsupportedAlgorithm, *_MALFORMED):
            continue  # no path leads through it
        if isinstance(key, rsa.RSAPublicKey) and (key.key_size > _RSA_BITS or key.public_numbers().e > _RSA_EXPONENT):
            message = f"certificate of {identity}: an RSA key of a size that nobody needs"
            raise IntegrityError(message)


@lru_cache(maxsize=8)
def _store(roots: tuple[bytes, ...]) -> Store:
    """The authorities change with the trust root only, so they are parsed once."""
    return Store([_load(root) for root in roots])


def _check_leaf(leaf: x509.Certificate, identity: str) -> None:
    basic = _extension(leaf, x509.BasicConstraints)
    usage = _extension(leaf, x509.KeyUsage)
    if basic is not None and basic.ca:
        message = f"certificate of {identity} is a CA certificate, not an SVID"
        raise IntegrityError(message)
    if usage is not None and (usage.key_cert_sign or usage.crl_sign or not usage.digital_signature):
        message = f"certificate of {identity}: its key usage is not that of an SVID"
        raise IntegrityError(message)


def _reason(leaf: x509.Certificate, at: int, error: Exception) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    if moment > leaf.not_valid_after_utc:
        return f"it expired at {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    if moment < leaf.not_valid_before_utc:
        return f"it is valid only from {leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    return ascii(str(error))[1:-1][:200]  # may quote names from the certificates


_E = TypeVar("_E", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    """Return an extension or ``None``. ``FormatError`` for a certificate whose extensions cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except _MALFORMED as error:
        message = "certificate: malformed extensions"
        raise FormatError(message) from error


@lru_cache(maxsize=256)
def _load(der: bytes) -> x509.Certificate:
    """A check reads its leaf several times, and a job signs several documents with one certificate."""
    try:
        certificate = parsed(der)
        sound = certificate.serial_number > 0  # RFC 5280 section 4.1.2.2; this version of the library only warns
    except _MALFORMED as error:
        message = "certificate: not a DER certificate"
        raise FormatError(message) from error
    if not sound:
        message = "certificate: its serial number is not positive"
        raise FormatError(message)
    return certificate
