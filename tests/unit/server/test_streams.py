"""A thousand slow readers take no more places than there are, and give one up to whoever waits."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from custody.errors import UnavailableError
from custody.server import streams
from custody.server.streams import MAX_STREAMS_OF_SESSION, PLACE, Streams


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_SLOW", 0.05)
    monkeypatch.setattr(streams, "_WAIT", 0.5)


async def never() -> None:
    await asyncio.Event().wait()


async def soon() -> None:
    await asyncio.sleep(0)


async def gone(*tasks: "asyncio.Task[None]") -> list[BaseException | None]:
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


class Crowd:
    """Readers of a server with few places, and how many held one at once."""

    def __init__(self, places: int) -> None:
        self.streams = Streams(places)
        self.now = 0
        self.most = 0

    async def read(
        self, session: str, messages: int, write: Callable[[], Awaitable[None]], segment: int = 1 << 20
    ) -> None:
        async with self.streams.enter(session, segment) as stream:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                for _ in range(messages):
                    await stream.write(write())
            finally:
                self.now -= 1

    async def read_at_last(self, session: str, messages: int, write: Callable[[], Awaitable[None]]) -> None:
        """Try again in a moment, as one is told, for as long as it takes."""
        while True:
            try:
                return await self.read(session, messages, write)
            except UnavailableError:
                await asyncio.sleep(0.01)


def test_readers_at_work_get_their_turn_among_a_thousand_that_take_nothing() -> None:
    async def scene() -> None:
        crowd = Crowd(8)
        slow = [asyncio.create_task(crowd.read(f"slow {i}", 1, never)) for i in range(1000)]
        await asyncio.sleep(0.1)
        for i in range(20):
            await asyncio.wait_for(crowd.read_at_last(f"quick {i}", 50, soon), 30)
            await asyncio.sleep(0.06)  # whoever got in meanwhile becomes slow
        assert crowd.most == 8
        ended = await gone(*slow)
        assert any(isinstance(error, UnavailableError) and "took nothing" in error.message for error in ended)
        assert crowd.now == 0

    asyncio.run(scene())


def test_readers_at_work_are_not_cut_for_one_that_arrives() -> None:
    async def scene() -> None:
        crowd = Crowd(2)

        async def steadily() -> None:
            await asyncio.sleep(0.001)

        busy = [asyncio.create_task(crowd.read(f"busy {i}", 2000, steadily)) for i in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(UnavailableError, match="too many streams"):
            await crowd.read("late", 1, soon)
        assert not any(task.done() for task in busy)
        await gone(*busy)

    asyncio.run(scene())


def test_one_session_cannot_take_all_places() -> None:
    async def scene() -> None:
        crowd = Crowd(100)
        tasks = [asyncio.create_task(crowd.read("greedy", 1, never)) for _ in range(MAX_STREAMS_OF_SESSION)]
        await asyncio.sleep(0.01)
        with pytest.raises(UnavailableError, match="too many streams"):
            await crowd.read("greedy", 1, soon)
        await crowd.read("modest", 1, soon)
        await gone(*tasks)
        await crowd.read("greedy", 1, soon)

    asyncio.run(scene())


def test_one_session_cannot_take_all_places_that_become_free_at_once() -> None:
    async def scene() -> None:
        crowd = Crowd(20)
        first = [asyncio.create_task(crowd.read(f"session {i}", 1, never)) for i in range(20)]
        await asyncio.sleep(0)
        greedy = [asyncio.create_task(crowd.read("greedy", 1, never)) for _ in range(20)]
        await asyncio.sleep(0.01)
        refused = [task for task in greedy if task.done()]
        assert len(refused) == 20 - MAX_STREAMS_OF_SESSION
        for task in first:
            task.cancel()
        await asyncio.sleep(0.1)
        assert crowd.now == MAX_STREAMS_OF_SESSION
        for task in greedy:
            task.cancel()
        ended = await asyncio.gather(*greedy, *first, return_exceptions=True)
        assert sum(isinstance(error, UnavailableError) for error in ended) == len(refused)
        await crowd.read("greedy", 1, soon)

    asyncio.run(scene())


def test_who_waited_in_vain_or_went_away_counts_no_more() -> None:
    async def scene() -> None:
        crowd = Crowd(1)
        async with crowd.streams.enter("first", 0):
            for patient in (True, False):
                waiting = [asyncio.create_task(crowd.read("greedy", 0, soon)) for _ in range(MAX_STREAMS_OF_SESSION)]
                await asyncio.sleep(0.01)
                for task in waiting:
                    if not patient:
                        task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            assert crowd.streams._of_session == {"first": 1}
        await crowd.read("greedy", 1, soon)
        assert not crowd.streams._of_session

    asyncio.run(scene())


@pytest.mark.parametrize(("segment", "most"), [(4096, 8), (PLACE, 8), (2 * PLACE, 4), (4 * PLACE, 2), (64 * PLACE, 1)])
def test_streams_with_large_segments_are_fewer(segment: int, most: int) -> None:
    async def scene() -> None:
        crowd = Crowd(8)
        readers = [asyncio.create_task(crowd.read(f"session {i}", 1, never, segment)) for i in range(20)]
        await asyncio.sleep(0.01)
        assert crowd.now == most
        await gone(*readers)
        await crowd.read("all of them again", 1, soon, 8 * PLACE)

    asyncio.run(scene())


def test_two_that_wait_for_several_places_do_not_wait_for_each_other() -> None:
    async def scene() -> None:
        crowd = Crowd(4)
        small = [asyncio.create_task(crowd.read(f"small {i}", 1, never)) for i in range(4)]
        await asyncio.sleep(0)
        large = [asyncio.create_task(crowd.read(f"large {i}", 1, soon, 4 * PLACE)) for i in range(2)]
        for task in small:  # one place becomes free after the other
            await asyncio.sleep(0.01)
            await gone(task)
        await asyncio.gather(*large)
        assert crowd.most == 4

    asyncio.run(scene())


def test_as_many_slow_readers_are_cut_as_a_large_stream_takes_places() -> None:
    async def scene() -> None:
        crowd = Crowd(8)
        slow = [asyncio.create_task(crowd.read(f"slow {i}", 1, never)) for i in range(8)]
        await asyncio.sleep(0.06)
        await crowd.read("large", 1, soon, 3 * PLACE)
        assert sum(task.done() for task in slow) == 3
        await gone(*slow)

    asyncio.run(scene())


@pytest.mark.parametrize("turns", [1, 2, 4, 8, 16])
def test_nobody_is_cut_for_places_that_are_free(turns: int) -> None:
    """Those who were let in come one after the other; who arrives meanwhile finds the rest of their places free."""

    async def scene() -> None:
        crowd = Crowd(40)
        slow = [asyncio.create_task(crowd.read(f"slow {i}", 1, never)) for i in range(40)]
        await asyncio.sleep(0.06)
        quick = [asyncio.create_task(crowd.read(f"quick {i}", 1, never)) for i in range(10)]
        while not any(task.done() for task in slow):  # noqa: ASYNC110 - a turn of the loop at a time
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        quick.append(asyncio.create_task(crowd.read("late", 1, never)))
        await asyncio.sleep(0.04)
        assert sum(task.done() for task in slow) == 11
        assert crowd.now == 40
        await gone(*slow, *quick)

    asyncio.run(scene())


def test_who_was_cut_too_late_stays_and_is_cut_another_time() -> None:
    """Its reader took the message in the same turn of the loop."""

    async def scene() -> None:
        crowd, taken = Crowd(1), asyncio.Event()

        async def slowly() -> None:
            if taken.is_set():
                await never()
            await taken.wait()

        slow = asyncio.create_task(crowd.read("slow", 2, slowly))
        await asyncio.sleep(0.06)
        taken.set()  # it is to be woken in the next turn
        crowd.streams._asked += 1
        crowd.streams._cut()
        crowd.streams._asked -= 1
        await asyncio.sleep(0.06)
        assert not slow.done()
        await crowd.read("other", 1, soon)
        await gone(slow)

    asyncio.run(scene())


@pytest.mark.parametrize("patient", [True, False])
def test_who_waited_for_several_places_in_vain_gives_back_those_that_came(*, patient: bool) -> None:
    async def scene() -> None:
        crowd = Crowd(4)

        async def steadily() -> None:
            await asyncio.sleep(0.001)

        small = [asyncio.create_task(crowd.read(f"small {i}", 10_000, steadily)) for i in range(4)]
        await asyncio.sleep(0)
        large = asyncio.create_task(crowd.read("large", 1, soon, 3 * PLACE))
        await asyncio.sleep(0.01)
        await gone(*small[:2])  # two of the three it waits for
        late = asyncio.create_task(crowd.read("late", 1, soon))
        await asyncio.sleep(0.01)
        assert not late.done()
        if not patient:
            large.cancel()
        with pytest.raises(UnavailableError if patient else asyncio.CancelledError):
            await large
        await late
        await crowd.read("two", 1, soon, 2 * PLACE)
        await gone(*small)
        await crowd.read("four", 1, soon, 4 * PLACE)
        assert crowd.streams._asked == 0

    asyncio.run(scene())


def test_a_reader_that_takes_nothing_for_too_long_is_told_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_STALL", 0.02)
    with pytest.raises(UnavailableError, match="took nothing") as caught:
        asyncio.run(Crowd(1).read("slow", 1, never))
    assert "resume" in caught.value.hint


@pytest.mark.parametrize(("number", "ahead"), [(1, 3), (4, 3), (5, 2), (8, 1), (9, 0), (16, 0), (17, 0)])
def test_all_streams_together_have_as_much_fetched_as_few_have(number: int, ahead: int) -> None:
    async def scene() -> None:
        crowd = Crowd(64)
        readers = [asyncio.create_task(crowd.read(f"session {i}", 1, never)) for i in range(number)]
        await asyncio.sleep(0.01)
        assert crowd.now == number
        assert crowd.streams.ahead == ahead
        await gone(*readers)

    asyncio.run(scene())
