"""Acts that share a commit: whoever wants something appended hands in an act, and one thread commits for all who wait.

An fsync takes milliseconds, whatever it is for. While one runs others gather, and go together into the next.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from custody.errors import UnavailableError
from custody.rules.state import State

__all__ = ["Act", "Acts"]

_T = TypeVar("_T")

_GROUP: Final = 256
"""Acts that are committed together at most."""

_CROWD: Final = 4
"""Acts in a commit, from which on the next one waits a little where fewer have come meanwhile."""

_GATHER: Final = 0.004
"""Seconds of that wait."""


@dataclass(slots=True)
class Act(Generic[_T]):
    """What somebody wants done while the state stands still, and what came of it."""

    work: Callable[[State], _T]
    future: "Future[_T]" = field(default_factory=Future)
    result: _T | None = None
    error: BaseException | None = None

    def tell(self) -> None:
        """Let the one who waits go on."""
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # it is what ``work`` returned


class Acts:
    """A queue of acts and the thread that takes them; ``run`` commits a group, and tells each act."""

    def __init__(self, run: Callable[[Sequence[Act[Any]]], None]) -> None:
        self._run = run
        self._queue: deque[Act[Any]] = deque()
        self._gate = threading.Lock()
        self._draining = False
        self._writer = ThreadPoolExecutor(1, "ledger")

    def put(self, act: Act[_T]) -> "Future[_T]":
        """Queue an act; its future is done once it is committed. Cancelled before its turn, nothing of it happens."""
        with self._gate:
            self._queue.append(act)
            idle, self._draining = not self._draining, True
        if idle:
            self._start()
        return act.future

    def close(self) -> None:
        """Wait for what is being committed. What comes afterwards is refused."""
        self._writer.shutdown(wait=True)

    def _start(self) -> None:
        try:
            self._writer.submit(self._drain)
        except RuntimeError:  # it was closed, or there is no thread to be had: nobody may wait for ever
            with self._gate:
                left, self._queue = list(self._queue), deque()
                self._draining = False
            for act in left:
                act.error = UnavailableError("the ledger takes nothing now", hint="try again in a moment")
                if act.future.set_running_or_notify_cancel():
                    act.tell()

    def _drain(self) -> None:
        """Do what waits, as much as has gathered, commit after commit."""
        group: Sequence[Act[Any]] = ()
        while True:
            if len(group) >= _CROWD and len(self._queue) < len(group):
                time.sleep(_GATHER)
            with self._gate:
                group = [self._queue.popleft() for _ in range(min(len(self._queue), _GROUP))]
                if not group:
                    self._draining = False
                    return
            try:
                self._run([act for act in group if act.future.set_running_or_notify_cancel()])
            except BaseException:
                self._start()  # who comes after them must not wait for ever
                raise
