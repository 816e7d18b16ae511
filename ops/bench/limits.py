"""What the processor and the memory allow: the steps of our pipelines with nothing around them.

No keys, no checks, no order, no errors: two threads and library calls. What is beyond these figures no arrangement of
the same steps can reach; what ours lacks to them is the price of the rest.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_char, memmove
from pathlib import Path
from typing import Final

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from custody.app.sealing import SEGMENT
from custody.segments.buffers import huge_buffer
from ops.bench.model import Model

__all__ = ["copy_into_huge_pages", "decrypt", "decrypt_and_hash", "hash_keyed", "opening_steps", "sealing_steps"]

_Run = Callable[[], object]
_Work = Callable[[int, memoryview], object]
_STRETCH: Final = 8 << 20
"""Bytes that a thread takes at once, as ours do."""
_KEY: Final = bytes(32)
_NONCE: Final = bytes(12)


def copy_into_huge_pages(model: Model) -> _Run:
    """Two threads that copy into fresh huge pages: what the memory allows."""
    half = model.size // 2
    size = model.size

    def copy() -> memoryview:
        out = huge_buffer(size)

        def part(start: int, length: int) -> None:
            to = (c_char * length).from_buffer(out, start)
            memmove(to, (c_char * length).from_buffer(model.memory, start), length)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(part, (0, half), (half, size - half)))
        return out

    return copy


def opening_steps(model: Model) -> _Run:
    """Reading, AES-GCM into fresh huge pages, BLAKE3. What is decrypted is the model itself: the work is the same."""

    def run() -> memoryview:
        out = huge_buffer(model.size)

        _in_two_threads(model, lambda at, stored: decrypt_and_hash(stored, out[at : at + len(stored)]))
        return out

    return run


def decrypt_and_hash(stored: memoryview, place: memoryview) -> None:
    """Do what each segment takes of the processor, with any bytes."""
    decrypt(stored, place)
    hash_keyed(place)


def decrypt(stored: memoryview, place: memoryview) -> None:
    """AES-GCM, from one place to the other."""
    Cipher(AES256(_KEY), GCM(_NONCE)).decryptor().update_into(stored, place)


def hash_keyed(data: memoryview) -> None:
    """BLAKE3."""
    blake3(data, key=_KEY).digest()


def sealing_steps(model: Model, to: Path) -> _Run:
    """Reading, BLAKE3 of the plaintext, AES-GCM, BLAKE3 of the ciphertext, writing."""

    def run() -> None:
        spare = [memoryview(bytearray(SEGMENT)) for _ in range(2)]
        file = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

        def work(at: int, plaintext: memoryview) -> None:
            buffer = spare.pop()
            place = buffer[: len(plaintext)]
            hash_keyed(plaintext)
            Cipher(AES256(_KEY), GCM(_NONCE)).encryptor().update_into(plaintext, place)
            blake3(place).digest()
            os.pwrite(file, place, at)
            spare.append(buffer)

        try:
            _in_two_threads(model, work)
        finally:
            os.close(file)

    return run


def _in_two_threads(model: Model, work: _Work) -> None:
    """Read the file segment by segment, and have each worked on where it was read."""
    file = os.open(model.path, os.O_RDONLY | os.O_CLOEXEC)
    stretches = iter(range(0, model.size, _STRETCH))

    def lane() -> None:
        buffer = memoryview(bytearray(SEGMENT))
        for start in stretches:  # one step of the interpreter: no two threads get the same
            for at in range(start, min(start + _STRETCH, model.size), SEGMENT):
                work(at, buffer[: os.preadv(file, [buffer], at)])

    try:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(lane) for _ in range(2)]:
                done.result()
    finally:
        os.close(file)
