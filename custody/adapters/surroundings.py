"""What a program uses of the world: time, entropy, waiting. One value, handed down to whoever needs it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from custody.ports import Clock, Rng

__all__ = ["Around", "Surroundings"]


class Around(Protocol):
    """Seconds since 1970, entropy, a clock that never jumps, and how to wait (seconds)."""

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def rng(self) -> Rng:
        """Random bytes: they spread those who wait."""
        ...

    @property
    def monotonic(self) -> Callable[[], float]:
        """For deadlines."""
        ...

    @property
    def sleep(self) -> Callable[[float], None]:
        """For pauses."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Clock (seconds since 1970), entropy, a clock that never jumps, and how to wait (seconds)."""

    clock: Clock
    rng: Rng
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def real(cls) -> Self:
        """The computer's own. A job's program has no composition above it, so they enter here."""
        return cls(lambda: int(time.time()), os.urandom)  # noqa: TID251 - see the docstring
