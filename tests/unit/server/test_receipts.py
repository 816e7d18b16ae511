"""Waiting for the receipt of an act: one wake at its publication, and none missed."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, cast

import pytest

from custody.entries.receipt import Receipt
from custody.errors import DeniedError, UnavailableError
from custody.publishing.publisher import Publisher
from custody.server.pools import Pools
from custody.server.receipts import Receipts

RECEIPT = Receipt(b"entry", b"proof")


class Log:
    """A publisher that publishes when it is told to."""

    def __init__(self) -> None:
        self.failed = None
        self.size = 0
        self.tell: Callable[[int], None] = lambda _size: None

    @property
    def published(self) -> "Log":
        return self

    def on_published(self, listener: Callable[[int], None]) -> None:
        self.tell = listener

    def publish(self, size: int) -> None:
        self.size = size
        self.tell(size)

    def at_hand(self, index: int) -> Receipt | None:
        return RECEIPT if index < self.size else None

    def settled(self, index: int, waited: float) -> Receipt:
        if index < self.size:
            return RECEIPT
        raise UnavailableError(f"entry {index} is not published after {waited:g} s")


def run(scene: Callable[..., Any], wait: float = 30) -> Any:
    """Run a scene with a log, an act, and what waits for the act's receipt."""

    async def main() -> Any:
        log, act, pools = Log(), Future[int](), Pools()
        receipts = Receipts(cast("Publisher", log), pools, wait, asyncio.get_running_loop())
        try:
            async with asyncio.timeout(10):
                return await scene(log, act, lambda: receipts.of_act("alice", act))
        finally:
            pools.close()

    return asyncio.run(main())


@pytest.mark.parametrize("told_first", [True, False])
def test_whichever_comes_first_of_commit_and_publication_the_receipt_comes(*, told_first: bool) -> None:
    """An entry may be published before the thread that committed it has said so."""

    async def scene(log: Log, act: "Future[int]", receipt: Callable[[], Coroutine[Any, Any, Receipt]]) -> Receipt:
        waiting = asyncio.create_task(receipt())
        await asyncio.sleep(0)
        steps = [lambda: act.set_result(4), lambda: log.publish(5)]
        for step in steps if told_first else reversed(steps):
            thread = threading.Thread(target=step)
            thread.start()
            thread.join()
            await asyncio.sleep(0.02)  # what wakes too early finds nothing, what is lost stays lost
        return await waiting

    assert run(scene) == RECEIPT


def test_an_act_that_was_done_and_published_before_anybody_asked_is_no_wait() -> None:
    async def scene(log: Log, act: "Future[int]", receipt: Callable[[], Coroutine[Any, Any, Receipt]]) -> Receipt:
        act.set_result(4)
        log.publish(5)
        return await receipt()

    assert run(scene) == RECEIPT


def test_a_publication_without_the_entry_wakes_nobody() -> None:
    async def scene(log: Log, act: "Future[int]", receipt: Callable[[], Coroutine[Any, Any, Receipt]]) -> bool:
        waiting = asyncio.create_task(receipt())
        await asyncio.sleep(0)
        act.set_result(4)
        log.publish(4)
        await asyncio.sleep(0.02)
        early = waiting.done()
        log.publish(5)
        await waiting
        return early

    assert run(scene) is False


def test_what_an_act_is_refused_with_is_told_at_once() -> None:
    async def scene(_log: Log, act: "Future[int]", receipt: Callable[[], Coroutine[Any, Any, Receipt]]) -> None:
        waiting = asyncio.create_task(receipt())
        await asyncio.sleep(0)
        act.set_exception(DeniedError("no"))
        with pytest.raises(DeniedError, match="no"):
            await waiting

    run(scene)


def test_who_goes_away_before_the_act_takes_it_back() -> None:
    async def scene(_log: Log, act: "Future[int]", receipt: Callable[[], Coroutine[Any, Any, Receipt]]) -> bool:
        waiting = asyncio.create_task(receipt())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return act.cancelled()

    assert run(scene)


def test_an_entry_that_is_not_published_in_time_is_told_as_that() -> None:
    async def scene(_log: Log, act: "Future[int]", receipt: Callable[[], Coroutine[Any, Any, Receipt]]) -> None:
        act.set_result(4)
        with pytest.raises(UnavailableError, match="entry 4 is not published"):
            await receipt()

    run(scene, wait=0.05)
