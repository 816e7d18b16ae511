import pytest

from custody.crypto import sodium
from custody.crypto.sodium import L


def scalar(n: int) -> bytes:
    return n.to_bytes(32, "little")


def value(out: memoryview) -> int:
    return int.from_bytes(out, "little")


def test_arithmetic_agrees_with_integers() -> None:
    out = memoryview(bytearray(32))
    for a, b in ((0, 0), (1, L - 1), (L - 1, L - 1), (3**150, 5**100)):
        sodium.scalar_add(out, scalar(a), scalar(b))
        assert value(out) == (a + b) % L
        sodium.scalar_sub(out, scalar(a), scalar(b))
        assert value(out) == (a - b) % L
        sodium.scalar_mul(out, scalar(a), scalar(b))
        assert value(out) == a * b % L
    sodium.scalar_reduce(out, b"\xff" * 64)
    assert value(out) == (2**512 - 1) % L


def test_an_output_may_be_an_input() -> None:
    out = memoryview(bytearray(scalar(7)))
    sodium.scalar_add(out, out, out)
    sodium.scalar_mul(out, out, out)
    sodium.scalar_sub(out, out, scalar(96))
    assert value(out) == 100


def test_canonical_means_below_the_group_order() -> None:
    assert all(sodium.is_canonical(scalar(n)) for n in (0, 1, L - 1))
    assert not any(sodium.is_canonical(scalar(n)) for n in (L, L + 1, 2 * L, 2**255, 2**256 - 1))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_wrong_size_never_reaches_the_library(size: int) -> None:
    good = memoryview(bytearray(32))
    for call in (sodium.scalar_add, sodium.scalar_sub, sodium.scalar_mul):
        with pytest.raises(ValueError):
            call(good, bytes(size), bytes(32))
        with pytest.raises(ValueError):
            call(good, bytes(32), bytes(size))
        with pytest.raises(ValueError):
            call(memoryview(bytearray(size)), bytes(32), bytes(32))
    with pytest.raises(ValueError):
        sodium.scalar_reduce(good, bytes(size))
    with pytest.raises(ValueError):
        sodium.is_canonical(bytes(size))


def test_a_read_only_buffer_is_not_written_to() -> None:
    with pytest.raises((BufferError, TypeError, ValueError)):
        sodium.scalar_add(memoryview(bytes(32)), bytes(32), bytes(32))
    with pytest.raises((BufferError, TypeError, ValueError)):
        sodium.wipe(memoryview(bytes(32)))


def test_random_bytes_differ_and_fill_the_buffer() -> None:
    buffers = [memoryview(bytearray(64)) for _ in range(2)]
    for buffer in buffers:
        sodium.random_into(buffer)
    assert buffers[0] != buffers[1]
    assert any(buffers[0][48:])


def test_wiping_takes_empty_buffers_and_leaves_shared_objects_alone() -> None:
    sodium.wipe(memoryview(bytearray()))
    sodium.wipe_bytes(b"")
    sodium.wipe_bytes(bytes([65]))
    assert bytes([65]) == b"A"


def test_points_of_the_prime_group_are_told_from_others() -> None:
    base = bytes.fromhex("58" + "66" * 31)
    assert sodium.is_valid_point(base)
    assert not sodium.is_valid_point(bytes(32))
