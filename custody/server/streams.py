"""Who may stream at once, so that memory is bounded and nobody waits for ever behind slow readers.

Each stream holds the messages of one segment, whatever its reader does; while few are served, those of two runs of
segments, and the ciphertext of some more where a store is waited for. So memory is bounded by their number. When all
places are taken, those that arrive wait in line, and for each of them a stream is cut whose reader has left a message
untaken for longer than a reader at work does, the slowest first. It is told to resume: what arrived is not sent again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from custody.errors import UnavailableError

__all__ = ["MAX_AHEAD", "MAX_STREAMS", "MAX_STREAMS_OF_SESSION", "Stream", "Streams"]

MAX_STREAMS: Final = 256
"""Streams served at once."""

MAX_STREAMS_OF_SESSION: Final = 16
"""So that one job cannot take them all: those that are served, and those that wait for a place."""

MAX_AHEAD: Final = 16
"""Streams that are served at once while each has its next run of segments made ready."""

_FETCHES: Final = 3
"""Runs of ciphertext that a stream may have beyond the one it works on, where a store is waited for."""

_STALL: Final = 30.0
"""Seconds a reader may leave one message untaken before its stream ends; it can resume where it was."""

_SLOW: Final = 1.0
"""Seconds after which it may lose its place to somebody else."""

_WAIT: Final = 5.0
"""Seconds that somebody waits for a place."""


class Stream:
    """One stream. ``UnavailableError`` ends it."""

    def __init__(self) -> None:
        self.idle_since: float | None = None
        """When the write that its reader has not let finish began, on the clock of the event loop."""
        self.leaving = False
        """Whether it was cut."""
        self._patience: asyncio.Timeout | None = None

    async def write(self, writing: Awaitable[None]) -> None:
        """Wait for a write. ``UnavailableError`` when the reader takes nothing for too long."""
        self.idle_since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_STALL) as self._patience:
                await writing
        except TimeoutError:
            message = "the reader took nothing for too long"
            raise UnavailableError(message, hint="resume at the next segment") from None
        finally:
            self.idle_since = self._patience = None

    def cut(self) -> None:
        """Let the write under way end as if its time was over."""
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())
            self.idle_since = None
            self.leaving = True


class Streams:
    """All streams of a server."""

    def __init__(self, most: int = MAX_STREAMS) -> None:
        self._places = asyncio.Semaphore(most)
        self._streams: set[Stream] = set()
        self._of_session: Counter[str] = Counter()
        self._waiting = 0

    @property
    def few(self) -> bool:
        """Whether so few are served that each may have segments made ready."""
        return len(self._streams) <= MAX_AHEAD

    @property
    def ahead(self) -> int:
        """How many runs of ciphertext each may have beyond the one it works on: all streams together have at most as
        many, those included, as ``MAX_AHEAD`` says.
        """
        return min(_FETCHES, MAX_AHEAD // max(1, len(self._streams)) - 1) if self.few else 0

    @asynccontextmanager
    async def enter(self, session: str) -> AsyncIterator[Stream]:
        """Take a place for the length of a block; ``UnavailableError`` when there is none."""
        with self._counted(session):
            if not await self._place():
                raise _too_many()
            stream = Stream()
            self._streams.add(stream)
            try:
                yield stream
            finally:
                self._places.release()
                self._streams.discard(stream)

    @contextmanager
    def _counted(self, session: str) -> Iterator[None]:
        """Count a stream of a session for the length of a block. Before it waits for a place: many may wait at once."""
        if self._of_session[session] >= MAX_STREAMS_OF_SESSION:
            raise _too_many()
        self._of_session[session] += 1
        try:
            yield
        finally:
            self._of_session[session] -= 1
            if not self._of_session[session]:
                del self._of_session[session]

    async def _place(self) -> bool:
        """Wait for a place, in the order of arrival, slow readers' places included; tell whether there was one."""
        if not self._places.locked():
            return await self._places.acquire()
        end = asyncio.get_running_loop().time() + _WAIT
        place = asyncio.ensure_future(self._places.acquire())
        self._waiting += 1
        try:
            while not place.done() and (left := end - asyncio.get_running_loop().time()) > 0:
                self._cut()
                await asyncio.wait({place}, timeout=min(left, _SLOW / 2))
        except BaseException:
            if not place.cancel() and not place.cancelled():
                self._places.release()  # it came too late for whoever waited
            raise
        finally:
            self._waiting -= 1
        return not place.cancel()

    def _cut(self) -> None:
        """Cut as many of the slowest streams as others wait for a place."""
        before = asyncio.get_running_loop().time() - _SLOW
        slow = [(stream.idle_since, stream) for stream in self._streams if stream.idle_since is not None]
        slow = sorted((item for item in slow if item[0] <= before), key=lambda item: item[0])
        leaving = sum(stream.leaving for stream in self._streams)
        for _, stream in slow[: max(0, self._waiting - leaving)]:
            stream.cut()


def _too_many() -> UnavailableError:
    return UnavailableError("too many streams", hint="try again in a moment")
