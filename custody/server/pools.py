"""Where blocking work runs, so that nothing blocks the event loop and no kind of work starves another.

Use cases are plain functions that take locks and write to the journal; they run in ``calls``. Opening a lease waits for
the log, for a custodian's share to be unwrapped and for one opening at a time: ``opens``. Decrypting runs in ``reads``,
of its own, so that a thousand slow readers leave requests and stops alone; what a store over a network is waited for
waits in ``fetches``. Stops have threads of their own: they must get through when everything else is busy.

Nor does one caller starve another: of a pool's threads an identity has at most half at once. The rest of its calls wait
their turn behind its own, at the price of a coroutine each.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar

__all__ = ["Pools", "Turns"]

_T = TypeVar("_T")
_log: Final = logging.getLogger("custody.server")
_OPENS: Final = 16
_STOPS: Final = 8
_UPLOADS: Final = 16
_FETCHES: Final = 32


class Turns:
    """Lets each caller do at most ``most`` things at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the block."""
        semaphore, users = self._of.get(caller, (asyncio.Semaphore(self._most), 0))
        self._of[caller] = semaphore, users + 1
        try:
            async with semaphore:
                yield
        finally:
            semaphore, users = self._of[caller]
            if users > 1:
                self._of[caller] = semaphore, users - 1
            else:
                del self._of[caller]


class _Pool:
    """Threads, and how many of them one caller may have."""

    def __init__(self, threads: int, name: str) -> None:
        self.executor: Final = ThreadPoolExecutor(threads, name)
        self._turns = Turns(max(1, threads // 2))

    async def run(self, caller: str, function: Callable[[], _T], unheard: Callable[[_T], object] | None = None) -> _T:
        async with self._turns.turn(caller):
            future = self.executor.submit(function)
            try:
                return await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                if unheard is not None:
                    future.add_done_callback(partial(self._unheard, unheard))
                raise

    def _unheard(self, unheard: Callable[[_T], object], future: "Future[_T]") -> None:
        """Give a result to ``unheard``, in a thread: this may be called by the event loop."""

        def hand_on() -> None:
            try:
                unheard(future.result())
            except Exception:  # noqa: BLE001 - nobody waits for it: it is told here, or nowhere
                _log.exception("a call that had broken off could not be undone")

        if not future.cancelled() and future.exception() is None:
            with suppress(RuntimeError):  # the server is closing, and ends whatever was begun
                self.executor.submit(hand_on)


class Pools:
    """The executors of one server. ``reads`` decrypt at once; ``calls`` use cases run at once.

    ``caller`` is the identity on whose behalf something runs.
    """

    def __init__(self, *, calls: int = 32, reads: int = 2) -> None:
        self._calls = _Pool(calls, "call")
        self._opens = _Pool(_OPENS, "open")
        self._stops = _Pool(_STOPS, "stop")
        self._uploads = _Pool(_UPLOADS, "upload")
        self._reads = ThreadPoolExecutor(reads, "read")
        self._fetches = ThreadPoolExecutor(_FETCHES, "fetch")

    async def call(self, caller: str, function: Callable[[], _T]) -> _T:
        """Run a use case that waits for nothing but the database."""
        return await self._calls.run(caller, function)

    async def open(self, caller: str, function: Callable[[], _T], unheard: Callable[[_T], object] | None = None) -> _T:
        """Run the opening of a session. ``unheard`` is given one that was opened although its call had broken off."""
        return await self._opens.run(caller, function, unheard)

    async def upload(self, caller: str, function: Callable[[], _T]) -> _T:
        """Run a piece of an upload, which waits for the store."""
        return await self._uploads.run(caller, function)

    async def stop(self, caller: str, function: Callable[[], _T]) -> _T:
        """Run a stop."""
        return await self._stops.run(caller, function)

    def read(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Begin a piece of the data path; streams are shared out by session."""
        return asyncio.get_running_loop().run_in_executor(self._reads, function)

    def fetch(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Begin to wait for a store, for a stream."""
        return asyncio.get_running_loop().run_in_executor(self._fetches, function)

    def close(self) -> None:
        """Let what runs finish, start nothing more."""
        for executor in (
            self._reads,
            self._fetches,
            *(pool.executor for pool in (self._calls, self._opens, self._uploads, self._stops)),
        ):
            executor.shutdown(wait=True, cancel_futures=True)
