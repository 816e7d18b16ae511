"""Long polls: many may wait for a request to change, all night, at the price of a coroutine each."""

import asyncio
from collections import defaultdict
from typing import Final

from custody.errors import UnavailableError

__all__ = ["Changes"]

_MOST: Final = 5000


class Changes:
    """Wakes those who wait for a request. ``notify`` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._count = 0

    def notify(self, request: str) -> None:
        """Wake everybody who waits for this request."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, request)

    async def wait(self, request: str, seconds: float) -> None:
        """Return when the request changes or the time is over. Raises ``UnavailableError`` when too many wait."""
        if self._count >= _MOST:
            raise UnavailableError("too many callers wait already", hint="try again in a moment")
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[request].add(future)
        self._count += 1
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            self._count -= 1
            waiting = self._waiting[request]
            waiting.discard(future)
            if not waiting:
                del self._waiting[request]

    def _wake(self, request: str) -> None:
        for future in self._waiting.get(request, ()):
            if not future.done():
                future.set_result(None)
