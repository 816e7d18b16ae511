"""What was refused, on its way into the log: of known peers one by one, of strangers and floods as counts per minute.

Whoever TLS has proved to be of the trust domain is named, with what was asked and why it was refused; that is how an
auditor sees somebody try doors. But nobody may fill a log that fails closed: beyond ``EACH`` a minute of one identity,
or ``ALL`` of everybody, refusals are counted. Reason and ticket of a request stay in documents; here are codes only.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from custody.broker.context import Peer
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError

__all__ = ["ALL", "EACH", "PerMinute", "Refusals", "Refused"]

EACH: Final = 10
ALL: Final = 100
_MINUTE: Final = 60.0
_READS: Final = frozenset({"read", "read-digests", "locate"})
"""What only looks at the store: where these find something wrong, it is there, and the caller has sent nothing."""

_WORDS: Final = (
    (DeniedError, "denied"),
    (FormatError, "malformed"),
    (IntegrityError, "forged"),
    (NotFoundError, "unknown"),
)


class PerMinute:
    """At most ``most`` of something in a minute for each name. Minutes are fixed windows of ``monotonic`` (seconds).

    Names are identities that an authority certified, so there are never more of them than certificates in a minute.
    """

    def __init__(self, most: int, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._monotonic = monotonic
        self._since = monotonic()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Count one; tell whether there was room for it."""
        with self._lock:
            now = self._monotonic()
            if now - self._since >= _MINUTE:
                self._since = now
                self._counts.clear()
            self._counts[name] += 1
            return self._counts[name] <= self._most


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal of a known peer; ``reason`` is the code of its entry, such as ``refused-open-session-denied``."""

    peer: Peer
    reason: str


class Refusals:
    """Collects them; ``Upkeep`` logs them. Methods may be called from any thread, and never wait for the log."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._each = PerMinute(EACH, monotonic)
        self._all = PerMinute(ALL, monotonic)
        self._lock = threading.Lock()
        self._waiting: deque[Refused] = deque()
        self._counts: Counter[str] = Counter()

    def stranger(self) -> None:
        """Count somebody whose certificate names nobody of this trust domain."""
        with self._lock:
            self._counts["refused-strangers"] += 1

    def known(self, peer: Peer, call: str, error: CustodyError) -> None:
        """Note what a peer was refused. Errors that are nobody's attempt (busy, down, done before) are not noted, nor
        is a look at what is not there: tools ask for a request by the id of its lease.
        """
        word = next((text for kind, text in _WORDS if isinstance(error, kind)), None)
        if word is None or (word == "unknown" and call.startswith("get-")):
            return
        if word == "forged" and call in _READS:
            word = "damaged"
        fits = self._each.take(peer.identity) and self._all.take("")
        with self._lock:
            if fits and len(self._waiting) < ALL:
                self._waiting.append(Refused(peer, f"refused-{call}-{word}"))
            else:
                self._counts["refused-more"] += 1

    def first(self) -> Refused | None:
        """Return the oldest one that is not logged; it stays until ``done``."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def done(self) -> None:
        """Forget the oldest one: it is logged."""
        with self._lock:
            self._waiting.popleft()

    def counts(self) -> dict[str, int]:
        """Return what was only counted, by the reason of its entry, and begin again."""
        with self._lock:
            counts, self._counts = dict(self._counts), Counter()
        return counts
