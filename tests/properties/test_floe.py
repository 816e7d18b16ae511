"""For every file, segment size and damage: FLOE gives back the plaintext or an error, and never leaves a wrong byte."""

import hashlib
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from custody.crypto.floe import (
    HEADER_SIZE,
    OVERHEAD,
    Decryptor,
    Encryptor,
    Params,
    segment_count,
    segment_range,
    stored_size,
)
from custody.crypto.secret import SecretBytes
from custody.errors import FormatError, IntegrityError

AAD = b"aad"


def stream(seed: bytes) -> Callable[[int], bytes]:
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(seed + drawn.to_bytes(8, "big")).digest(size)

    return draw


def seal(plaintext: bytes, segment: int) -> bytearray:
    stored = bytearray(stored_size(len(plaintext), segment))
    with SecretBytes(32) as key, Encryptor(key, AAD, Params(segment), stream(plaintext)) as floe:
        stored[:HEADER_SIZE] = floe.header
        for i in range(segment_count(len(plaintext), segment)):
            where = segment_range(len(plaintext), segment, i)
            floe.encrypt_into(
                i,
                where.is_final,
                memoryview(plaintext)[where.offset : where.offset + where.length],
                memoryview(stored)[where.stored_offset : where.stored_offset + where.stored_length],
            )
    return stored


def open_(stored: bytes | bytearray, size: int, segment: int) -> bytes:
    found = bytearray()
    out = memoryview(bytearray(segment))
    with SecretBytes(32) as key, Decryptor(key, AAD, Params(segment), bytes(stored[:HEADER_SIZE])) as floe:
        for i in range(segment_count(size, segment)):
            where = segment_range(size, segment, i)
            part = memoryview(stored)[where.stored_offset : where.stored_offset + where.stored_length]
            try:
                found += out[: floe.decrypt_into(i, where.is_final, part, out)]
            except IntegrityError:
                # What an earlier segment left is replaced or wiped, never mixed with unverified plaintext.
                left = bytes(out[: where.length])
                assert left in (bytes(where.length), found[-segment:][: where.length]), "unverified plaintext left"
                raise
    return bytes(found)


@given(plaintext=st.binary(max_size=300), segment=st.integers(1, 70))
def test_every_file_comes_back(plaintext: bytes, segment: int) -> None:
    stored = seal(plaintext, segment)
    assert len(stored) == stored_size(len(plaintext), segment)
    assert open_(stored, len(plaintext), segment) == plaintext


@given(st.data(), st.binary(max_size=200), st.integers(1, 70))
def test_any_change_of_the_stored_bytes_is_refused(data: st.DataObject, plaintext: bytes, segment: int) -> None:
    stored = seal(plaintext, segment)
    position = data.draw(st.integers(0, len(stored) - 1))
    stored[position] ^= data.draw(st.integers(1, 255))
    try:
        open_(stored, len(plaintext), segment)
    except (FormatError, IntegrityError):
        return
    raise AssertionError("altered ciphertext was accepted")


@given(st.data(), st.binary(max_size=200), st.integers(1, 70))
def test_a_file_never_passes_for_one_of_another_size(data: st.DataObject, plaintext: bytes, segment: int) -> None:
    """With one AAD for both sizes, which Custody never has: the segments alone must tell."""
    stored = seal(plaintext, segment)
    size = data.draw(st.integers(0, 300).filter(lambda n: n != len(plaintext)))
    try:
        found = open_(stored, size, segment)
    except (FormatError, IntegrityError):
        return
    # A final segment may be cut shorter than the caller's size says, where stored bytes are missing: fewer come out.
    assert len(found) < size


@given(size=st.integers(0, 1 << 50), segment=st.integers(10, 30).map(lambda bits: 1 << bits), data=st.data())
def test_ranges_tile_the_file(size: int, segment: int, data: st.DataObject) -> None:
    count = segment_count(size, segment)
    i = data.draw(st.integers(0, count - 1))
    where = segment_range(size, segment, i)
    assert where.stored_length == where.length + OVERHEAD
    assert where.is_final == (i == count - 1)
    if where.is_final:
        assert where.offset + where.length == size
        assert where.stored_offset + where.stored_length == stored_size(size, segment)
    else:
        following = segment_range(size, segment, i + 1)
        assert (following.offset, following.stored_offset) == (
            where.offset + where.length,
            where.stored_offset + where.stored_length,
        )


@given(st.binary(max_size=200))
def test_garbage_as_header_is_refused(header: bytes) -> None:
    with SecretBytes(32) as key:
        try:
            Decryptor(key, AAD, Params(64), header)
        except (FormatError, IntegrityError):
            return
    raise AssertionError("garbage was accepted as a header")


@given(part=st.binary(max_size=120), final=st.sampled_from([False, True]), position=st.integers(0, (1 << 40) - 1))
def test_garbage_as_segment_is_refused(*, part: bytes, final: bool, position: int) -> None:
    out = memoryview(bytearray(64))
    with SecretBytes(32) as key, Encryptor(key, AAD, Params(64), stream(b"")) as made:
        floe = Decryptor(key, AAD, Params(64), made.header)
        try:
            floe.decrypt_into(position, final, memoryview(part), out)
        except IntegrityError:
            assert not any(out)
            return
        finally:
            floe.close()
    raise AssertionError("garbage was accepted as a segment")
