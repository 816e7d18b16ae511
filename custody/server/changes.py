"""Long polls: many may wait for a request to change, all night, at the price of a coroutine each."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from custody.server.room import Room

__all__ = ["Changes"]

_MOST: Final = 5000
_MOST_OF_ONE: Final = 1000  # a fleet has one identity, and may well wait for one request; it leaves room to others


class Changes:
    """Wakes those who wait for a request. ``notify`` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._room = Room(_MOST, _MOST_OF_ONE, "too many callers wait already")

    def notify(self, request: str) -> None:
        """Wake everybody who waits for this request."""
        if request and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, request)

    @contextmanager
    def watch(self, request: str, caller: str) -> Iterator[Callable[[float], Awaitable[None]]]:
        """Watch a request from now on. What this yields waits: so many seconds, or until the request has changed since.

        Watch first, then look: whatever comes between looking and waiting ends the wait at once. Raises
        ``UnavailableError`` when too many watch already, or too many of the identity ``caller``.
        """
        future: asyncio.Future[None] = self._loop.create_future()

        async def changed(seconds: float) -> None:
            await asyncio.wait([future], timeout=seconds)

        with self._room.place(caller):
            self._waiting[request].add(future)
            try:
                yield changed
            finally:
                waiting = self._waiting[request]
                waiting.discard(future)
                if not waiting:
                    del self._waiting[request]

    def _wake(self, request: str) -> None:
        for future in self._waiting.get(request, ()):
            if not future.done():
                future.set_result(None)
