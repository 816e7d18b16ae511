"""Invisible salamanders: GCM alone lets a malicious sealer make one ciphertext for two keys. FLOE's header does not."""

import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from custody.crypto.floe import Decryptor, Encryptor, Params
from custody.crypto.secret import SecretBytes
from custody.errors import IntegrityError

PARAMS = Params(64)
Rng = Callable[[int], bytes]


def salamander(rng: Rng) -> tuple[bytes, bytes, bytes]:
    """One GCM ciphertext that two keys open: (nonce, ciphertext, tag), by solving for one block of ciphertext.

    With one block C, AAD A and lengths S, the tag under a key is C H^2 + A H^3 + S H + E. Two keys give one tag when
    C (H1^2 + H2^2) = the sum of all else, which has a solution for nearly every pair of keys.
    """

    def multiply(x: int, y: int) -> int:
        product = 0
        for bit in range(127, -1, -1):
            product ^= x if y >> bit & 1 else 0
            x = (x >> 1) ^ (0xE1 << 120 if x & 1 else 0)
        return product

    def inverse(x: int) -> int:
        result, power = 1 << 127, x
        for _ in range(127):
            power = multiply(power, power)
            result = multiply(result, power)
        return result

    nonce = rng(12)
    bound = int.from_bytes(struct.pack(">QB", 0, 1) + bytes(7), "big")
    lengths = int.from_bytes(struct.pack(">QQ", 9 * 8, 16 * 8), "big")
    constant, square = 0, 0
    for fill in (7, 8):
        # E and H by encrypting nothing under chosen AAD: tag(no data, no AAD) = E, since the lengths are zero.
        gcm = AESGCM(bytes([fill]) * 32)
        e = int.from_bytes(gcm.encrypt(nonce, b"", None), "big")
        h = hash_key(bytes([fill]) * 32)
        h2 = multiply(h, h)
        constant ^= multiply(bound, multiply(h2, h)) ^ multiply(lengths, h) ^ e
        square ^= h2
    block = multiply(constant, inverse(square))
    h = hash_key(bytes([7]) * 32)
    h2 = multiply(h, h)
    tag = multiply(block, h2) ^ multiply(bound, multiply(h2, h)) ^ multiply(lengths, h)
    tag ^= int.from_bytes(AESGCM(bytes([7]) * 32).encrypt(nonce, b"", None), "big")
    return nonce, block.to_bytes(16, "big"), tag.to_bytes(16, "big")


def hash_key(raw: bytes) -> int:
    """The GHASH key: AES of the zero block."""
    return int.from_bytes(Cipher(algorithms.AES(raw), modes.ECB()).encryptor().update(bytes(16)), "big")  # noqa: S305


def test_a_ciphertext_made_for_two_keys_is_refused_before_any_segment(rng: Rng) -> None:
    nonce, block, tag = salamander(rng)
    bound = struct.pack(">QB", 0, 1)
    plaintexts = {AESGCM(bytes([fill]) * 32).decrypt(nonce, block + tag, bound) for fill in (7, 8)}
    assert len(plaintexts) == 2  # GCM alone opens it under both keys

    # The sealer is malicious: one header for both file keys. The tag can be right for one of them only.
    first, second = (SecretBytes.take(bytearray([fill] * 32)) for fill in (7, 8))
    with Encryptor(first, b"aad", PARAMS, rng) as floe:
        header = floe.header
    Decryptor(first, b"aad", PARAMS, header).close()
    with pytest.raises(IntegrityError, match="header"):
        Decryptor(second, b"aad", PARAMS, header)
