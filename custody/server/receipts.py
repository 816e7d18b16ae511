"""Waiting for the log: everybody who waits for an entry to be published does so as a coroutine, never in a thread.

So callers who wait for a witness that is down, by the thousand, take no thread from stops, denials and reads.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from custody.entries.receipt import Receipt
from custody.publishing.publisher import Publisher
from custody.server.pools import Pools

__all__ = ["Receipts"]

_NONE: Final = -1  # the place of an entry that will never be: there is nothing to wait for


class Receipts:
    """Receipts of entries as soon as they are published; ``timeout`` is in seconds."""

    def __init__(self, publisher: Publisher, pools: Pools, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        self._publisher: Final = publisher
        self._pools = pools
        self._timeout = timeout
        self._loop = loop
        self._waiting: set[_Waiter] = set()
        publisher.on_published(self._published)

    async def of(self, caller: str, places: Sequence[int]) -> list[Receipt]:
        """Return the receipts of entries by index. Raises as ``Publisher.wait``."""
        if places and await self._until(_Waiter(self._loop, max(places))):
            # Published just now. Of what was published before, the ledger is asked whether it still says the same.
            found = [receipt for place in places if (receipt := self._publisher.at_hand(place)) is not None]
            if len(found) == len(places):
                return found
        return await self._pools.call(
            caller, lambda: [self._publisher.settled(place, self._timeout) for place in places]
        )

    async def one(self, caller: str, place: int) -> Receipt:
        """Return the receipt of one entry. Raises as ``Publisher.wait``."""
        return (await self.of(caller, [place]))[0]

    async def of_act(self, caller: str, act: "Future[int]") -> Receipt:
        """Return the receipt of the entry that an act appends, or raise what it raises. It is one wait, not two: waking
        somebody costs as much as a signature. Cancelled before the act's turn, nothing of it is done.
        """
        waiter = _Waiter(self._loop, None)
        act.add_done_callback(lambda act: self._acted(act, waiter))
        try:
            await self._until(waiter)
            index = act.result() if act.done() else await asyncio.wrap_future(act)
        except asyncio.CancelledError:
            act.cancel()
            raise
        return self._publisher.at_hand(index) or await self.one(caller, index)

    async def _until(self, waiter: "_Waiter") -> bool:
        """Return when what is waited for is over, or the time is; tell whether that took waiting."""
        self._waiting.add(waiter)  # before looking: whatever happens from now on wakes it
        try:
            if self._over(waiter):
                return False
            late = self._loop.call_later(self._timeout, waiter.wake)
            try:
                await waiter.future
            finally:
                late.cancel()
            return True
        finally:
            self._waiting.discard(waiter)

    def _over(self, waiter: "_Waiter") -> bool:
        """Tell whether an entry is published, or never will be."""
        place = waiter.place
        return place is not None and (self._publisher.failed is not None or self._publisher.published.size > place)

    def _acted(self, act: "Future[int]", waiter: "_Waiter") -> None:
        """Note the place of an entry; wake who waits for it where no publication will. Runs where the act was done."""
        waiter.place = _NONE if act.cancelled() or act.exception() is not None else act.result()
        if self._over(waiter) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(waiter.wake)

    def _published(self, size: int) -> None:
        """Runs in the publisher's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, size)

    def _wake(self, size: int) -> None:
        failed = self._publisher.failed is not None
        for waiter in self._waiting:
            if waiter.place is not None and (failed or waiter.place < size):
                waiter.wake()


class _Waiter:
    """Somebody who waits for the entry at ``place`` to be published; ``None`` as long as nobody knows where it is."""

    __slots__ = ("future", "place")

    def __init__(self, loop: asyncio.AbstractEventLoop, place: int | None) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.place = place

    def wake(self) -> None:
        """Let it go on, in the loop's thread."""
        if not self.future.done():
            self.future.set_result(None)
