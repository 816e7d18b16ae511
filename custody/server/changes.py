"""Long polls: many may wait for a request to change, all night, at the price of a coroutine each."""

import asyncio
from collections import Counter, defaultdict
from typing import Final

from custody.errors import UnavailableError

__all__ = ["Changes"]

_MOST: Final = 5000
_MOST_OF_ONE: Final = 1000  # a fleet has one identity, and may well wait for one request; it leaves room to others


class Changes:
    """Wakes those who wait for a request. ``notify`` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._callers: Counter[str] = Counter()

    def notify(self, request: str) -> None:
        """Wake everybody who waits for this request."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, request)

    async def wait(self, request: str, seconds: float, caller: str) -> None:
        """Return when the request changes or the time is over. Raises ``UnavailableError`` when too many wait already,
        or too many of the identity ``caller``.
        """
        if self._callers.total() >= _MOST or self._callers[caller] >= _MOST_OF_ONE:
            raise UnavailableError("too many callers wait already", hint="try again in a moment")
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[request].add(future)
        self._callers[caller] += 1
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
            waiting = self._waiting[request]
            waiting.discard(future)
            if not waiting:
                del self._waiting[request]

    def _wake(self, request: str) -> None:
        for future in self._waiting.get(request, ()):
            if not future.done():
                future.set_result(None)
