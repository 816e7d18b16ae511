"""The published vectors of FLOE (Snowflake-Labs/floe-specification, kats/), from two other implementations.

Key: 32 zero bytes. AAD: "This is AAD". The segment size stands in the header, here it follows from the name.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from custody.crypto.floe import HEADER_SIZE, OVERHEAD, Decryptor, Encryptor, Params
from custody.crypto.secret import SecretBytes

AAD = b"This is AAD"
SETS = {
    "go_GCM256_IV256_4K": Params(4096 - OVERHEAD),
    "go_GCM256_IV256_64": Params(64 - OVERHEAD),
    "go_rotation": Params(40 - OVERHEAD, 2),
    "java_GCM256_IV256_4K": Params(4096 - OVERHEAD),
    "java_GCM256_IV256_64": Params(64 - OVERHEAD),
    "java_lastSegAligned": Params(40 - OVERHEAD),
    "java_lastSegEmpty": Params(40 - OVERHEAD),
    "java_rotation": Params(40 - OVERHEAD, 2),
}


def read(folder: Path, name: str) -> tuple[memoryview, bytes]:
    ciphertext = bytes.fromhex((folder / f"{name}_ct.txt").read_text())
    return memoryview(ciphertext), bytes.fromhex((folder / f"{name}_pt.txt").read_text())


def cut(ciphertext: memoryview, params: Params) -> list[memoryview]:
    stored = params.segment + OVERHEAD
    return [ciphertext[at : at + stored] for at in range(HEADER_SIZE, len(ciphertext), stored)]


def test_every_published_file_is_tried(vectors: Callable[[str], Path]) -> None:
    assert {path.name.removesuffix("_ct.txt") for path in vectors("floe").glob("*_ct.txt")} == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_published_ciphertext_decrypts(vectors: Callable[[str], Path], name: str) -> None:
    params = SETS[name]
    ciphertext, plaintext = read(vectors("floe"), name)
    segments = cut(ciphertext, params)
    out = memoryview(bytearray(params.segment))
    found = b""
    with SecretBytes(32) as key, Decryptor(key, AAD, params, bytes(ciphertext[:HEADER_SIZE])) as floe:
        for position, stored in enumerate(segments):
            found += out[: floe.decrypt_into(position, position == len(segments) - 1, stored, out)]
    assert found == plaintext


@pytest.mark.parametrize("name", SETS)
def test_published_ciphertext_comes_out_of_the_same_ivs(vectors: Callable[[str], Path], name: str) -> None:
    params = SETS[name]
    ciphertext, plaintext = read(vectors("floe"), name)
    segments = cut(ciphertext, params)
    ivs = iter([bytes(ciphertext[10:42]), *(bytes(stored[4:16]) for stored in segments)])
    out = memoryview(bytearray(params.segment + OVERHEAD))
    with SecretBytes(32) as key, Encryptor(key, AAD, params, lambda _: next(ivs)) as floe:
        made = floe.header
        for position, stored in enumerate(segments):
            start = position * params.segment
            part = memoryview(plaintext)[start : start + len(stored) - OVERHEAD]
            made += out[: floe.encrypt_into(position, position == len(segments) - 1, part, out)]
    assert made == ciphertext
