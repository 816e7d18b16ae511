"""Ending files in the background: what waits for a disk or a network holds up nobody who encrypts.

A file of a version is under way from its ``admit`` to its end. So many may be at once, of so much weight together, and
so many threads end them: a file that takes 20 ms until it is durable, one after the other, would make 50 a second. Who
begins files faster than they end waits in ``admit``; but only for a file that is ending, which is sure to make room.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol, Self

from custody.errors import UnavailableError

__all__ = ["AT_ONCE", "Finishing", "GivenUpError", "UnderWay"]

AT_ONCE: Final = 4
"""Threads that end files where each end waits for a disk: enough to share the commits of its journal."""

_FILES: Final = 32  # a broker takes 64 blobs of an upload at once, and a file is two
_WEIGHT: Final = 80 << 20  # two files of any size


class GivenUpError(UnavailableError):
    """What a write or an end raises that was told to give up. The cause is elsewhere, and is what is told."""


class UnderWay(Protocol):
    """A file that was begun."""

    @property
    def order(self) -> int:
        """Its place among the others, from 0: of several failures that of the lowest is told."""
        ...

    @property
    def weight(self) -> int:
        """Bytes of memory that it may hold until it has ended."""
        ...

    def end(self) -> None:
        """Make it durable; called once, from any thread."""
        ...

    def abandon(self, error: BaseException) -> None:
        """Throw away what was written of it; called once, instead of ``end``."""
        ...


class Finishing:
    """The files under way. A context manager: the end of the block waits for all of them.

    When the block raises, or an end does, files that have not ended are abandoned. Then the block's end raises: Ctrl-C
    and its kin before anything else, then the failure of the first file that failed to end (all of them were begun
    before the one at which the block failed), then what the block raised. At the first of these ``give_up`` is called:
    it may tell those who wait for a network that they wait in vain, who then raise ``GivenUpError``.
    """

    def __init__(
        self,
        *,
        threads: int = AT_ONCE,
        files: int = _FILES,
        weight: int = _WEIGHT,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, "custody-finish") if threads else None
        self._files = files
        self._weight = weight
        self._give_up = give_up
        self._room = threading.Condition()
        self._begun: dict[int, UnderWay] = {}
        self._ending: dict[int, UnderWay] = {}
        self._failures: dict[int, BaseException] = {}
        self._stop: BaseException | None = None

    def admit(self, file: UnderWay) -> None:
        """Wait until there is room for one more file. Raises what another has failed with."""
        with self._room:
            self._room.wait_for(lambda: self._failures or self._has_room(file))
            self._check()
            self._begun[file.order] = file

    def check(self) -> None:
        """Raise what a file has failed with: there is no sense in going on."""
        if self._failures:
            with self._room:
                self._check()

    def submit(self, file: UnderWay) -> None:
        """End a file that was admitted: in the background, or here and now where there are no threads for it."""
        with self._room:
            self._ending[file.order] = self._begun.pop(file.order)
        if self._pool is None:
            self._end(file)
        else:
            self._pool.submit(self._end, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is not None:
            self._stop = value
            self._give_up()
        interrupted = self._wait()
        failure = self._first(interrupted or value)
        if failure is None:
            return
        for file in list(self._begun.values()):
            _abandon(file, failure)
        self._begun.clear()
        try:
            if failure is not value:
                raise failure
        finally:
            del failure, interrupted  # a traceback holds this frame
            self._failures.clear()
            self._stop = None

    def _end(self, file: UnderWay) -> None:
        try:
            with self._room:  # others may fail at this moment
                stop = self._stop or next(iter(self._failures.values()), None)
            if stop is not None:
                _abandon(file, stop)
            else:
                file.end()
        except BaseException as error:  # noqa: BLE001 - raised at the end of the block
            with self._room:
                self._failures[file.order] = error
            self._give_up()
        finally:
            with self._room:
                del self._ending[file.order]
                self._room.notify_all()

    def _wait(self) -> BaseException | None:
        """Wait until nothing is ending, also when the user interrupts the waiting; return what interrupted it.

        Not by the threads alone: Python takes one for ended when the waiting for it is interrupted.
        """
        interrupted: BaseException | None = None
        while self._pool is not None:
            try:
                with self._room:
                    self._room.wait_for(lambda: not self._ending)
                self._pool.shutdown(wait=True)
            except KeyboardInterrupt as error:
                self._stop = interrupted = error
                self._give_up()
            else:
                break
        return interrupted

    def _first(self, value: BaseException | None) -> BaseException | None:
        failures = [self._failures[order] for order in sorted(self._failures)]
        if value is not None:
            failures.append(value)
        return min(failures, key=_rank, default=None)

    def _has_room(self, file: UnderWay) -> bool:
        there = [*self._begun.values(), *self._ending.values()]
        # Those that have begun may never end: whoever should write them may have failed. There are few, one a lane.
        return not self._ending or (
            len(there) < self._files and sum(one.weight for one in there) + file.weight <= self._weight
        )

    def _check(self) -> None:
        if self._failures:
            raise self._failures[min(self._failures)]


def _rank(error: BaseException) -> int:
    if not isinstance(error, Exception):
        return 0
    return 2 if isinstance(error, GivenUpError) else 1


def _abandon(file: UnderWay, error: BaseException) -> None:
    with suppress(Exception):  # ``error`` is what is told; what stays is invisible, and swept later
        file.abandon(error)
