"""Segments through several threads, in order at both ends.

::

    lane 0:  take 0 | work 0          | give 0 | take 2 | work 2       | give 2 ...
    lane 1:           take 1 | work 1          | give 1 | take 3 | work 3 ...

``take`` and ``give`` run in one lane at a time and in the order of segments, so a source that can only be read forward
and a sink that can only be appended to will do. ``work`` runs in all lanes at once: reading from a store, AES-GCM and
BLAKE3 leave the interpreter alone while they run. A lane holds its buffers; so memory is lanes times buffers, and a
slow sink holds everybody back.
"""

import threading
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Lane", "run_lanes"]


class Lane(Protocol):
    """What one thread does with each segment it gets. Whatever a step raises ends the run."""

    def take(self, i: int, /) -> None:
        """Fetch segment ``i`` from the source."""
        ...

    def work(self, i: int, /) -> None:
        """Do what needs no order."""
        ...

    def give(self, i: int, /) -> None:
        """Hand segment ``i`` on."""
        ...


def run_lanes(count: int, lanes: Sequence[Lane]) -> None:
    """Pass segments 0 to ``count - 1`` through ``lanes``, one thread each; the first lane is the calling thread.

    Raises what a lane raised, after all threads have ended: the buffers are then free. With any number of lanes it is
    the same error that one lane would have met first, and all segments before it have been given; but Ctrl-C and its
    kin end everything at once.
    """
    run = _Run(count)
    threads = [threading.Thread(target=run.drive, args=(lane,), name="custody-segments") for lane in lanes[1:]]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        run.drive(lanes[0])
    except BaseException as error:  # noqa: BLE001 - raised again below: a thread that does not start, Ctrl-C meanwhile
        run.fail(error)
    finally:
        run.end(started)
    run.raise_failure()


class _Run:
    def __init__(self, count: int) -> None:
        self._count = count
        self._taken = 0
        self._given = 0
        self._failure: BaseException | None = None
        self._taking = threading.Lock()
        self._turn = threading.Condition()

    def drive(self, lane: Lane) -> None:
        try:
            while self._pass(lane):
                pass
        except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
            self.fail(error)

    def _pass(self, lane: Lane) -> bool:
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
        except Exception as error:  # noqa: BLE001 - the same
            failure = error
        try:
            with self._turn:
                self._turn.wait_for(lambda: self._given == i or self._failed())
                if self._failed():
                    return False
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback holds this frame
        lane.give(i)  # the turn is ours until the next line says otherwise
        with self._turn:
            self._given = i + 1
            self._turn.notify_all()
        return True

    def _failed(self) -> bool:
        return self._failure is not None

    def fail(self, error: BaseException) -> None:
        with self._turn:
            if self._failure is None:
                self._failure = error
            self._turn.notify_all()

    def end(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the other lanes, also when the user interrupts the waiting."""
        for thread in threads:
            while thread.is_alive():
                try:
                    thread.join()
                except KeyboardInterrupt as error:
                    self.fail(error)

    def raise_failure(self) -> None:
        # Nothing may keep the failure's frames, and through them slices of the buffers, in a cycle.
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure
