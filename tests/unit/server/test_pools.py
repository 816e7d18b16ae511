"""No caller takes all threads: the rest of its calls wait behind its own."""

import asyncio
import threading

import pytest

from custody.server.pools import Pools, Turns


@pytest.mark.parametrize("name", ["call", "open", "stop"])
def test_a_caller_who_blocks_every_thread_it_gets_holds_up_nobody_else(name: str) -> None:
    blocked = threading.Event()

    async def scene() -> None:
        pools = Pools(calls=4)
        run = getattr(pools, name)
        greedy = [asyncio.create_task(run("greedy", blocked.wait)) for _ in range(100)]
        await asyncio.sleep(0.05)
        try:
            assert await asyncio.wait_for(run("other", lambda: 7), 5) == 7
            assert not any(task.done() for task in greedy)
        finally:
            blocked.set()
        assert all(await asyncio.gather(*greedy))
        pools.close()

    asyncio.run(scene())


def test_turns_are_given_back_and_forgotten() -> None:
    async def scene() -> None:
        turns = Turns(2)
        running, most = 0, 0

        async def work(caller: str) -> None:
            nonlocal running, most
            async with turns.turn(caller):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(work("a") for _ in range(20)))
        assert most == 2
        with pytest.raises(ZeroDivisionError):
            async with turns.turn("b"):
                raise ZeroDivisionError
        waiting = [asyncio.create_task(work("c")) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[-1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not turns._of

    asyncio.run(scene())
