"""Who may stream at once, so that memory is bounded and nobody waits for ever behind slow readers.

Each stream holds the messages of one segment, whatever its reader does; while few are served, those of two runs of
segments, and the ciphertext of some more where a store is waited for. So memory is bounded by the number of places, of
which a stream with large segments takes several. When all are taken, those that arrive wait in line, and as many places
as they wait for are freed by cutting streams whose reader has left a message untaken for longer than a reader at work
does, the slowest first. It is told to resume: what arrived is not sent again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from custody.errors import UnavailableError

__all__ = ["MAX_AHEAD", "MAX_STREAMS", "MAX_STREAMS_OF_SESSION", "PLACE", "Stream", "Streams"]

MAX_STREAMS: Final = 256
"""Streams served at once: as many places."""

PLACE: Final = 4 << 20
"""Bytes of a segment that a place stands for. A version with larger segments takes several for each stream."""

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
    """One stream, with the places that it takes. ``UnavailableError`` ends it."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.idle_since: float | None = None
        """When the write that its reader has not let finish began, on the clock of the event loop."""
        self.leaving = False
        """Whether it was cut."""
        self._patience: asyncio.Timeout | None = None

    async def write(self, writing: Awaitable[None]) -> None:
        """Wait for a write. ``UnavailableError`` when the reader takes nothing for too long."""
        self.idle_since = asyncio.get_running_loop().time()
        self.leaving = False  # a cut that came too late for the message before: its reader is not slow any more
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
        self._most = most
        self._places = asyncio.Semaphore(most)
        self._turn = asyncio.Lock()
        self._streams: set[Stream] = set()
        self._of_session: Counter[str] = Counter()
        self._asked = 0
        """Places that those who wait ask for, also where they are free already."""

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
    async def enter(self, session: str, segment: int) -> AsyncIterator[Stream]:
        """Take the places of a stream of ``segment`` bytes at a time for the length of a block; ``UnavailableError``
        when there are none.
        """
        stream = Stream(min(self._most, max(1, segment // PLACE)))
        with self._counted(session):
            if not await self._wait(stream.places):
                raise _too_many()
            self._streams.add(stream)
            try:
                yield stream
            finally:
                self._release(stream.places)
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

    async def _wait(self, places: int) -> bool:
        """Wait for places, in the order of arrival, slow readers' included; tell whether there were as many."""
        end = asyncio.get_running_loop().time() + _WAIT
        taking = asyncio.ensure_future(self._take(places))
        self._asked += places
        try:
            await asyncio.sleep(0)  # free ones are taken at once, and nobody is cut for them
            while not taking.done() and (left := end - asyncio.get_running_loop().time()) > 0:
                self._cut()
                await asyncio.wait({taking}, timeout=min(left, _SLOW / 2))
        except BaseException:
            if not taking.cancel() and not taking.cancelled():
                self._release(places)  # they came too late for whoever waited
            raise
        finally:
            self._asked -= places
        return not taking.cancel()

    async def _take(self, places: int) -> None:
        """Take places, all or none. One stream after the other: two that had half of theirs would wait for ever."""
        taken = 0
        try:
            async with self._turn:
                while taken < places:
                    await self._places.acquire()
                    taken += 1
        except BaseException:
            self._release(taken)
            raise

    def _release(self, places: int) -> None:
        for _ in range(places):
            self._places.release()

    def _cut(self) -> None:
        """Cut the slowest streams, until as many places become free as others wait for."""
        before = asyncio.get_running_loop().time() - _SLOW
        slow = [(stream.idle_since, stream) for stream in self._streams if stream.idle_since is not None]
        slow = sorted((item for item in slow if item[0] <= before), key=lambda item: item[0])
        staying = sum(stream.places for stream in self._streams if not stream.leaving)
        wanted = self._asked + staying - self._most
        for _, stream in slow:
            if wanted <= 0:
                break
            stream.cut()
            wanted -= stream.places


def _too_many() -> UnavailableError:
    return UnavailableError("too many streams", hint="try again in a moment")
