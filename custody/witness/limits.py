"""How many requests a stranger gets."""

from collections import OrderedDict
from collections.abc import Callable

__all__ = ["TokenBuckets"]


class TokenBuckets:
    """A token bucket per peer: ``burst`` requests at once, ``rate`` per second after that.

    ``clock`` is monotonic, in seconds. At most ``peers`` are remembered; whoever was silent longest is forgotten first
    and starts with a full bucket again, so a flood from many addresses takes memory from nobody and tokens from nobody
    else. Not safe for several threads: it lives in the event loop.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float], peers: int = 4096) -> None:
        """``ValueError`` unless rate, burst and peers are positive."""
        if rate <= 0 or burst < 1 or peers < 1:
            raise ValueError("rate, burst and peers must be positive")
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._peers = peers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # peer -> (tokens, as of)

    def take(self, peer: str) -> bool:
        """Take a token for one request; False where the peer has none left."""
        now = self._clock()
        tokens, since = self._buckets.pop(peer, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[peer] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._peers:
            self._buckets.popitem(last=False)
        return allowed

    def give_back(self, peer: str) -> None:
        """Return the token of a request that was no stranger's."""
        if peer in self._buckets:
            tokens, since = self._buckets[peer]
            self._buckets[peer] = (min(self._burst, tokens + 1), since)
