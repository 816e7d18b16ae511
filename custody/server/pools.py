"""Where blocking work runs, so that nothing blocks the event loop and no kind of work starves another.

Use cases are plain functions that take locks, write to the journal and wait for receipts; they run in ``calls``.
Decrypting runs in ``reads``, of its own, so that a thousand slow readers leave requests and stops alone. Stops have
threads of their own: they must get through when everything else is busy.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["Pools"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Pools:
    """The executors of one server. ``reads`` decrypt at once; ``calls`` use cases run at once."""

    def __init__(self, *, calls: int = 32, reads: int = 2) -> None:
        self._calls = ThreadPoolExecutor(calls, "call")
        self._reads = ThreadPoolExecutor(reads, "read")
        self._stops = ThreadPoolExecutor(8, "stop")

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a use case."""
        return await _run(self._calls, function, *args, **kwargs)

    async def read(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a piece of the data path."""
        return await _run(self._reads, function, *args, **kwargs)

    async def stop(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a stop."""
        return await _run(self._stops, function, *args, **kwargs)

    def close(self) -> None:
        """Let what runs finish, start nothing more."""
        for pool in (self._calls, self._reads, self._stops):
            pool.shutdown(wait=True, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: function(*args, **kwargs))
