"""What the service adds to the use cases: a long poll misses nothing, and what is too much is refused, stops apart."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from custody.broker import requests, stops, trust, uploads, versions
from custody.broker.context import Context, Peer
from custody.broker.refusals import Refusals
from custody.documents.dsse import Envelope
from custody.documents.stop import Stop
from custody.errors import NotFoundError
from custody.server.changes import Changes
from custody.server.guard import Guard
from custody.server.often import MAX_FILED, MAX_LISTINGS, Often
from custody.server.pools import Pools
from custody.server.reads import Reads
from custody.server.receipts import Receipts
from custody.server.service import Service
from custody.wire.v1 import broker_pb2 as pb
from tests.doubles.world import JOB, World

ALICE = Peer("spiffe://example.org/person/alice", "ab" * 32)
BOB = Peer("spiffe://example.org/person/bob", "ba" * 32)
REQUEST = "cd" * 32


class Introduced(Guard):
    """Takes a call for whoever the test says that it is from."""

    async def peer(self, context: Any) -> Peer:
        return cast("Peer", context.peer)


class Unpublished(Receipts):
    """Shows no receipts, at once."""

    def __init__(self) -> None:
        pass

    async def of(self, caller: str, places: object) -> list[Any]:
        return []

    async def one(self, caller: str, place: int) -> Any:
        raise NotFoundError("no log here")

    async def of_act(self, caller: str, act: "Future[int]") -> Any:
        raise NotFoundError("no log here")


async def abort(code: grpc.StatusCode, message: str, _: object) -> None:
    raise grpc.aio.AbortError(code.name, message)


def call(peer: Peer) -> Any:
    """The context of a call."""
    return SimpleNamespace(peer=peer, abort=abort)


class Stage:
    """A service without a broker behind it; use cases are put in its place by the tests."""

    def __init__(self, *, filed: int = MAX_FILED, **bounds: int) -> None:
        self.changes = Changes(asyncio.get_running_loop())
        self.pools = Pools()
        guard = Introduced("example.org", Refusals(time.monotonic), **bounds)
        often = Often(time.monotonic, filed=filed)
        self.reads = Reads(cast("Context", None), guard, self.pools)
        self.service = Service(cast("Context", None), guard, self.pools, self.changes, Unpublished(), often, self.reads)

    def poll(self, peer: Peer, seconds: int) -> Coroutine[Any, Any, pb.RequestView]:
        asked = pb.GetRequestRequest(request=REQUEST, seen=1, wait_seconds=seconds)
        return self.service.GetRequest(asked, call(peer))


def view(*_: object) -> requests.RequestView:
    """A request with one entry."""
    return requests.RequestView(REQUEST, "1 entry", "", [0], [], 0, 0)


def test_a_change_between_the_look_and_the_wait_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request changes when it has been looked at already; the caller is told now, not in half a minute."""

    async def scene() -> pb.RequestView:
        stage = Stage()
        places = [0]

        def changing(*_: object) -> requests.RequestView:
            seen = tuple(places)
            if len(places) == 1:
                places.append(1)
                stage.changes.notify(REQUEST)
                time.sleep(0.05)  # the loop hears of it before it has the answer
            return requests.RequestView(REQUEST, f"{len(seen)} entries", "", seen, [], 0, 0)

        monkeypatch.setattr(requests, "view", changing)
        try:
            return await asyncio.wait_for(stage.poll(ALICE, 30), 5)
        finally:
            stage.pools.close()

    assert asyncio.run(scene()).phase == "2 entries"


@pytest.mark.parametrize(("bounds", "full_for"), [({"of_one": 3}, [ALICE]), ({"most": 3}, [ALICE, BOB])])
def test_calls_beyond_the_bound_are_refused_and_stops_are_not(
    monkeypatch: pytest.MonkeyPatch, bounds: dict[str, int], full_for: list[Peer]
) -> None:
    """Of one identity, and in all; room comes back, and a stop needs none."""
    world, stopped = World(), list[str]()
    world.seal()
    stop = world.file().stop("withdraw", "frank")
    monkeypatch.setattr(requests, "view", view)

    def stopping(_: Context, envelope: Envelope) -> int:
        stopped.append(envelope.document(Stop).action)
        return 0

    monkeypatch.setattr(stops, "stop", stopping)

    async def scene() -> None:
        stage = Stage(**bounds)
        waiting = [asyncio.create_task(stage.poll(ALICE, 30)) for _ in range(3)]
        await asyncio.sleep(0.1)
        for peer in (ALICE, BOB):
            if peer in full_for:
                with pytest.raises(grpc.aio.AbortError, match=r"UNAVAILABLE.*too many calls are under way"):
                    await stage.poll(peer, 0)
                with pytest.raises(grpc.aio.AbortError, match=r"UNAVAILABLE.*too many calls are under way"):
                    await stage.reads.read(pb.ReadRequest(), call(peer))
            else:
                assert (await stage.poll(peer, 0)).request == REQUEST
        with pytest.raises(grpc.aio.AbortError, match="no log here"):
            await stage.service.Stop(pb.Envelope(envelope=stop.encode()), call(ALICE))
        stage.changes.notify(REQUEST)
        await asyncio.gather(*waiting)
        assert (await stage.poll(ALICE, 0)).request == REQUEST
        stage.pools.close()

    asyncio.run(scene())
    assert stopped == ["withdraw"]


def test_versions_are_counted_with_what_an_identity_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealer's manifest is an entry for ever, whichever way it comes."""
    for room, name in ((versions, "register"), (uploads, "finish")):
        monkeypatch.setattr(room, name, lambda *_: 0)

    async def scene() -> None:
        stage = Stage(filed=2)
        ways: list[Callable[[Peer], Coroutine[Any, Any, pb.Receipt]]] = [
            lambda peer: stage.service.RegisterVersion(pb.RegisterVersionRequest(), call(peer)),
            lambda peer: stage.service.FinishUpload(pb.FinishUploadRequest(), call(peer)),
        ]
        for way in ways:
            with pytest.raises(grpc.aio.AbortError, match="no log here"):  # it is done, and waits for its receipt
                await way(ALICE)
        for way in ways:
            with pytest.raises(grpc.aio.AbortError, match=r"UNAVAILABLE.*too many requests, releases and versions"):
                await way(ALICE)
            with pytest.raises(grpc.aio.AbortError, match="no log here"):
                await way(BOB)
        stage.pools.close()

    asyncio.run(scene())


def test_who_asks_for_a_hello_that_is_long_to_judge_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate chain is verified in a thread: the loop goes on meanwhile, with everybody else's calls."""
    judged_in: list[threading.Thread] = []

    def judge(*_: object) -> "Future[int]":
        judged_in.append(threading.current_thread())
        done: Future[int] = Future()
        done.set_result(0)
        return done

    monkeypatch.setattr(trust, "hello", judge)
    world = World()
    envelope = world.hello(world.ca.issue(JOB, world.now))

    async def scene() -> None:
        stage = Stage()
        with pytest.raises(grpc.aio.AbortError, match="no log here"):
            await stage.service.Hello(pb.Envelope(envelope=envelope.encode()), call(ALICE))
        stage.pools.close()

    asyncio.run(scene())
    assert judged_in
    assert judged_in[0] is not threading.current_thread()


def test_listings_of_the_log_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each the store goes through all names."""
    monkeypatch.setattr(trust, "log_names", lambda *_: [])

    async def scene() -> None:
        stage = Stage()

        def listing(peer: Peer) -> Coroutine[Any, Any, pb.ListLogObjectsReply]:
            return stage.service.ListLogObjects(pb.ListLogObjectsRequest(), call(peer))

        for _ in range(MAX_LISTINGS):
            await listing(ALICE)
        with pytest.raises(grpc.aio.AbortError, match=r"UNAVAILABLE.*too many listings of the log"):
            await listing(ALICE)
        await listing(BOB)
        stage.pools.close()

    asyncio.run(scene())
