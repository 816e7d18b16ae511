"""The way to the broker: one connection at a time, made anew when it breaks or the certificate changes.

A connection reads its certificate once. So a program that runs for days makes a new connection whenever the files have
changed. An old one is closed when the last call on it has ended: streams of other threads go on.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

from custody.adapters.backoff import Backoff, wait
from custody.adapters.surroundings import Surroundings
from custody.client.settings import Memory, Settings
from custody.crypto import svid
from custody.errors import ConfigError, IntegrityError, InterruptedByUser, UnavailableError
from custody.rules.trust import Seen, Trust
from custody.segments.streams import StillWanted, still_wanted
from custody.values import Time
from custody.wire.calls import Calls
from custody.wire.pieces import Piece

__all__ = ["CALL_PATIENCE", "BoundedCalls", "Dial", "Link", "dial"]

CALL_PATIENCE: Final = 60.0
"""Seconds that a call is repeated for while the broker cannot be reached."""

_STALL: Final = 60.0
_SLOWEST: Final = 1 << 20  # bytes per second; a reader slower than this begins a new stream now and then

_T = TypeVar("_T")


class BoundedCalls(Calls):
    """Calls of which none can hang, streams included."""

    def read_within(self, session: str, file: int, first: int, count: int, size: int) -> Iterator[Piece]:
        """Yield the pieces of ``count`` segments of together ``size`` bytes, with a deadline that follows from it."""
        return self._pieces(session, file, first, count, _STALL + size / _SLOWEST)


Dial = Callable[[Settings, int], BoundedCalls]
"""Makes a connection; told the time in seconds since 1970."""


def dial(settings: Settings, now: int) -> BoundedCalls:
    """Connect with the certificate that lies there now. ``ConfigError`` for one that has ended or not begun."""
    begin, end = svid.validity(settings.tls.chain()[0])
    if now > end:
        raise ConfigError(
            f"{settings.tls.certificate} expired at {Time(end)}",
            hint="renew it: custody ca issue, or ask its issuer; and is this computer's clock right?",
        )
    if now < begin:
        raise ConfigError(
            f"{settings.tls.certificate} is valid only from {Time(begin)}", hint="is this computer's clock right?"
        )
    return BoundedCalls(settings.address, settings.server_name, settings.tls)


@dataclass(slots=True)
class _Connection:
    calls: BoundedCalls
    stamp: tuple[int, ...]
    users: int = 0
    retired: bool = False


class Link:
    """Calls that survive broken connections, and what this program believes. Safe for use by many threads."""

    def __init__(
        self, settings: Settings, around: Surroundings, memory: Memory | None = None, connect: Dial = dial
    ) -> None:
        self.settings = settings
        self.around = around
        self._connect = connect
        self._memory = memory
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._open: set[BoundedCalls] = set()
        self._closed = False
        self._trusting = threading.RLock()
        self._trust = Trust(settings.deployment, settings.genesis, memory.seen() if memory else Seen())

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        with self._lock:
            self._closed = True
            self._connection = None
            calls, self._open = self._open, set()
        for one in calls:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def now(self) -> int:
        """Seconds since 1970."""
        return self.around.clock()

    def backoff(self, patience: float) -> Backoff:
        """Return pauses for at most ``patience`` seconds from now."""
        return Backoff(self.around.rng, self.around.monotonic() + patience)

    def rest(self, backoff: Backoff, wanted: StillWanted = still_wanted) -> bool:
        """Wait before the next attempt; tell whether there may be one. What ``wanted`` raises ends the waiting."""
        pause = backoff.pause(self.around.monotonic())
        if pause is None:
            return False
        self.wait(pause, wanted)
        return True

    def wait(self, seconds: float, wanted: StillWanted) -> None:
        """Wait, for as long as it is wanted."""
        wait(seconds, self.around.sleep, wanted)

    @contextmanager
    def borrow(self) -> Iterator[BoundedCalls]:
        """Lend the connection for one call or stream. After an ``UnavailableError`` the next is a new one."""
        connection = self._take()
        try:
            yield connection.calls
        except UnavailableError:
            self._retire(connection)
            raise
        except InterruptedByUser:
            # The other end cancelled the call: it is being shut down. No user had a hand in it.
            self._retire(connection)
            raise UnavailableError(f"the broker at {self.settings.address} broke off the call") from None
        except ValueError as error:
            if self._closed:  # what gRPC says of calls on a channel that was closed meanwhile
                raise UnavailableError("the connection was closed") from error
            raise
        finally:
            self._give_back(connection)

    def call(
        self,
        do: Callable[[BoundedCalls], _T],
        *,
        patience: float = CALL_PATIENCE,
        wanted: StillWanted = still_wanted,
    ) -> _T:
        """Do one call that may be repeated, for ``patience`` seconds while the broker cannot be reached, and no longer
        than it is ``wanted``.
        """
        backoff = self.backoff(patience)
        while True:
            wanted()
            try:
                with self.borrow() as calls:
                    return do(calls)
            except UnavailableError:
                if self._closed or not self.rest(backoff, wanted):
                    raise

    def verify(self, check: Callable[[Trust], _T]) -> _T:
        """Return what ``check`` makes of what this program believes, and remember what was seen.

        A check that fails is done once more with the newest roots: the trust root may have changed since.
        """
        with self._trusting:
            if not self._trust.roots:
                self._learn()
            try:
                result = check(self._trust)
            except IntegrityError:
                self._learn()
                result = check(self._trust)
            if self._memory is not None:
                self._memory.remember(self._trust.seen, self._trust.root_digest)
            return result

    def _learn(self) -> None:
        """Take the roots from the broker; they are believed because they follow from the pinned genesis."""
        self._trust.take_roots(self.call(lambda calls: calls.get_roots()))

    def _take(self) -> _Connection:
        stamp = self.settings.tls.stamp()
        idle: BoundedCalls | None = None
        with self._lock:
            if self._closed:
                raise UnavailableError("the connection was closed")
            current = self._connection
            if current is None or current.stamp != stamp:
                if current is not None:
                    idle = self._retired(current)
                current = self._connection = _Connection(self._connect(self.settings, self.now()), stamp)
                self._open.add(current.calls)
            current.users += 1
        if idle is not None:
            idle.close()
        return current

    def _retire(self, connection: _Connection) -> None:
        with self._lock:
            self._retired(connection)
            if self._connection is connection:
                self._connection = None

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            connection.users -= 1
            idle = self._retired(connection) if connection.retired else None
        if idle is not None:
            idle.close()

    def _retired(self, connection: _Connection) -> BoundedCalls | None:
        """Mark a connection as not to be used again; return it to be closed if nobody uses it any more."""
        connection.retired = True
        if connection.users == 0 and connection.calls in self._open:
            self._open.discard(connection.calls)
            return connection.calls
        return None
