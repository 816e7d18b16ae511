"""Signed requests for the parts of a blob, asked for in batches: one call to the broker for many parts."""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from custody.ports import Clock, Presigned

__all__ = ["SignedParts"]

_AT_ONCE: Final = 16
_BYTES_AT_ONCE: Final = 256 << 20  # so many are sent before the URLs end, on any line worth the name
_FRESH: Final = 60  # seconds that a URL must still hold when it is used


class SignedParts:
    """The requests of one blob; many threads may take. ``ask`` is told a number (1 and up), and how many from there.

    A part that is taken again is asked for anew, by itself: the store may have refused the first request.
    """

    def __init__(
        self, ask: Callable[[int, int], Sequence[Presigned]], parts: int, part_size: int, clock: Clock
    ) -> None:
        self._ask = ask
        self._parts = parts
        self._batch = max(1, min(_AT_ONCE, _BYTES_AT_ONCE // part_size))
        self._clock = clock
        self._lock = threading.Lock()
        self._ready: dict[int, Presigned] = {}
        self._asked = 0  # parts up to this number have been asked for

    def take(self, number: int) -> Presigned:
        """Return the request for a part."""
        with self._lock:
            ready = self._ready.pop(number, None)
            if ready is not None and ready.expires - self._clock() > _FRESH:
                return ready
            many = 1 if number <= self._asked else min(self._batch, self._parts - number + 1)
            first, *others = self._ask(number, many)
            self._asked = max(self._asked, number + many - 1)
            self._ready.update(enumerate(others, number + 1))
            return first
