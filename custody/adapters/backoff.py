"""Waiting between attempts: longer each time, never twice the same, and not for ever."""

from typing import Final

from custody.ports import Rng

__all__ = ["Backoff"]

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
