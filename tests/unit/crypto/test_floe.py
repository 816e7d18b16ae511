# ruff: noqa: FBT003 - whether a segment is final is the second word of every call here
import struct
import threading
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from custody.crypto.floe import (
    HEADER_SIZE,
    MAX_SEGMENT,
    OVERHEAD,
    Decryptor,
    Encryptor,
    Params,
    floe_aad,
    segment_count,
    segment_range,
    stored_size,
)
from custody.crypto.secret import SecretBytes
from custody.errors import FormatError, IntegrityError

SEGMENT = 64
PARAMS = Params(SEGMENT)
SIZE = 3 * SEGMENT + 5
PLAINTEXT = bytes(i % 251 for i in range(SIZE))
VID = b"v" * 32
Rng = Callable[[int], bytes]


def key(fill: int = 7) -> SecretBytes:
    return SecretBytes.take(bytearray([fill] * 32))


def aad(index: int = 0) -> bytes:
    return floe_aad(VID, index, SIZE, segment_count(SIZE, SEGMENT))


def seal(rng: Rng, plaintext: bytes = PLAINTEXT, fill: int = 7, index: int = 0) -> bytearray:
    """The stored file."""
    size = len(plaintext)
    stored = bytearray(stored_size(size, SEGMENT))
    with Encryptor(key(fill), aad(index), PARAMS, rng) as floe:
        stored[:HEADER_SIZE] = floe.header
        for i in range(segment_count(size, SEGMENT)):
            where = segment_range(size, SEGMENT, i)
            floe.encrypt_into(
                i,
                where.is_final,
                memoryview(plaintext)[where.offset : where.offset + where.length],
                memoryview(stored)[where.stored_offset : where.stored_offset + where.stored_length],
            )
    return stored


def open_(stored: bytes | bytearray, size: int = SIZE, fill: int = 7, index: int = 0) -> bytes:
    """The plaintext, from a stored file that may be shorter than it should be."""
    out = memoryview(bytearray(SEGMENT))
    found = b""
    with Decryptor(key(fill), aad(index), PARAMS, bytes(stored[:HEADER_SIZE])) as floe:
        for i in range(segment_count(size, SEGMENT)):
            where = segment_range(size, SEGMENT, i)
            part = memoryview(stored)[where.stored_offset : where.stored_offset + where.stored_length]
            found += out[: floe.decrypt_into(i, where.is_final, part, out)]
    return found


def at(i: int) -> slice:
    where = segment_range(SIZE, SEGMENT, i)
    return slice(where.stored_offset, where.stored_offset + where.stored_length)


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, SIZE, 4 * SEGMENT])
def test_a_file_of_any_size_comes_back(rng: Rng, size: int) -> None:
    plaintext = bytes(i % 251 for i in range(size))
    stored = seal(rng, plaintext)
    assert len(stored) == HEADER_SIZE + size + OVERHEAD * max(1, -(-size // SEGMENT))
    assert open_(stored, size) == plaintext


def test_segments_open_in_any_order(rng: Rng) -> None:
    stored = memoryview(seal(rng))
    out = memoryview(bytearray(SEGMENT))
    with Decryptor(key(), aad(), PARAMS, bytes(stored[:HEADER_SIZE])) as floe:
        for i in (3, 0, 2, 2, 1):
            length = floe.decrypt_into(i, i == 3, stored[at(i)], out)
            assert out[:length] == PLAINTEXT[i * SEGMENT :][:length]


def test_two_encryptions_share_no_segment(rng: Rng) -> None:
    first, second = seal(rng), seal(rng)
    assert all(first[at(i)] != second[at(i)] for i in range(4))
    assert first[:HEADER_SIZE] != second[:HEADER_SIZE]


def test_the_aad_binds_version_place_size_and_count() -> None:
    base = (VID, 1, 2, 3)
    assert floe_aad(*base) == b"\0" * 7 + b"\x0fcustody/v1/floe" + VID + struct.pack(">QQQ", 1, 2, 3)
    others = [(b"w" * 32, 1, 2, 3), (VID, 2, 2, 3), (VID, 1, 3, 3), (VID, 1, 2, 4)]
    assert len({floe_aad(*other) for other in [base, *others]}) == 5


def test_a_wrong_key_is_refused_at_the_header(rng: Rng) -> None:
    with pytest.raises(IntegrityError, match="header"):
        open_(seal(rng), fill=8)


def test_a_file_moved_to_another_place_is_refused_at_the_header(rng: Rng) -> None:
    with pytest.raises(IntegrityError, match="header"):
        open_(seal(rng), index=1)


def test_a_header_of_another_file_is_refused(rng: Rng) -> None:
    stored, other = seal(rng), seal(rng)
    stored[:HEADER_SIZE] = other[:HEADER_SIZE]
    with pytest.raises(IntegrityError, match="segment 0"):
        open_(stored)


@pytest.mark.parametrize("position", range(HEADER_SIZE))
def test_any_flipped_byte_of_the_header_is_refused(rng: Rng, position: int) -> None:
    stored = seal(rng)
    stored[position] ^= 0x10
    with pytest.raises((FormatError, IntegrityError), match="header"):
        open_(stored)


@pytest.mark.parametrize("size", [0, 10, HEADER_SIZE - 1, HEADER_SIZE + 1])
def test_a_header_of_another_length_is_refused(rng: Rng, size: int) -> None:
    header = bytes(seal(rng)[:size])
    with pytest.raises(FormatError, match="header"):
        Decryptor(key(), aad(), PARAMS, header)


def test_a_smaller_segment_size_in_the_header_is_refused(rng: Rng) -> None:
    header = bytearray(seal(rng)[:HEADER_SIZE])
    header[2:6] = (40).to_bytes(4, "big")
    with pytest.raises(FormatError, match="parameters"):
        Decryptor(key(), aad(), PARAMS, bytes(header))


def test_reordered_segments_are_refused(rng: Rng) -> None:
    stored = seal(rng)
    stored[at(0)], stored[at(1)] = stored[at(1)], stored[at(0)]
    with pytest.raises(IntegrityError, match="segment 0"):
        open_(stored)


def test_a_duplicated_segment_is_refused(rng: Rng) -> None:
    stored = seal(rng)
    stored[at(2)] = stored[at(1)]
    with pytest.raises(IntegrityError, match="segment 2"):
        open_(stored)


def test_a_dropped_segment_is_refused(rng: Rng) -> None:
    stored = seal(rng)
    del stored[at(1)]
    with pytest.raises(IntegrityError, match="segment 1"):
        open_(stored)


def test_a_segment_of_another_file_under_the_same_key_is_refused(rng: Rng) -> None:
    stored = seal(rng)
    stored[at(1)] = seal(rng)[at(1)]
    with pytest.raises(IntegrityError, match="segment 1"):
        open_(stored)


def test_truncation_at_every_byte_is_refused(rng: Rng) -> None:
    stored = seal(rng)
    assert open_(stored) == PLAINTEXT
    for length in range(len(stored)):
        with pytest.raises((FormatError, IntegrityError)):
            open_(stored[:length])


def test_truncation_to_a_segment_boundary_with_a_believable_prefix_is_refused(rng: Rng) -> None:
    stored = seal(rng)
    stored[at(2).start : at(2).start + 4] = (SEGMENT + OVERHEAD).to_bytes(4, "big")
    with pytest.raises(IntegrityError, match="segment 2"):
        open_(stored[: at(2).stop], size=3 * SEGMENT)


def test_an_appended_segment_is_refused(rng: Rng) -> None:
    stored = seal(rng, PLAINTEXT[: 3 * SEGMENT])
    with pytest.raises(IntegrityError, match="segment 2"):
        open_(stored + stored[at(2)], size=4 * SEGMENT)


def test_every_flipped_bit_of_a_segment_is_refused_and_leaves_no_plaintext(rng: Rng) -> None:
    stored = seal(rng)
    out = memoryview(bytearray(SEGMENT))
    with Decryptor(key(), aad(), PARAMS, bytes(stored[:HEADER_SIZE])) as floe:
        for bit in range(8 * (SEGMENT + OVERHEAD)):
            part = bytearray(stored[at(1)])
            part[bit // 8] ^= 1 << bit % 8
            with pytest.raises(IntegrityError, match="segment 1"):
                floe.decrypt_into(1, False, memoryview(part), out)
            assert out == bytes(SEGMENT)
        assert floe.decrypt_into(1, False, memoryview(stored)[at(1)], out) == SEGMENT
        assert out == PLAINTEXT[SEGMENT : 2 * SEGMENT]


def test_the_library_alone_would_leave_plaintext_behind() -> None:
    """Why the buffer is wiped: should this fail one day, the library has learnt to do it itself."""
    from cryptography.exceptions import InvalidTag

    gcm = AESGCM(bytes(32))
    sealed = bytearray(gcm.encrypt(bytes(12), b"secret weights", None))
    sealed[-1] ^= 1
    out = bytearray(14)
    with pytest.raises(InvalidTag):
        gcm.decrypt_into(bytes(12), sealed, None, out)
    assert out == b"secret weights"


def test_wiping_touches_only_the_segment(rng: Rng) -> None:
    stored = seal(rng)
    stored[-1] ^= 1
    out = memoryview(bytearray(b"n" * SEGMENT))
    with (
        Decryptor(key(), aad(), PARAMS, bytes(stored[:HEADER_SIZE])) as floe,
        pytest.raises(IntegrityError, match="segment 3"),
    ):
        floe.decrypt_into(3, True, memoryview(stored)[at(3)], out)
    assert out == bytes(5) + b"n" * (SEGMENT - 5)


def test_a_final_flag_that_the_size_does_not_give_is_refused(rng: Rng) -> None:
    stored = memoryview(seal(rng))
    out = memoryview(bytearray(SEGMENT))
    with Decryptor(key(), aad(), PARAMS, bytes(stored[:HEADER_SIZE])) as floe:
        with pytest.raises(IntegrityError, match="segment 1: the length prefix"):
            floe.decrypt_into(1, True, stored[at(1)], out)
        with pytest.raises(IntegrityError, match="segment 3"):
            floe.decrypt_into(3, False, stored[at(3)], out)


def test_after_the_rotation_another_aead_key_is_used(rng: Rng) -> None:
    """With the private mask of the vectors: segments 3 and 4 have different keys, 0 and 3 the same."""
    params = Params(SEGMENT, 2)
    out = memoryview(bytearray(SEGMENT + OVERHEAD))
    plain = memoryview(bytearray(SEGMENT))
    with Encryptor(key(), b"", params, rng) as floe:
        for position in (0, 3, 4, 7, 8):
            floe.encrypt_into(position, False, plain, out)
        raw = {epoch: bytes(made.view) for epoch, made in floe._keys.items()}
    assert set(raw) == {0, 1, 2}
    assert len(set(raw.values())) == 3


def test_closing_wipes_every_key_and_ends_use(rng: Rng) -> None:
    stored = memoryview(seal(rng))
    out = memoryview(bytearray(SEGMENT + OVERHEAD))
    decryptor = Decryptor(key(), aad(), PARAMS, bytes(stored[:HEADER_SIZE]))
    decryptor.decrypt_into(1, False, stored[at(1)], out)
    encryptor = Encryptor(key(), aad(), PARAMS, rng)
    encryptor.encrypt_into(0, True, stored[:5], out)
    for floe in (decryptor, encryptor):
        views = [floe._message_key.view[:], *(made.view[:] for made in floe._keys.values())]
        assert all(any(view) for view in views)
        floe.close()
        assert not any(any(view) for view in views)
        assert not any(floe._idle.values())
    with pytest.raises(ValueError, match="wiped"):
        decryptor.decrypt_into(1, False, stored[at(1)], out)
    with pytest.raises(ValueError, match="wiped"):
        encryptor.encrypt_into(0, True, stored[:5], out)


def test_a_segment_under_way_when_the_keys_are_wiped_is_discarded(rng: Rng) -> None:
    """The close happens between the choice of the nonce and the end: what was encrypted is wiped, not returned."""
    out = memoryview(bytearray(SEGMENT + OVERHEAD))

    def close_then_draw(size: int) -> bytes:
        if size == 12:
            floe._closed = True  # as another thread would, after the first check
        return rng(size)

    floe = Encryptor(key(), b"", PARAMS, close_then_draw)
    floe._idle[0] = [AESGCM(bytes(32))]
    with pytest.raises(ValueError, match="wiped"):
        floe.encrypt_into(0, True, memoryview(b"weights"), out)
    assert out == bytes(len(out))


def test_many_threads_read_different_segments_at_once(rng: Rng) -> None:
    stored = memoryview(seal(rng))
    wrong: list[int] = []
    with Decryptor(key(), aad(), Params(SEGMENT), bytes(stored[:HEADER_SIZE])) as floe:

        def read(i: int) -> None:
            out = memoryview(bytearray(SEGMENT))
            for _ in range(300):
                length = floe.decrypt_into(i, i == 3, stored[at(i)], out)
                if out[:length] != PLAINTEXT[i * SEGMENT :][:length]:
                    wrong.append(i)

        threads = [threading.Thread(target=read, args=(i,)) for i in (0, 1, 2, 3, 3, 0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(floe._idle[0]) <= len(threads)
    assert not wrong


@pytest.mark.parametrize("size", [8, 11, 13, 16])
def test_a_nonce_that_is_not_12_bytes_is_refused(rng: Rng, size: int) -> None:
    floe = Encryptor(key(), b"", PARAMS, lambda n: rng(n if n == 32 else size))
    with pytest.raises(ValueError, match="nonce"):
        floe.encrypt_into(0, True, memoryview(b"x"), memoryview(bytearray(64)))


def test_plaintext_of_a_wrong_length_is_the_callers_mistake(rng: Rng) -> None:
    floe = Encryptor(key(), b"", PARAMS, rng)
    out = memoryview(bytearray(200))
    for length, is_final, room in ((63, False, 200), (65, False, 200), (65, True, 200), (64, True, 95)):
        with pytest.raises(ValueError):
            floe.encrypt_into(0, is_final, memoryview(bytes(length)), out[:room])
    for position in (-1, 1 << 40):
        with pytest.raises(ValueError):
            floe.encrypt_into(position, True, memoryview(b"x"), out)
    assert floe.encrypt_into((1 << 40) - 1, True, memoryview(b"x"), out) == 33


def test_room_for_less_than_the_segment_is_the_callers_mistake(rng: Rng) -> None:
    stored = memoryview(seal(rng))
    floe = Decryptor(key(), aad(), PARAMS, bytes(stored[:HEADER_SIZE]))
    with pytest.raises(ValueError, match="room"):
        floe.decrypt_into(0, False, stored[at(0)], memoryview(bytearray(SEGMENT - 1)))


def test_sizes_and_ranges() -> None:
    assert [segment_count(size, 4) for size in (0, 1, 4, 5, 8, 9)] == [1, 1, 1, 2, 2, 3]
    assert segment_range(9, 4, 2) == (HEADER_SIZE + 72, 33, 8, 1, True)
    assert segment_range(8, 4, 1) == (HEADER_SIZE + 36, 36, 4, 4, True)
    assert segment_range(0, 4, 0) == (HEADER_SIZE, 32, 0, 0, True)
    assert segment_count(1 << 40, 1) == 1 << 40
    with pytest.raises(FormatError, match="file size"):
        segment_count((1 << 40) + 1, 1)
    for size, segment, i in ((9, 4, 3), (9, 4, -1), (-1, 4, 0), (9, 0, 0)):
        with pytest.raises(ValueError):
            segment_range(size, segment, i)
    for segment in (0, -1, MAX_SEGMENT + 1):
        with pytest.raises(ValueError):
            Params(segment)


def test_keys_and_vids_of_a_wrong_size_are_the_callers_mistake(rng: Rng) -> None:
    with pytest.raises(ValueError):
        Encryptor(SecretBytes(31), b"", PARAMS, rng)
    with pytest.raises(ValueError):
        Encryptor(key(), b"", PARAMS, lambda _: rng(31))
    with pytest.raises(ValueError):
        floe_aad(VID[:31], 0, 0, 1)
