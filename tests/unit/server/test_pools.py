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


@pytest.mark.parametrize("when", ["while it ran", "when it had run", "before it began"])
def test_what_was_done_for_a_call_that_had_broken_off_is_handed_on(when: str) -> None:
    begun, go_on, done_now, over = (threading.Event() for _ in range(4))
    done: list[str] = []

    def work() -> str:
        begun.set()
        assert go_on.wait(5)
        done.append("worked")
        done_now.set()
        return "result"

    def unheard(result: str) -> None:
        done.append(f"{result}, on the loop: {threading.current_thread() is threading.main_thread()}")
        over.set()

    async def scene() -> None:
        pools = Pools()
        # With every thread taken by others it has not begun.
        busy = [asyncio.create_task(pools.open(f"{i}", go_on.wait)) for i in range(16 * (when == "before it began"))]
        await asyncio.sleep(0.05)
        call = asyncio.create_task(pools.open("job", work, unheard))
        await asyncio.sleep(0.05)
        assert begun.is_set() == (not busy)
        if when == "when it had run":
            go_on.set()
            done_now.wait(5)  # its answer comes to the loop, which has not looked yet
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
        await asyncio.gather(*busy)
        assert await asyncio.to_thread(over.wait, 0.2 if busy else 5) == (not busy)
        pools.close()

    asyncio.run(scene())
    assert done == ([] if when == "before it began" else ["worked", "result, on the loop: False"])


def test_what_failed_for_a_call_that_had_broken_off_is_nothing_to_hand_on() -> None:
    go_on, handed = threading.Event(), list[object]()

    def fail() -> None:
        assert go_on.wait(5)
        raise ZeroDivisionError

    async def scene() -> None:
        pools = Pools()
        call = asyncio.create_task(pools.open("job", fail, handed.append))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        go_on.set()
        pools.close()

    asyncio.run(scene())
    assert not handed


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
