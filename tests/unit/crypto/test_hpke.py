import hashlib

import pytest

from custody.crypto import hpke
from custody.crypto.encoding import lp
from custody.crypto.secret import RandomInto, SecretBytes
from custody.errors import FormatError, IntegrityError

SHARE = b"s" * 32
INFO = b"custody test"

# draft-connolly-cfrg-xwing-kem-11, test vectors: seed, SHA-256 of the public key.
XWING = [
    (
        "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
        "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
    ),
    (
        "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
        "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
    ),
    (
        "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
        "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
    ),
]


def opened(seed: SecretBytes, sealed: bytes, info: bytes = INFO, size: int = 32) -> bytes:
    with SecretBytes(size) as out:
        hpke.open_into(seed, info, sealed, out)
        return bytes(out.view)


@pytest.fixture
def seed(random_into: RandomInto) -> SecretBytes:
    return SecretBytes.random(32, random_into)


def test_what_is_sealed_opens(seed: SecretBytes) -> None:
    sealed = hpke.seal(hpke.public_key(seed), INFO, SHARE)
    assert len(sealed) == 32 + hpke.OVERHEAD
    assert opened(seed, sealed) == SHARE


def test_sealing_is_randomized(seed: SecretBytes) -> None:
    public = hpke.public_key(seed)
    assert hpke.seal(public, INFO, SHARE) != hpke.seal(public, INFO, SHARE)


def test_another_key_is_refused(seed: SecretBytes, random_into: RandomInto) -> None:
    sealed = hpke.seal(hpke.public_key(seed), INFO, SHARE)
    with pytest.raises(IntegrityError, match="sealed secret"):
        opened(SecretBytes.random(32, random_into), sealed)


def test_another_info_is_refused(seed: SecretBytes) -> None:
    sealed = hpke.seal(hpke.public_key(seed), INFO, SHARE)
    for info in (b"", INFO + b"\0", INFO[:-1]):
        with pytest.raises(IntegrityError):
            opened(seed, sealed, info)


def test_a_flipped_bit_anywhere_is_refused(seed: SecretBytes) -> None:
    sealed = hpke.seal(hpke.public_key(seed), INFO, SHARE)
    assert opened(seed, sealed) == SHARE
    for position in (*range(0, len(sealed), 29), *range(1088, len(sealed), 3), len(sealed) - 1):
        altered = bytearray(sealed)
        altered[position] ^= 0x04
        with pytest.raises(IntegrityError):
            opened(seed, bytes(altered))


@pytest.mark.parametrize("change", [-1168, -48, -1, 1, 16])
def test_a_length_that_does_not_fit_is_refused_before_decrypting(seed: SecretBytes, change: int) -> None:
    sealed = hpke.seal(hpke.public_key(seed), INFO, SHARE)
    altered = sealed[: len(sealed) + change] if change < 0 else sealed + bytes(change)
    with pytest.raises(FormatError, match="bytes instead of 1168"):
        opened(seed, altered)


def test_a_low_order_x25519_point_in_the_ciphertext_is_refused(seed: SecretBytes) -> None:
    sealed = bytearray(hpke.seal(hpke.public_key(seed), INFO, SHARE))
    sealed[1088:1120] = bytes(32)
    with pytest.raises(IntegrityError):
        opened(seed, bytes(sealed))


def test_a_failed_opening_leaves_nothing_in_the_buffer(seed: SecretBytes) -> None:
    sealed = bytearray(hpke.seal(hpke.public_key(seed), INFO, SHARE))
    sealed[-1] ^= 1
    with SecretBytes(32) as out:
        with pytest.raises(IntegrityError):
            hpke.open_into(seed, INFO, bytes(sealed), out)
        assert bytes(out.view) == bytes(32)


def test_bad_public_keys_are_refused_at_enrolment(seed: SecretBytes) -> None:
    good = hpke.public_key(seed)
    hpke.check_public(good)
    coefficients_out_of_range = b"\xff" * 1152 + good[1152:]
    for bad in (b"", good[:-1], good + b"\0", coefficients_out_of_range, good[:1184] + bytes(32)):
        with pytest.raises(FormatError, match="X-Wing public key"):
            hpke.check_public(bad)


@pytest.mark.parametrize(("raw", "digest"), XWING)
def test_a_seed_expands_as_in_the_x_wing_draft(raw: str, digest: str) -> None:
    public = hpke.public_key(SecretBytes.take(bytearray.fromhex(raw)))
    assert hashlib.sha256(public).hexdigest() == digest


def test_a_seed_of_another_size_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError):
        hpke.public_key(SecretBytes(64))


def test_the_infos_are_those_of_the_specification() -> None:
    a, b, c, d = (bytes([n]) * 32 for n in range(4))
    assert hpke.wrap_info(a, 1, 2, b) == lp(b"custody/v1/wrap") + a + b"\1\2" + lp(b)
    assert hpke.release_info(a, b, c, d, 1, 2, a) == lp(b"custody/v1/release") + a + b + c + d + b"\1\2" + lp(a)
    assert hpke.direct_info(a, b, 7) == lp(b"custody/v1/direct") + a + b + b"\0" * 7 + b"\7"


def test_every_field_of_an_info_is_bound() -> None:
    a, b, c, d, e = (bytes([n]) * 32 for n in range(5))
    infos = {
        hpke.release_info(a, b, c, d, 1, 2, e),
        hpke.release_info(e, b, c, d, 1, 2, e),
        hpke.release_info(a, e, c, d, 1, 2, e),
        hpke.release_info(a, b, e, d, 1, 2, e),
        hpke.release_info(a, b, c, e, 1, 2, e),
        hpke.release_info(a, b, c, d, 2, 2, e),
        hpke.release_info(a, b, c, d, 1, 1, e),
        hpke.release_info(a, b, c, d, 1, 2, a),
    }
    assert len(infos) == 8


def test_a_digest_of_another_size_cannot_shift_the_fields() -> None:
    a = bytes(32)
    with pytest.raises(ValueError):
        hpke.wrap_info(a[:31], 1, 2, a)
    with pytest.raises(ValueError):
        hpke.release_info(a, a + b"\0", a[:31], a, 1, 2, a)
    with pytest.raises(ValueError):
        hpke.direct_info(a, a[:31], 0)
    with pytest.raises(ValueError):
        hpke.wrap_info(a, 256, 2, a)
