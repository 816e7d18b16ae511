"""Waiting between attempts: longer each time, never twice the same, and not for ever."""

from collections.abc import Callable
from typing import Final

from custody.ports import Rng
from custody.segments.streams import StillWanted

__all__ = ["Backoff", "wait"]

_LOOK: Final = 1.0
"""Seconds after which whoever waits asks whether it is still worth it."""

_FIRST: Final = 0.2  # seconds
_MOST: Final = 10.0
_WORD: Final = 1 << 32


class Backoff:
    """Pauses of 0.2 s, doubling up to 10 s, each shortened at random by up to a half, until ``deadline``.

    The randomness spreads a fleet whose broker has just come back. ``deadline`` and ``now`` are seconds of one clock
    that never jumps.
    """

    def __init__(self, rng: Rng, deadline: float) -> None:
        self.deadline = deadline
        self._rng = rng
        self._next = _FIRST

    def pause(self, now: float) -> float | None:
        """Return the seconds to wait before the next attempt, or ``None`` when it is too late for one."""
        left = self.deadline - now
        if left <= 0:
            return None
        whole, self._next = self._next, min(2 * self._next, _MOST)
        chance = int.from_bytes(self._rng(4), "big") / _WORD
        return min(whole * (1 - chance / 2), left)


def wait(seconds: float, sleep: Callable[[float], None], wanted: StillWanted) -> None:
    """Wait, for as long as it is ``wanted``: what that raises ends it within a second."""
    while seconds > 0:
        wanted()
        sleep(min(seconds, _LOOK))
        seconds -= _LOOK
    wanted()
