import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from custody.crypto import keys
from custody.crypto.encoding import lp
from custody.crypto.keys import WorkloadKey
from custody.crypto.secret import RandomInto, SecretBytes
from custody.errors import FormatError, IntegrityError

MESSAGE = b"terms"
P = 2**255 - 19

# Points of small order and non-canonical encodings (the order divides 8, y and x signs spelled every way).
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 1 + p
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # p
    "0100000000000000000000000000000000000000000000000000000000000080",
]


@pytest.fixture
def seed(random_into: RandomInto) -> SecretBytes:
    return SecretBytes.random(32, random_into)


def test_a_signature_verifies_and_is_deterministic(seed: SecretBytes) -> None:
    signature = keys.sign(seed, MESSAGE)
    keys.verify(keys.public_from_seed(seed), signature, MESSAGE)
    assert signature == keys.sign(seed, MESSAGE)


def test_rfc_8032_test_1() -> None:
    raw = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = keys.public_from_seed(SecretBytes.take(bytearray.fromhex(raw)))
    assert public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_any_flipped_bit_of_a_signature_is_refused(seed: SecretBytes) -> None:
    public, signature = keys.public_from_seed(seed), keys.sign(seed, MESSAGE)
    for bit in range(8 * 64):
        altered = bytearray(signature)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            keys.verify(public, bytes(altered), MESSAGE)


def test_another_message_key_or_length_is_refused(seed: SecretBytes) -> None:
    public, signature = keys.public_from_seed(seed), keys.sign(seed, MESSAGE)
    with pytest.raises(IntegrityError):
        keys.verify(public, signature, MESSAGE + b"\0")
    with pytest.raises(IntegrityError):
        keys.verify(keys.public_from_seed(SecretBytes(32)), signature, MESSAGE)
    for wrong in ((public[:31], signature), (public, signature[:63]), (public, signature + b"\0"), (b"", b"")):
        with pytest.raises(FormatError):
            keys.verify(*wrong, MESSAGE)


def test_a_malleable_signature_is_refused(seed: SecretBytes) -> None:
    """S + L verifies under a lenient reading of RFC 8032."""
    group_order = 2**252 + 27742317777372353535851937790883648493
    public, signature = keys.public_from_seed(seed), keys.sign(seed, MESSAGE)
    s = int.from_bytes(signature[32:], "little") + group_order
    with pytest.raises(IntegrityError):
        keys.verify(public, signature[:32] + s.to_bytes(32, "little"), MESSAGE)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_of_small_order_is_refused_at_enrolment(point: str) -> None:
    with pytest.raises(FormatError, match="Ed25519 public key"):
        keys.check_public(bytes.fromhex(point))


def test_what_is_no_point_of_the_group_is_refused_at_enrolment(seed: SecretBytes) -> None:
    good = keys.public_from_seed(seed)
    keys.check_public(good)
    not_on_curve = (2).to_bytes(32, "little")
    for bad in (b"", good[:31], good + b"\0", not_on_curve, b"\xff" * 32, (P + 3).to_bytes(32, "little")):
        with pytest.raises(FormatError):
            keys.check_public(bad)


def test_the_key_id_hashes_both_public_keys(seed: SecretBytes) -> None:
    public, xwing = keys.public_from_seed(seed), bytes(1216)
    assert keys.key_id(public) == hashlib.sha256(lp(b"custody/v1/keyid") + public).digest()
    assert keys.key_id(public, xwing) == hashlib.sha256(lp(b"custody/v1/keyid") + public + xwing).digest()
    for bad in ((public[:31], b""), (public, b"x"), (public, xwing[:-1])):
        with pytest.raises(FormatError):
            keys.key_id(*bad)


def certificate(key: WorkloadKey | ed448.Ed448PrivateKey) -> bytes:
    name = x509.Name([])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    issuer = Ed25519PrivateKey.generate()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(hours=1))
    )
    return builder.sign(issuer, None).public_bytes(Encoding.DER)


MAKE: dict[str, Callable[[], WorkloadKey]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", MAKE)
def test_an_svid_signature_verifies_and_nothing_near_it_does(kind: str) -> None:
    key, other = MAKE[kind](), MAKE[kind]()
    signature = keys.sign_svid(key, MESSAGE)
    keys.verify_svid_signature(certificate(key), signature, MESSAGE)
    altered = bytearray(signature)
    altered[-1] ^= 1
    for leaf, attempt, message in (
        (certificate(other), signature, MESSAGE),
        (certificate(key), bytes(altered), MESSAGE),
        (certificate(key), signature[:-1], MESSAGE),
        (certificate(key), b"", MESSAGE),
        (certificate(key), signature, MESSAGE + b"!"),
    ):
        with pytest.raises(IntegrityError):
            keys.verify_svid_signature(leaf, attempt, message)


def test_an_algorithm_that_the_key_does_not_name_is_refused() -> None:
    """The document cannot choose: PKCS#1 v1.5, another hash, another salt, a raw ECDSA pair."""
    key = rsa.generate_private_key(65537, 2048)
    mgf = padding.MGF1(SHA256())
    attempts = [
        key.sign(MESSAGE, padding.PKCS1v15(), SHA256()),
        key.sign(MESSAGE, padding.PSS(mgf, 32), SHA384()),
        key.sign(MESSAGE, padding.PSS(mgf, 20), SHA256()),
        key.sign(MESSAGE, padding.PSS(padding.MGF1(SHA1()), 32), SHA256()),  # noqa: S303
    ]
    for attempt in attempts:
        with pytest.raises(IntegrityError):
            keys.verify_svid_signature(certificate(key), attempt, MESSAGE)
    curve = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(IntegrityError):
        keys.verify_svid_signature(certificate(curve), curve.sign(MESSAGE, ec.ECDSA(SHA384())), MESSAGE)
    with pytest.raises(IntegrityError):
        keys.verify_svid_signature(certificate(curve), bytes(64), MESSAGE)


def test_keys_of_other_kinds_are_refused_for_signing_and_verifying() -> None:
    others = [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - too small is the point
        ed448.Ed448PrivateKey.generate(),
    ]
    for key in others:
        with pytest.raises(FormatError, match="SVID"):
            keys.verify_svid_signature(certificate(key), bytes(64), MESSAGE)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(FormatError, match="SVID"):
            keys.sign_svid(key, MESSAGE)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("leaf", [b"", b"\0", b"0" * 500, b"\x30\x82\xff\xff"])
def test_what_is_no_certificate_is_refused(leaf: bytes) -> None:
    with pytest.raises(FormatError, match="SVID"):
        keys.verify_svid_signature(leaf, bytes(64), MESSAGE)
    with pytest.raises(FormatError, match="SVID"):
        keys.verify_svid_signature(certificate(Ed25519PrivateKey.generate()) + leaf[:1] + b"\0", bytes(64), MESSAGE)
