"""Whatever the sizes: what is sealed is what is opened, and no change of a stored byte goes unseen."""

import hashlib
import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.crypto.floe import HEADER_SIZE
from custody.errors import CustodyError
from custody.segments.layout import FilePlan
from tests.doubles.sealed import Sealed, plaintext, seal

SIZES = st.integers(0, 300)
SEGMENTS = st.sampled_from([1, 2, 16, 64, 100, 256])


def entropy(seed: int) -> Callable[[int], bytes]:
    drawn = iter(range(1 << 30))
    return lambda size: hashlib.shake_256(b"%d %d" % (seed, next(drawn))).digest(size)


@given(size=st.integers(0, 10**7), segment=st.integers(1, 10**6))
def test_segments_tile_the_file_and_its_ciphertext_exactly(size: int, segment: int) -> None:
    plan = FilePlan(bytes(32), 0, size, segment, "x")
    picked = sorted({0, 1, plan.count // 2, plan.count - 2, plan.count - 1} & set(range(plan.count)))
    assert plan.locate(0).stored_offset == HEADER_SIZE
    for i in picked:
        where = plan.locate(i)
        assert where.offset == i * segment
        assert where.is_final == (i == plan.count - 1)
        assert (
            plan.segment_at(where.stored_offset) == plan.segment_at(where.stored_offset + where.stored_length - 1) == i
        )
        if not where.is_final:
            following = plan.locate(i + 1)
            assert where.stored_offset + where.stored_length == following.stored_offset
            assert where.offset + where.length == following.offset
    last = plan.locate(plan.count - 1)
    assert (last.offset + last.length, last.stored_offset + last.stored_length) == (size, plan.stored_size)


@given(size=st.integers(1, 10**6), segment=st.integers(1, 10**5), data=st.data())
def test_a_range_is_covered_by_exactly_the_segments_that_hold_it(size: int, segment: int, data: st.DataObject) -> None:
    plan = FilePlan(bytes(32), 0, size, segment, "x")
    offset = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - offset))
    covering = plan.covering(offset, length)
    first, last = plan.locate(covering[0]), plan.locate(covering[-1])
    assert first.offset <= offset < first.offset + first.length
    assert last.offset < offset + length <= last.offset + last.length


@given(size=SIZES, segment=SEGMENTS, seal_threads=st.integers(1, 3), read_threads=st.integers(1, 3), data=st.data())
def test_any_range_of_any_file_reads_back(
    size: int, segment: int, seal_threads: int, read_threads: int, data: st.DataObject
) -> None:
    plain = plaintext(size)
    sealed = seal(plain, entropy(size), threads=seal_threads, segment=segment)
    offset = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - offset))
    out, sink = bytearray(length), io.BytesIO()
    with sealed.open() as file:
        file.read_into(offset, memoryview(out), threads=read_threads)
        file.copy_to(sink, threads=read_threads)
    assert out == plain[offset : offset + length]
    assert sink.getvalue() == plain


@given(size=SIZES, segment=SEGMENTS, data=st.data())
def test_a_change_of_any_stored_byte_is_refused(size: int, segment: int, data: st.DataObject) -> None:
    sealed = seal(plaintext(size), entropy(size), segment=segment)
    blob = data.draw(st.sampled_from([sealed.ciphertext, sealed.digests]))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CustodyError):
        _read_every_segment(sealed)


def _read_every_segment(sealed: Sealed) -> None:
    with sealed.open() as file:
        for i in range(sealed.plan.count):  # an empty file has a segment too
            file.read_segment_into(i, memoryview(bytearray(sealed.plan.segment)))
