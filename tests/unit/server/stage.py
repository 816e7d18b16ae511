"""The broker's side of streams without a network: a session of one sealed file, and readers who take what they like."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

from custody.broker.context import Context, Peer
from custody.broker.refusals import Refusals
from custody.broker.sessions import Session, Sessions
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.reads import RUN, Reads
from custody.wire.pieces import split_piece
from custody.wire.v1 import broker_pb2 as pb
from tests.doubles.sealed import Sealed, plaintext
from tests.doubles.store import MemoryBlob

__all__ = ["COUNT", "PLAINTEXT", "RUN_LENGTH", "SEGMENT", "WAIT", "Reader", "Stage", "play", "settled", "until"]

SEGMENT = 1 << 20
COUNT = 12
PLAINTEXT = plaintext(COUNT * SEGMENT - 5)
RUN_LENGTH = RUN // SEGMENT
WAIT = 10.0


class Job(Guard):
    """Takes every call for the job's, and notes with what it ended."""

    def __init__(self) -> None:
        super().__init__("example.org", Refusals(time.monotonic))
        self.refused: list[str] = []
        self.caller = "serving"

    async def peer(self, context: Any) -> Peer:
        return Peer(f"spiffe://example.org/job/{self.caller}", "ab" * 32)

    async def refuse(self, context: Any, error: Any) -> None:
        self.refused.append(error.message)


class Reader:
    """The other end of a stream: it takes a message each time that it is told to, or whatever comes."""

    def __init__(self, *, greedy: bool = False) -> None:
        self.taken: list[bytes] = []
        self._takes = asyncio.Semaphore(1 << 30 if greedy else 0)

    def take(self) -> None:
        self._takes.release()

    async def write(self, message: bytes) -> None:
        await self._takes.acquire()
        self.taken.append(message)

    @property
    def plaintext(self) -> bytes:
        return b"".join(bytes(split_piece(message).data) for message in self.taken)


class Stage:
    """The broker's side of one session of one sealed file, with a budget of ``most`` bytes."""

    def __init__(self, sealed: Sealed, most: int = 1 << 40, blob: MemoryBlob | None = None) -> None:
        self.sealed = sealed
        self.blob = blob or MemoryBlob(sealed.ciphertext)
        plan = sealed.plan
        document = SimpleNamespace(
            lease="lease",
            workload=SimpleNamespace(spiffe="spiffe://example.org/job/serving"),
            files=(SimpleNamespace(first=0, last=0),),
            bytes=most,
            xwing=None,
        )
        content = SimpleNamespace(
            vid=plan.vid.hex(), segment=plan.segment, files=[SimpleNamespace(size=plan.size, path=plan.path)]
        )
        self.session = Session(
            cast("Any", document),
            digest="session",
            request="request",
            content=cast("Any", content),
            entry=cast("Any", None),
            not_after=1 << 40,
        )
        self.session.witnessed = True
        sessions = Sessions()
        sessions.add(self.session)
        context = SimpleNamespace(
            ledger=SimpleNamespace(clock=lambda: 0),
            sessions=sessions,
            vault=SimpleNamespace(file_keys=lambda _lease, _file: SimpleNamespace(file_key=sealed.file_key)),
            store=SimpleNamespace(open=lambda _key: self.blob),
        )
        self.guard = Job()
        self.pools = Pools()
        self.reads = Reads(cast("Context", context), self.guard, self.pools)

    def read(self, reader: Reader, first: int = 0, count: int = 0) -> Coroutine[Any, Any, None]:
        asked = pb.ReadRequest(session="session", file=0, first_segment=first, segments=count)
        return self.reads.read(asked, cast("Any", reader))

    @property
    def charged(self) -> int:
        """Segments that were paid for."""
        return sum(self.session._served.values()) // SEGMENT

    def close(self) -> None:
        self.pools.close()
        self.reads.close()


def play(
    sealed: Sealed, scene: Callable[[Stage], Awaitable[None]], most: int = 1 << 40, blob: MemoryBlob | None = None
) -> None:
    async def run() -> None:
        stage = Stage(sealed, most, blob)
        try:
            await scene(stage)
        finally:
            stage.close()

    asyncio.run(asyncio.wait_for(run(), 6 * WAIT))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - it comes true in a thread, which tells nobody
            await asyncio.sleep(0.005)


async def settled(stage: Stage) -> int:
    """Wait until nothing more is paid for, and tell how many segments were."""
    seen = -1
    while seen != stage.charged:
        seen = stage.charged
        await asyncio.sleep(0.15)
    return seen
