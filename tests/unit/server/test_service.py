"""What the service adds to the use cases: a long poll misses nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest

from custody.broker import requests
from custody.broker.context import Context, Peer
from custody.broker.refusals import PerMinute, Refusals
from custody.server.changes import Changes
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.receipts import Receipts
from custody.server.service import Service
from custody.wire.v1 import broker_pb2 as pb

_T = TypeVar("_T")
PEER = Peer("spiffe://example.org/person/alice", "ab" * 32)
REQUEST = "cd" * 32


class Open(Guard):
    """Takes everybody for alice."""

    async def answer(self, context: object, work: Callable[[Peer], Awaitable[_T]]) -> _T:
        return await work(PEER)


class Published(Receipts):
    """Shows no receipts, at once."""

    def __init__(self) -> None:
        pass

    async def of(self, caller: str, places: object) -> list[Any]:
        return []


def test_a_change_between_the_look_and_the_wait_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request changes when it has been looked at already; the caller is told now, not in half a minute."""

    async def scene() -> pb.RequestView:
        changes, pools = Changes(asyncio.get_running_loop()), Pools()
        places = [0]

        def view(*_: object) -> requests.RequestView:
            seen = tuple(places)
            if len(places) == 1:
                places.append(1)
                changes.notify(REQUEST)
                time.sleep(0.05)  # the loop hears of it before it has the answer
            return requests.RequestView(REQUEST, f"{len(seen)} entries", "", seen, [], 0, 0)

        monkeypatch.setattr(requests, "view", view)
        guard, often = Open("example.org", Refusals(time.monotonic)), PerMinute(9, time.monotonic)
        service = Service(cast("Context", None), guard, pools, changes, Published(), often)
        asked = pb.GetRequestRequest(request=REQUEST, seen=1, wait_seconds=30)
        try:
            return await asyncio.wait_for(service.GetRequest(asked, cast("Any", None)), 5)
        finally:
            pools.close()

    assert asyncio.run(scene()).phase == "2 entries"
