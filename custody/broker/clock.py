"""The broker's clock: it follows the wall clock while that behaves, and goes on steadily when it jumps.

A jump, in either direction, must not lengthen a lease, end one early, or write a time into the log that no later entry
could follow. So while wall clock and monotonic clock disagree, time is what the monotonic clock says it should be,
nothing new is granted, and an entry says so. A restart takes the wall clock as it is then.
"""

import threading
from collections.abc import Callable
from typing import Final

from custody.errors import UnavailableError

__all__ = ["JUMP", "SteadyClock"]

JUMP: Final = 30
"""Seconds that wall clock and monotonic clock may drift apart before it is a jump."""


class SteadyClock:
    """Seconds since 1970 that never go back. ``wall`` and ``monotonic`` are read, never anything else."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._offset = wall() - monotonic()
        self._last = 0

    def __call__(self) -> int:
        """Return the time."""
        with self._lock:
            elapsed = self._monotonic()
            offset = self._wall() - elapsed
            if abs(offset - self._offset) <= JUMP:
                self._offset = offset  # small steps are the ordinary work of NTP
            self._last = max(self._last, int(elapsed + self._offset))
            return self._last

    def jump(self) -> int:
        """By how many seconds the wall clock is off now; 0 while it behaves."""
        with self._lock:
            off = int(self._wall() - self._monotonic() - self._offset)
        return off if abs(off) > JUMP else 0

    def require_steady(self) -> None:
        """Raise ``UnavailableError`` while the wall clock is off: nothing is granted by a clock that jumps."""
        if off := self.jump():
            raise UnavailableError(
                f"the broker's clock jumped by {off} seconds; nothing is granted until it is right",
                hint="set the clock right; if it was wrong before the jump, restart the broker",
            )
