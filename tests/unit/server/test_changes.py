"""Long polls: many wait, the right ones wake, and there is a bound."""

import asyncio
import threading

import pytest

from custody.errors import UnavailableError
from custody.server import changes as module
from custody.server.changes import Changes


def test_a_change_wakes_those_who_wait_for_it_and_nobody_else() -> None:
    async def scene() -> tuple[list[str], bool]:
        changes = Changes(asyncio.get_running_loop())
        woken: list[str] = []

        async def wait(name: str, request: str, seconds: float) -> None:
            await changes.wait(request, seconds, name)
            woken.append(name)

        many = [asyncio.create_task(wait(f"a{number}", "a", 30)) for number in range(200)]
        other = asyncio.create_task(wait("b", "b", 30))
        await asyncio.sleep(0)
        threading.Thread(target=changes.notify, args=("a",)).start()
        await asyncio.gather(*many)
        still = not other.done()
        other.cancel()
        return woken, still

    woken, still = asyncio.run(scene())
    assert len(woken) == 200
    assert still


def test_a_wait_ends_by_itself() -> None:
    async def scene() -> None:
        await Changes(asyncio.get_running_loop()).wait("a", 0.01, "job")

    asyncio.run(scene())


def test_more_than_the_bound_is_refused_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 2)

    async def scene() -> None:
        changes = Changes(asyncio.get_running_loop())
        waiting = [asyncio.create_task(changes.wait("a", 30, f"job {i}")) for i in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="too many"):
            await changes.wait("a", 30, "job 3")
        changes.notify("a")
        await asyncio.gather(*waiting)
        await changes.wait("a", 0.01, "job 3")

    asyncio.run(scene())


def test_one_caller_leaves_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_OF_ONE", 2)

    async def scene() -> None:
        changes = Changes(asyncio.get_running_loop())
        waiting = [asyncio.create_task(changes.wait("a", 30, "greedy")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="too many"):
            await changes.wait("b", 30, "greedy")
        await changes.wait("a", 0.01, "other")
        changes.notify("a")
        await asyncio.gather(*waiting)
        await changes.wait("a", 0.01, "greedy")

    asyncio.run(scene())
