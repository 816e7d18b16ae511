"""Several threads, in order at both ends; and no thread survives a failure."""

import gc
import threading
import time
import weakref
from dataclasses import dataclass, field

import pytest

from custody.segments.lanes import Step, _Run, begin_aside, run_lanes, run_unordered
from tests.doubles.interrupting import interrupting


@dataclass
class Record:
    """What happened, in order; and where it is to go wrong."""

    fails: tuple[str, int] | None = None
    error: BaseException = field(default_factory=lambda: ValueError("planned"))
    events: list[tuple[str, int]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)


class Lane:
    def __init__(self, record: Record, meeting: threading.Barrier | None = None) -> None:
        self.record = record
        self.meeting = meeting

    def take(self, i: int) -> None:
        self.step("take", i)

    def work(self, i: int) -> None:
        if self.meeting:
            self.meeting.wait()
        self.step("work", i)

    @property
    def ordered(self) -> tuple[Step, Step]:
        return self.hash, self.give

    def hash(self, i: int) -> None:
        self.step("hash", i)

    def give(self, i: int) -> None:
        self.step("give", i)

    def step(self, name: str, i: int) -> None:
        self.record.threads.add(threading.get_ident())
        if self.record.fails == (name, i):
            raise self.record.error
        self.record.events.append((name, i))


def order(record: Record, name: str) -> list[int]:
    return [i for step, i in record.events if step == name]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_segments_come_and_go_in_order(count: int, threads: int) -> None:
    record = Record()
    run_lanes(count, [Lane(record) for _ in range(threads)])
    assert order(record, "take") == order(record, "hash") == order(record, "give") == list(range(count))
    assert sorted(order(record, "work")) == list(range(count))


def test_one_lane_is_the_calling_thread() -> None:
    record = Record()
    run_lanes(5, [Lane(record)])
    assert record.threads == {threading.get_ident()}


def test_lanes_aside_leave_the_calling_thread_out() -> None:
    record = Record()
    run_lanes(5, [Lane(record), Lane(record)], aside=True)
    assert order(record, "give") == list(range(5))
    assert threading.get_ident() not in record.threads


def test_one_lane_hashes_while_another_writes() -> None:
    class Slow(Lane):
        def hash(self, i: int) -> None:
            super().hash(i)
            if i == 1:
                hashed.set()

        def give(self, i: int) -> None:
            assert i or hashed.wait(60), "segment 1 is hashed while segment 0 is written"
            super().give(i)

    hashed = threading.Event()
    record = Record()
    run_lanes(3, [Slow(record), Slow(record)])
    assert order(record, "give") == [0, 1, 2]


def test_work_of_two_lanes_runs_at_once() -> None:
    record = Record()
    meeting = threading.Barrier(2, timeout=60)  # passes only while two are inside
    run_lanes(10, [Lane(record, meeting), Lane(record, meeting)])
    assert order(record, "give") == list(range(10))


@pytest.mark.parametrize("error", [ValueError("planned"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("step", ["take", "work", "hash", "give"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_anywhere_ends_all_and_is_raised(threads: int, step: str, error: BaseException) -> None:
    record = Record(fails=(step, 7), error=error)
    before = set(threading.enumerate())
    with pytest.raises(type(error)) as caught:
        run_lanes(1000, [Lane(record) for _ in range(threads)])
    assert caught.value is error
    assert set(threading.enumerate()) <= before
    given = order(record, "give")
    if isinstance(error, Exception):
        assert given == list(range(7)), "as with one thread"
    else:
        assert given == list(range(len(given))), "nothing was left out"
        assert len(given) <= 7
    assert len(order(record, "take")) <= 7 + threads


def test_whoever_interrupts_the_waiting_at_the_worst_moments_finds_no_lane_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the run the buffers are wiped."""

    class Slow(Lane):
        def work(self, i: int) -> None:
            begin()
            assert door.wait(60)
            super().work(i)

    def fail(run: _Run, error: BaseException) -> None:
        if not again:
            again.append(error)
            raise KeyboardInterrupt  # while the run is told of the first
        told(run, error)

    again: list[BaseException] = []
    told = _Run.fail
    monkeypatch.setattr(_Run, "fail", fail)
    door, record = threading.Event(), Record()
    with pytest.raises(KeyboardInterrupt), interrupting(times=2, then=door.set) as begin:  # noqa: PT012 - see below
        try:
            run_lanes(1, [Slow(record)], aside=True)
        finally:  # before the one who interrupts opens the door
            worked = order(record, "work")
    assert worked == [0]
    assert again


@pytest.mark.parametrize("threads", [1, 3])
def test_of_several_failures_the_first_segments_is_raised(threads: int) -> None:
    class Broken(Lane):
        def work(self, i: int) -> None:
            super().work(i)
            if i >= 4:
                if i == 4 and threads > 1:
                    later.wait(60)  # its error comes last
                later.set()
                raise ValueError(i)

    later = threading.Event()
    record = Record()
    with pytest.raises(ValueError, match="4"):
        run_lanes(100, [Broken(record) for _ in range(threads)])
    assert order(record, "give") == [0, 1, 2, 3]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_without_an_order_each_number_comes_once(count: int, threads: int) -> None:
    seen: list[int] = []
    run_unordered(count, [seen.append] * threads)
    assert sorted(seen) == list(range(count))


def test_without_an_order_nobody_waits_for_a_turn() -> None:
    """Number 0 ends only when all others have."""
    others = threading.Semaphore(0)

    def work(i: int) -> None:
        if i:
            others.release()
            return
        for _ in range(9):
            assert others.acquire(timeout=60)

    run_unordered(10, [work, work])


@pytest.mark.parametrize("error", [ValueError("planned"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("threads", [1, 3])
def test_without_an_order_a_failure_ends_all_too(threads: int, error: BaseException) -> None:
    seen: list[int] = []

    def work(i: int) -> None:
        seen.append(i)
        if i == 7:
            raise error

    before = set(threading.enumerate())
    with pytest.raises(type(error)) as caught:
        run_unordered(100_000, [work] * threads)
    assert caught.value is error
    assert set(threading.enumerate()) <= before
    assert set(range(8)) <= set(seen)
    assert len(seen) < 100_000


@pytest.mark.parametrize("threads", [1, 3])
def test_without_an_order_the_lowest_failure_is_raised(threads: int) -> None:
    def work(i: int) -> None:
        if i >= 4:
            if i == 4 and threads > 1:
                later.wait(60)  # its error comes last
            later.set()
            raise ValueError(i)

    later = threading.Event()
    with pytest.raises(ValueError, match="4"):
        run_unordered(100, [work] * threads)


@pytest.mark.parametrize("asked", [True, False])
def test_what_failed_aside_keeps_no_buffer_alive(*, asked: bool) -> None:
    """Not even until the collector comes: a buffer may be a gigabyte."""

    class Buffer:
        pass

    kept: list[weakref.ref[Buffer]] = []

    def work() -> None:
        buffer = Buffer()
        kept.append(weakref.ref(buffer))
        raise ValueError("planned")

    gc.disable()
    try:
        future = begin_aside(work, "aside")
        if asked:
            with pytest.raises(ValueError, match="planned"):
                future.result()
        else:
            future.exception()
        del future
        end = time.monotonic() + 5
        while kept[0]() is not None and time.monotonic() < end:
            time.sleep(0.001)  # its thread may not have ended
        assert kept[0]() is None
    finally:
        gc.enable()
