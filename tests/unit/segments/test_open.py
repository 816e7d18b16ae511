"""Opening a file as it was sealed."""

import ctypes
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from custody.crypto.floe import OVERHEAD
from custody.errors import IntegrityError, UnavailableError
from custody.segments.decrypt import SegmentDecryptor
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile, SegmentChecker
from custody.segments.streams import Forward, StillWanted, still_wanted
from tests.doubles.interrupting import interrupting
from tests.doubles.sealed import SEGMENT, Sealed, key, plaintext, seal
from tests.doubles.store import LongBlob, MemoryBlob

Rng = Callable[[int], bytes]

DATA = plaintext(5 * SEGMENT + 123)


@pytest.fixture
def sealed(rng: Rng) -> Sealed:
    return seal(DATA, rng)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 5 * SEGMENT + 123])
def test_what_was_sealed_comes_back(rng: Rng, size: int, threads: int) -> None:
    sealed = seal(DATA[:size], rng)
    assert sealed.read(threads=threads) == DATA[:size]
    sink = io.BytesIO()
    with sealed.open() as file:
        file.copy_to(sink, threads=threads)
    assert sink.getvalue() == DATA[:size]


def test_segments_are_read_one_by_one_in_any_order(sealed: Sealed) -> None:
    with sealed.open() as file:
        for i in (5, 0, 3, 3, 1):
            out = bytearray(b"?" * (SEGMENT + 10))
            length = file.read_segment_into(i, memoryview(out))
            assert out[:length] == DATA[i * SEGMENT : (i + 1) * SEGMENT]
            assert out[length:] == b"?" * (SEGMENT + 10 - length)


@pytest.mark.parametrize("fetch", [0, 1, 2 * SEGMENT + 100, 1 << 20])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (len(DATA), 0), (0, 1), (1, SEGMENT), (SEGMENT, SEGMENT), (10, 20), (SEGMENT - 1, 2 * SEGMENT + 2)],
)
def test_any_range_is_read(sealed: Sealed, offset: int, length: int, threads: int, fetch: int) -> None:
    out = bytearray(length)
    with sealed.open(fetch) as file:
        file.read_into(offset, memoryview(out), threads=threads)
    assert out == DATA[offset : offset + length]


@pytest.mark.parametrize("bad", [False, True])
def test_what_a_range_leaves_of_its_first_and_last_segment_is_wiped(sealed: Sealed, bad: bool) -> None:  # noqa: FBT001
    if bad:
        sealed.ciphertext[sealed.segment(1)] = bytes(len(sealed.ciphertext[sealed.segment(1)]))
    with sealed.open() as file:
        with pytest.raises(IntegrityError) if bad else nullcontext():
            file.read_into(10, memoryview(bytearray(2 * SEGMENT)), threads=1)
        assert file._plain._free, "the memory is kept for the next"
        assert not any(any(mapping[:]) for mapping in file._plain._free)


def test_a_range_reads_only_the_segments_it_touches(sealed: Sealed) -> None:
    with sealed.open() as file:
        file.read_into(SEGMENT + 1, memoryview(bytearray(SEGMENT)))
        assert [offset for offset, _ in sealed.blob.stretches] == [sealed.plan.locate(i).stored_offset for i in (1, 2)]


@pytest.mark.parametrize(
    ("threads", "runs"), [(1, ((0, 1), (2, 3), (4, 5))), (6, ((0,), (1,), (2,), (3,), (4,), (5,)))]
)
def test_adjacent_segments_are_one_answer_of_the_length_asked_for_and_few_are_shared_out(
    sealed: Sealed, threads: int, runs: tuple[tuple[int, ...], ...]
) -> None:
    with sealed.open(fetch=2 * (SEGMENT + OVERHEAD)) as file:
        file.read_into(0, memoryview(bytearray(len(DATA))), threads=threads)
        places = [[sealed.plan.locate(i) for i in run] for run in runs]
        asked = [(run[0].stored_offset, sum(where.stored_length for where in run)) for run in places]
        assert sorted(sealed.blob.stretches) == asked


@pytest.mark.parametrize("threads", [1, 3])
def test_segments_are_passed_on_once_each_and_wiped(sealed: Sealed, threads: int) -> None:
    given: dict[int, bytes] = {}
    lent: list[memoryview] = []
    told: list[int] = []

    def give(i: int, plaintext: memoryview) -> None:
        assert i not in given
        given[i] = bytes(plaintext)
        lent.append(plaintext)

    with sealed.open(fetch=2 * (SEGMENT + OVERHEAD)) as file:
        file.pass_on(range(1, 6), give, progress=told.append, threads=threads)
        assert b"".join(given[i] for i in sorted(given)) == DATA[SEGMENT:]
        assert sum(told) == len(DATA) - SEGMENT
        assert not any(any(buffer) for buffer in lent)
        sealed.ciphertext[sealed.segment(3)] = bytes(len(sealed.ciphertext[sealed.segment(3)]))
        given.clear()
        with pytest.raises(IntegrityError, match="segment 3"):
            file.pass_on(range(6), give, threads=threads)
        assert 3 not in given
        assert not any(any(buffer) for buffer in lent)


def test_while_a_segment_is_given_the_next_is_opened_and_no_more_are_held_than_threads(sealed: Sealed) -> None:
    both = threading.Barrier(2, timeout=30)
    places: set[int] = set()

    def give(_i: int, plaintext: memoryview) -> None:
        places.add(ctypes.addressof(ctypes.c_char.from_buffer(plaintext)))
        both.wait()  # passes only when another is given at the same time

    with sealed.open() as file:
        file.pass_on(range(4), give, threads=2)
    assert len(places) == 2


def test_a_range_outside_the_file_is_the_callers_mistake(sealed: Sealed) -> None:
    with sealed.open() as file:
        for offset, length in ((-1, 1), (0, len(DATA) + 1), (len(DATA), 1)):
            with pytest.raises(ValueError):
                file.read_into(offset, memoryview(bytearray(length)))


def test_progress_adds_up(sealed: Sealed) -> None:
    steps: list[int] = []
    with sealed.open() as file:
        file.copy_to(io.BytesIO(), progress=steps.append)
        assert steps == [SEGMENT] * 5 + [123]
        steps.clear()
        file.read_into(100, memoryview(bytearray(2 * SEGMENT)), progress=steps.append, threads=2)
        assert sorted(steps) == [100, SEGMENT - 100, SEGMENT]


def test_many_threads_read_one_file(sealed: Sealed) -> None:
    wrong = []
    with sealed.open() as file:

        def read(start: int) -> None:
            for offset in range(start, len(DATA) - 700, 997):
                out = bytearray(700)
                file.read_into(offset, memoryview(out))
                if out != DATA[offset : offset + 700]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_sink_that_is_full_is_unavailable(sealed: Sealed) -> None:
    full = Path("/dev/full")
    refusal = pytest.raises(UnavailableError, match=r"weights/0\.bin: cannot be written: no space left")
    with sealed.open() as file, full.open("wb", buffering=0) as sink, refusal:
        file.copy_to(sink)


def test_a_store_that_stops_answering_mid_file_says_so_and_leaves_zeros(sealed: Sealed) -> None:
    class Stops(MemoryBlob):
        def read_into(self, offset: int, buffer: memoryview, /) -> None:
            if offset > 3 * SEGMENT:
                raise UnavailableError("store: no answer")
            super().read_into(offset, buffer)

    checker = SegmentChecker(sealed.plan, sealed.digest_key, bytes(sealed.digests), sealed.content.digests)
    with OpenFile(SegmentDecryptor(sealed.plan, sealed.file_key, Stops(sealed.ciphertext)), checker) as file:
        out = bytearray(b"?" * len(DATA))
        with pytest.raises(UnavailableError, match="no answer"):
            file.read_into(0, memoryview(out), threads=2)
        assert out == bytes(len(DATA))


def test_a_closed_file_reads_nothing(sealed: Sealed) -> None:
    file = sealed.open()
    file.close()
    file.close()
    out = bytearray(b"?" * SEGMENT)
    with pytest.raises(ValueError):
        file.read_into(0, memoryview(out))
    with pytest.raises(ValueError):
        file.copy_to(io.BytesIO())


def test_closing_while_another_thread_copies_never_writes_wiped_bytes(rng: Rng) -> None:
    sealed = seal(DATA * 20, rng)
    file = sealed.open()

    class Closing(io.BytesIO):
        def write(self, data: "memoryview | bytes", /) -> int:  # type: ignore[override]
            if self.tell() > SEGMENT:
                file.close()
            return super().write(data)

    sink = Closing()
    with pytest.raises(ValueError, match="wiped"):
        file.copy_to(sink, threads=2)
    assert (DATA * 20).startswith(sink.getvalue())


def test_both_sides_are_of_one_file(sealed: Sealed) -> None:
    other = FilePlan(sealed.plan.vid, 1, sealed.plan.size, SEGMENT, "weights/0.bin")
    checker = SegmentChecker(other, sealed.digest_key, bytes(sealed.digests), sealed.content.digests)
    with (
        closing(SegmentDecryptor(sealed.plan, sealed.file_key, MemoryBlob(sealed.ciphertext))) as decryptor,
        pytest.raises(ValueError),
    ):
        OpenFile(decryptor, checker)


# --------------------------------------------------------------------------- the two sides apart, as in stream mode


def test_the_broker_decrypts_and_the_job_checks(sealed: Sealed) -> None:
    checker = SegmentChecker(sealed.plan, sealed.digest_key, bytes(sealed.digests), sealed.content.digests)
    with closing(SegmentDecryptor(sealed.plan, sealed.file_key, MemoryBlob(sealed.ciphertext))) as broker:
        for i in range(sealed.plan.count):
            out = bytearray(SEGMENT)
            received = memoryview(out)[: broker.decrypt_segment_into(i, memoryview(out))]
            checker.check(i, received)
            assert received == DATA[i * SEGMENT : (i + 1) * SEGMENT]


@pytest.mark.parametrize("i", [-1, 6, 1 << 40])
def test_a_segment_that_the_file_does_not_have_is_refused_and_wiped(sealed: Sealed, i: int) -> None:
    checker = SegmentChecker(sealed.plan, sealed.digest_key, bytes(sealed.digests), sealed.content.digests)
    received = bytearray(DATA[:SEGMENT])
    with pytest.raises(IntegrityError, match=f"weights/0.bin: segment {i}"):
        checker.check(i, memoryview(received))
    assert received == bytes(SEGMENT)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_segment_of_another_length_is_refused_and_wiped(sealed: Sealed, change: int) -> None:
    checker = SegmentChecker(sealed.plan, sealed.digest_key, bytes(sealed.digests), sealed.content.digests)
    received = bytearray(DATA[: SEGMENT + change])
    with pytest.raises(IntegrityError, match="segment 0"):
        checker.check(0, memoryview(received))
    assert received == bytes(len(received))


def test_a_buffer_that_cannot_be_wiped_is_the_callers_mistake(sealed: Sealed) -> None:
    checker = SegmentChecker(sealed.plan, sealed.digest_key, bytes(sealed.digests), sealed.content.digests)
    with pytest.raises(ValueError, match="wiped"):
        checker.check(0, memoryview(DATA[:SEGMENT]))


def test_a_wrong_digest_key_passes_nothing(sealed: Sealed) -> None:
    checker = SegmentChecker(sealed.plan, key("another"), bytes(sealed.digests), sealed.content.digests)
    with pytest.raises(IntegrityError, match="segment 0"):
        checker.check(0, memoryview(bytearray(DATA[:SEGMENT])))


class SilentBlob(LongBlob):
    """A store over a network that does not answer for a long time. ``outwaited`` counts who was not let go before."""

    outwaited = 0

    @contextmanager
    def stretch(self, _offset: int, _size: int, wanted: StillWanted = still_wanted, /) -> Iterator[Forward]:
        def fill(_buffer: memoryview) -> None:
            end = time.monotonic() + 10
            while time.monotonic() < end:
                wanted()
                time.sleep(0.01)
            self.outwaited += 1
            raise UnavailableError("no answer in time")

        yield fill


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("how", ["read", "passed on"])
def test_who_presses_ctrl_c_while_a_store_is_silent_waits_no_longer(sealed: Sealed, how: str, threads: int) -> None:
    out = bytearray(b"?" * len(DATA))
    with sealed.open() as opened:
        checker = opened._checker
    blob = SilentBlob(sealed.ciphertext)
    with closing(SegmentDecryptor(sealed.plan, sealed.file_key, blob, fetch=SEGMENT)) as decryptor:
        file = OpenFile(decryptor, checker)
        with pytest.raises(KeyboardInterrupt), interrupting(times=2, then=lambda: None) as begin:  # noqa: PT012 - see below
            begin()  # and no sooner: the interrupt belongs into what follows
            if how == "read":
                file.read_into(0, memoryview(out), threads=threads)
            else:
                file.pass_on(range(sealed.plan.count), lambda _i, _data: None, threads=threads)
    assert blob.outwaited == 0
    if how == "read":
        assert out == bytes(len(DATA))
