"""How many may be somewhere at once, in all and of one identity: whoever waits costs a coroutine and a message."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from custody.errors import UnavailableError

__all__ = ["Room"]


class Room:
    """Room for ``most`` at once, and for ``of_one`` of each caller. For one event loop; it takes no lock."""

    def __init__(self, most: int, of_one: int, full: str) -> None:
        self._most = most
        self._of_one = of_one
        self._full = full
        self._total = 0
        self._callers: Counter[str] = Counter()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Have a place for the block. Raises ``UnavailableError``, which says ``full``, where there is none."""
        if self._total >= self._most or self._callers[caller] >= self._of_one:
            raise UnavailableError(self._full, hint="try again in a moment")
        self._total += 1
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._total -= 1
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
