"""Segments through several threads, in order at both ends.

::

    lane 0:  take 0 | work 0          | hash 0 | write 0         | take 2 | work 2 ...
    lane 1:           take 1 | work 1          | hash 1          | write 1         | take 3 ...

``take`` and the steps of ``ordered``, here hashing and writing, each run in one lane at a time and in the order of
segments, so a source that can only be read forward and a sink that can only be appended to will do. ``work`` runs in
all lanes at once: reading from a store, AES-GCM and BLAKE3 leave the interpreter alone while they run. A lane holds its
buffers; so memory is lanes times buffers, and a slow sink holds everybody back.

Where the order matters to nobody, as when memory is filled, ``run_unordered`` has no turns to wait for.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count as numbers
from typing import Protocol, TypeVar

__all__ = ["Lane", "Step", "begin_aside", "helping", "run_lanes", "run_unordered"]

_T = TypeVar("_T")

Step = Callable[[int], None]
"""What is done with a segment, told its number."""


class Lane(Protocol):
    """What one thread does with each segment it gets. Whatever a step raises ends the run."""

    def take(self, i: int, /) -> None:
        """Fetch segment ``i`` from the source."""
        ...

    def work(self, i: int, /) -> None:
        """Do what needs no order."""
        ...

    @property
    def ordered(self) -> Sequence[Step]:
        """What follows ``work``, each step in the order of segments; at least one, and as many in all lanes."""
        ...


def run_lanes(
    count: int, lanes: Sequence[Lane], *, aside: bool = False, interrupted: Callable[[], None] = lambda: None
) -> None:
    """Pass segments 0 to ``count - 1`` through ``lanes``, one thread each.

    The first lane is the calling thread, unless all are to run ``aside``: then the caller only waits, and a signal that
    interrupts the main thread finds it in no step that should be whole or undone.

    Raises what a lane raised, after all threads have ended: the buffers are then free. With any number of lanes it is
    the same error that one lane would have met first, and all segments before it have passed every step; but Ctrl-C and
    its kin end everything at once. Then ``interrupted`` is called, which may tell those under way.
    """
    run = _Run(count, len(lanes[0].ordered), interrupted)
    _drive(run, [partial(run.drive, lane) for lane in lanes], aside=aside)


def run_unordered(count: int, works: Sequence[Step], *, interrupted: Callable[[], None] = lambda: None) -> None:
    """Pass 0 to ``count - 1`` through ``works``, one thread each, the first of them the calling thread.

    ``interrupted`` is called when all is to end at once, whatever any of them has met: at Ctrl-C and its kin, and where
    a thread does not start. It may tell those under way.

    Numbers are begun in order and end as they do. Raises after all threads have ended: of several failures the one with
    the lowest number, which is the one that a single thread would have met; and Ctrl-C before any.
    """
    run = _Free(count, interrupted)
    _drive(run, [partial(run.drive, work) for work in works])


@contextmanager
def helping(name: str) -> Iterator[ThreadPoolExecutor]:
    """Have one more thread for the length of a block.

    The end of the block waits for what it was given to do, however often the user interrupts that: nobody touches a
    buffer or a descriptor behind the back of whoever takes it next.
    """
    helper = ThreadPoolExecutor(1, name)
    try:
        yield helper
    finally:
        _outwait(helper)


def _outwait(helper: ThreadPoolExecutor) -> None:
    """Wait until a thread has nothing to do, then raise what interrupted that. Python takes a thread for ended when a
    ``join`` is interrupted, so a last task is waited for instead.
    """
    last: Future[None] | None = None
    interrupted: BaseException | None = None
    while last is None or not last.done():
        try:
            last = last or helper.submit(_nothing)
            last.result()
        except RuntimeError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised below
            interrupted = error
    helper.shutdown(wait=False)
    if interrupted is not None:
        raise interrupted


def _nothing() -> None:
    """The last task: all others are done when it is."""


def begin_aside(work: Callable[[], _T], name: str) -> "Future[_T]":
    """Begin work in a thread of its own that nobody has to wait for, the end of the program included.

    For a generator that may be dropped in the middle: the collector then closes it in any thread, perhaps in this very
    one, where waiting would never end.
    """
    future: Future[_T] = Future()

    def run(mine: "Future[_T]") -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            mine.set_exception(error)
        else:
            mine.set_result(result)
        finally:
            del mine  # a failure has this frame, and through it the buffers of the work

    threading.Thread(target=run, args=(future,), name=name, daemon=True).start()
    return future


class _Failing(Protocol):
    def fail(self, error: BaseException) -> None: ...

    def raise_failure(self) -> None: ...


def _drive(run: _Failing, drives: Sequence[Callable[[], None]], *, aside: bool = False) -> None:
    """Run each in a thread, the first in this one unless ``aside``; then raise what failed."""
    threads = [_Thread(drive) for drive in (drives if aside else drives[1:])]
    failure: BaseException | None = None
    try:
        for thread in threads:
            thread.start()
        if not aside:
            drives[0]()
    except BaseException as error:  # noqa: BLE001 - raised again below: a thread that does not start, Ctrl-C meanwhile
        failure = error
    _wait(run, threads, failure)
    del failure  # a traceback holds this frame
    run.raise_failure()


def _wait(run: _Failing, threads: "Sequence[_Thread]", failure: BaseException | None) -> None:
    """Wait until no thread drives a lane any more, however often the user interrupts it; tell the run of failures."""
    waiting = True
    while waiting:
        try:
            if failure is not None:
                run.fail(failure)
            for thread in threads:
                thread.wait()
            waiting = False
        except BaseException as error:  # noqa: BLE001 - raised by the run
            failure = error
    del failure  # its traceback may hold this frame


class _Thread(threading.Thread):
    """A thread that says itself when it has ended: Python takes it for ended when a ``join`` is interrupted."""

    def __init__(self, drive: Callable[[], None]) -> None:
        super().__init__(name="custody-segments")
        self._drive = drive
        self._driven = threading.Event()

    def run(self) -> None:
        try:
            self._drive()
        finally:
            self._driven.set()

    def wait(self) -> None:
        """Wait for its end. One that has not begun is left alone: it finds that the run has failed."""
        if self.ident is not None:
            self._driven.wait()
            self.join()


class _Free:
    """Numbers handed to whoever comes first."""

    def __init__(self, count: int, interrupted: Callable[[], None]) -> None:
        self._count = count
        self._interrupted = interrupted
        self._next = numbers().__next__  # one step of the interpreter: no two threads get the same
        self._lock = threading.Lock()
        self._over = False
        self._failure: BaseException | None = None
        self._failed_at = count

    def drive(self, work: Callable[[int], None]) -> None:
        while not self._over and (i := self._next()) < self._count:
            try:
                work(i)
            except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
                self.fail(error, i)

    def fail(self, error: BaseException, at: int = -1) -> None:
        at = at if isinstance(error, Exception) else -1
        self._over = True
        if at < 0:
            self._interrupted()
        with self._lock:
            if self._failure is None or at < self._failed_at:
                self._failure, self._failed_at = error, at

    def raise_failure(self) -> None:
        _raise_once(self)


class _Run:
    def __init__(self, count: int, steps: int, interrupted: Callable[[], None] = lambda: None) -> None:
        self._count = count
        self._interrupted = interrupted
        self._taken = 0
        self._passed = [0] * steps  # how many segments have passed each ordered step
        self._over = False
        self._failure: BaseException | None = None
        self._failing = threading.Lock()
        self._taking = threading.Lock()
        self._turns = [threading.Condition() for _ in range(steps)]  # one each: nobody is woken for another's step

    def drive(self, lane: Lane) -> None:
        try:
            steps = tuple(enumerate(lane.ordered))
            while self._pass(lane, steps):
                pass
        except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
            self.fail(error)

    def _pass(self, lane: Lane, steps: Sequence[tuple[int, Step]]) -> bool:
        """Pass the next segment through a lane. False when there is none, or another lane has failed."""
        failure: Exception | None = None
        with self._taking:
            i = self._taken
            if self._failed() or i == self._count:
                return False
            self._taken = i + 1
            try:
                lane.take(i)
            except Exception as error:  # noqa: BLE001 - raised below, when it is this segment's turn
                failure = error
                self._taken = self._count  # behind a failed read nothing is read
        try:
            if failure is None:
                lane.work(i)
                for place, step in steps:
                    if not self._wait_for_turn(place, i):
                        return False
                    step(i)  # the turn is ours until the next line says otherwise
                    self._end_turn(place, i)
                return True
        except Exception as error:  # noqa: BLE001 - raised below
            failure = error
        try:
            if self._wait_for_turn(-1, i):  # all before it have passed every step
                raise failure
            return False
        finally:
            del failure  # its traceback holds this frame

    def _wait_for_turn(self, place: int, i: int) -> bool:
        """Wait until a step is segment ``i``'s. False when a lane has failed."""
        turn = self._turns[place]
        with turn:
            turn.wait_for(lambda: self._passed[place] == i or self._failed())
        return not self._failed()

    def _end_turn(self, place: int, i: int) -> None:
        with self._turns[place]:
            self._passed[place] = i + 1
            self._turns[place].notify_all()

    def _failed(self) -> bool:
        return self._over

    def fail(self, error: BaseException) -> None:
        self._over = True
        if not isinstance(error, Exception):
            self._interrupted()
        with self._failing:
            if self._failure is None:
                self._failure = error
        for turn in self._turns:
            with turn:
                turn.notify_all()

    def raise_failure(self) -> None:
        _raise_once(self)


def _raise_once(run: "_Run | _Free") -> None:
    # Nothing may keep the failure's frames, and through them slices of the buffers, in a cycle.
    failure, run._failure = run._failure, None  # noqa: SLF001 - same file
    try:
        if failure is not None:
            raise failure
    finally:
        del failure
