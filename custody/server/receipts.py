"""Waiting for the log: everybody who waits for an entry to be published does so as a coroutine, never in a thread.

So callers who wait for a witness that is down, by the thousand, take no thread from stops, denials and reads.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from custody.entries.receipt import Receipt
from custody.publishing.publisher import Publisher
from custody.server.pools import Pools

__all__ = ["Receipts"]


class Receipts:
    """Receipts of entries as soon as they are published; ``timeout`` is in seconds."""

    def __init__(self, publisher: Publisher, pools: Pools, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        self._publisher: Final = publisher
        self._pools = pools
        self._timeout = timeout
        self._loop = loop
        self._waiting: set[tuple[Callable[[], bool], asyncio.Future[None]]] = set()
        publisher.on_published(self._published)

    async def of(self, caller: str, places: Sequence[int]) -> list[Receipt]:
        """Return the receipts of entries by index. Raises as ``Publisher.wait``."""
        newest = max(places, default=-1)
        if places and await self._until(lambda: self._settled(newest)):
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
        act.add_done_callback(self._acted)
        try:
            await self._until(lambda: self._ended(act))
            index = await asyncio.wrap_future(act)
        except asyncio.CancelledError:
            act.cancel()
            raise
        return self._publisher.at_hand(index) or await self.one(caller, index)

    async def _until(self, over: Callable[[], bool]) -> bool:
        """Return when what is waited for is over, or the time is; tell whether that took waiting."""
        waiter = (over, self._loop.create_future())
        self._waiting.add(waiter)  # before looking: whatever happens from now on wakes it
        try:
            if over():
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await waiter[1]
            return True
        finally:
            self._waiting.discard(waiter)

    def _ended(self, act: "Future[int]") -> bool:
        """Tell whether an act was done, and its entry is published or never will be."""
        return act.done() and (act.cancelled() or act.exception() is not None or self._settled(act.result()))

    def _acted(self, act: "Future[int]") -> None:
        """Wake who waits for an act that no publication will wake. Runs where the act was done."""
        if self._ended(act) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _settled(self, index: int) -> bool:
        """Tell whether an entry is published, or never will be."""
        return self._publisher.failed is not None or self._publisher.published.size > index

    def _published(self, size: int) -> None:
        """Runs in the publisher's thread."""
        del size
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for over, future in self._waiting:
            if not future.done() and over():
                future.set_result(None)
