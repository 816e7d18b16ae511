"""Streams of plaintext: what is made ready ahead is bounded, paid for, and kept back when the lease is stopped."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from custody.broker.context import Context, Peer
from custody.broker.refusals import Refusals
from custody.broker.sessions import Session, Sessions
from custody.errors import UnavailableError
from custody.segments.streams import Forward, StillWanted, still_wanted
from custody.server import streams
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.reads import PIECE, RUN, Reads
from custody.server.streams import MAX_STREAMS_OF_SESSION, Streams
from custody.wire.pieces import split_piece
from custody.wire.v1 import broker_pb2 as pb
from tests.doubles.sealed import Sealed, plaintext, seal
from tests.doubles.store import DownBlob, LongBlob, MemoryBlob

SEGMENT = 1 << 20
COUNT = 12
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


class FarBlob(LongBlob):
    """A store over a network that stops answering at byte ``end``."""

    def __init__(self, sealed: Sealed, end: int = 1 << 40) -> None:
        super().__init__(sealed.ciphertext)
        self._plan = sealed.plan
        self._end = end

    def mend(self) -> None:
        self._end = 1 << 40

    @property
    def runs(self) -> list[range]:
        """The segments that were asked for at once."""
        stored = {self._plan.locate(i).stored_offset: i for i in range(self._plan.count)}
        length = self._plan.locate(0).stored_length
        return [range(stored[start], stored[start] + -(-size // length)) for start, size in self.stretches]

    @contextmanager
    def stretch(self, offset: int, size: int, wanted: StillWanted = still_wanted, /) -> Iterator[Forward]:
        with super().stretch(offset, size, wanted) as fill:
            at = offset

            def checked(buffer: memoryview) -> None:
                nonlocal at
                at += len(buffer)
                if at > self._end:
                    raise UnavailableError("store: it has gone")
                fill(buffer)

            yield checked


@pytest.fixture(scope="module")
def sealed() -> Sealed:
    return seal(plaintext(COUNT * SEGMENT - 5), os.urandom, segment=SEGMENT)


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


@pytest.mark.parametrize("store", [MemoryBlob, LongBlob])
def test_every_byte_arrives_once_and_in_order_whatever_is_asked_for(sealed: Sealed, store: type[MemoryBlob]) -> None:
    async def scene(stage: Stage) -> None:
        for first, count in ((0, 0), (3, 7), (0, 1), (COUNT - 1, 1)):
            reader = Reader(greedy=True)
            await stage.read(reader, first, count)
            end = first + (count or COUNT)
            assert (
                hashlib.sha256(reader.plaintext).digest()
                == hashlib.sha256(plaintext(COUNT * SEGMENT - 5)[first * SEGMENT : end * SEGMENT]).digest()
            )
            assert [split_piece(message).segment for message in reader.taken] == list(range(first, end))
            assert max(map(len, reader.taken)) <= PIECE + 32

    play(sealed, scene, blob=store(sealed.ciphertext))


def test_strangers_take_none_of_the_streams_of_a_session(sealed: Sealed) -> None:
    """Whoever knows its id could otherwise shut its job out, by waiting in its name."""

    async def scene(stage: Stage) -> None:
        stage.reads._streams = Streams(1)
        async with stage.reads._streams.enter("other", 0):
            stage.guard.caller = "stranger"
            strangers = [asyncio.create_task(stage.read(Reader())) for _ in range(MAX_STREAMS_OF_SESSION)]
            await asyncio.wait_for(asyncio.gather(*strangers), WAIT)
            assert stage.guard.refused == ["there is no such session"] * MAX_STREAMS_OF_SESSION
            stage.guard.caller = "serving"
            job = asyncio.create_task(stage.read(reader := Reader(greedy=True)))
            await asyncio.sleep(0.05)
        await job
        assert len(reader.taken) == COUNT

    play(sealed, scene)


@pytest.mark.parametrize(("segment", "most"), [(1 << 20, 3), (16 << 20, 1)])
def test_streams_of_large_segments_take_more_places(segment: int, most: int) -> None:
    async def scene(stage: Stage) -> None:
        stage.reads._streams = Streams(3)
        readers = [Reader() for _ in range(4)]
        reading = [asyncio.create_task(stage.read(reader)) for reader in readers]
        await until(lambda: len(stage.reads._streams._streams) == most)
        await asyncio.sleep(0.05)
        assert len(stage.reads._streams._streams) == most
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    play(seal(plaintext(5000), os.urandom, segment=segment), scene)


def test_a_segment_of_several_messages_and_one_of_no_bytes_arrive_as_well() -> None:
    longer = 5 * PIECE - 3  # a segment of four messages, and one of a whole and a part
    for size, segment, messages in ((longer, 4 * PIECE, 5), (0, SEGMENT, 1)):

        async def scene(stage: Stage, size: int = size, messages: int = messages) -> None:
            reader = Reader(greedy=True)
            await stage.read(reader)
            assert stage.guard.refused == []
            assert len(reader.taken) == messages
            assert hashlib.sha256(reader.plaintext).digest() == hashlib.sha256(plaintext(size)).digest()

        play(seal(plaintext(size), os.urandom, segment=segment), scene)


def test_a_reader_that_takes_nothing_holds_the_first_segment_and_one_run(sealed: Sealed) -> None:
    async def scene(stage: Stage) -> None:
        reader = Reader()
        reading = asyncio.create_task(stage.read(reader))
        await until(lambda: stage.charged > 1)
        assert await settled(stage) == 1 + RUN_LENGTH
        reader.take()  # the first segment; the run is on its way, and another one made
        await until(lambda: stage.charged > 1 + RUN_LENGTH)
        assert await settled(stage) == 1 + 2 * RUN_LENGTH
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    play(sealed, scene)


def test_among_many_streams_each_holds_one_segment(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_AHEAD", 0)

    async def scene(stage: Stage) -> None:
        reader = Reader()
        reading = asyncio.create_task(stage.read(reader))
        await until(lambda: stage.charged == 1)
        for taken in range(1, 4):
            assert await settled(stage) == taken
            reader.take()
            await until(lambda taken=taken: stage.charged > taken)  # type: ignore[misc]  # a lambda's default
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    play(sealed, scene)


def test_what_was_made_before_a_stop_does_not_leave_after_it(sealed: Sealed) -> None:
    async def scene(stage: Stage) -> None:
        reader = Reader()
        reading = asyncio.create_task(stage.read(reader))
        await until(lambda: stage.charged == 1 + RUN_LENGTH)
        stage.session.end()
        for _ in range(COUNT):
            reader.take()
        await asyncio.wait_for(reading, WAIT)
        assert len(reader.taken) == 1  # the write that was under way
        assert stage.guard.refused == ["the session is over"]

    play(sealed, scene)


def test_a_mistake_of_ours_is_not_called_the_end_of_a_session(sealed: Sealed) -> None:
    class Broken(MemoryBlob):
        def read_into(self, offset: int, buffer: memoryview, /) -> None:
            if offset:
                raise ValueError("a mistake")
            super().read_into(offset, buffer)

    async def scene(stage: Stage) -> None:
        with pytest.raises(ValueError, match="a mistake"):
            await stage.read(Reader(greedy=True))
        assert stage.guard.refused == []

    play(sealed, scene, blob=Broken(sealed.ciphertext))


@pytest.mark.parametrize("store", [MemoryBlob, LongBlob])
@pytest.mark.parametrize("paid", [1, 3, 6])
def test_a_budget_is_served_to_its_last_segment(sealed: Sealed, paid: int, store: type[MemoryBlob]) -> None:
    """Also where it ends inside a run."""

    async def scene(stage: Stage) -> None:
        reader = Reader(greedy=True)
        await stage.read(reader)
        assert [split_piece(message).segment for message in reader.taken] == list(range(paid))
        assert "byte budget" in stage.guard.refused[0]

    play(sealed, scene, most=paid * SEGMENT + 100, blob=store(sealed.ciphertext))


@pytest.mark.parametrize("store", [MemoryBlob, LongBlob])
def test_what_precedes_an_altered_segment_is_served(store: type[MemoryBlob]) -> None:
    broken = seal(plaintext(COUNT * SEGMENT - 5), os.urandom, segment=SEGMENT)
    broken.ciphertext[broken.segment(3)] = bytes(SEGMENT + 32)

    async def scene(stage: Stage) -> None:
        reader = Reader(greedy=True)
        await stage.read(reader)
        assert reader.plaintext == plaintext(COUNT * SEGMENT - 5)[: 3 * SEGMENT]
        assert "segment 3" in stage.guard.refused[0]
        assert len(reader.taken) == 3  # and no message whose payload was never written

    play(broken, scene, blob=store(broken.ciphertext))


@pytest.mark.parametrize("ahead", [0, 1, 9])
def test_of_a_far_store_ciphertext_is_asked_for_ahead_at_length_and_nobody_pays_for_it(
    sealed: Sealed, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_FETCHES", ahead)
    blob = FarBlob(sealed)

    async def scene(stage: Stage) -> None:
        reader = Reader()
        reading = asyncio.create_task(stage.read(reader))
        await until(lambda: stage.charged > 1)
        assert await settled(stage) == 1 + RUN_LENGTH  # plaintext as of a store at hand
        runs = [range(1), *(range(at, min(at + RUN_LENGTH, COUNT)) for at in range(1, COUNT, RUN_LENGTH))]
        assert sorted(blob.runs, key=lambda run: run.start) == runs[: 2 + ahead]
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    play(sealed, scene, blob=blob)


def test_among_many_streams_nothing_is_asked_for_ahead(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_AHEAD", 0)
    blob = FarBlob(sealed)

    async def scene(stage: Stage) -> None:
        reader = Reader()
        reading = asyncio.create_task(stage.read(reader))
        await until(lambda: stage.charged == 1)
        await settled(stage)
        assert blob.runs == [range(1)]
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    play(sealed, scene, blob=blob)


def test_what_came_of_a_far_store_is_served_and_then_why_no_more_comes(sealed: Sealed) -> None:
    end = sealed.plan.locate(7).stored_offset + 5

    async def scene(stage: Stage) -> None:
        reader = Reader(greedy=True)
        await stage.read(reader)
        assert [split_piece(message).segment for message in reader.taken] == list(range(7))
        assert stage.guard.refused == ["store: it has gone"]

    play(sealed, scene, blob=FarBlob(sealed, end))


@pytest.mark.parametrize("near", [True, False])
def test_a_store_that_is_down_spends_nothing_of_the_lease(sealed: Sealed, near: bool) -> None:  # noqa: FBT001
    blob = DownBlob(sealed.ciphertext) if near else FarBlob(sealed, sealed.plan.locate(0).stored_offset + 5)

    async def scene(stage: Stage) -> None:
        for _ in range(3):
            await stage.read(early := Reader(greedy=True))
            assert not early.taken
        assert stage.guard.refused == 3 * ["store: it has gone"]
        assert stage.charged == 0
        blob.mend()
        await stage.read(reader := Reader(greedy=True))
        assert reader.plaintext == plaintext(COUNT * SEGMENT - 5)

    play(sealed, scene, COUNT * SEGMENT, blob)


def test_a_store_that_hangs_keeps_none_of_the_threads_that_decrypt(sealed: Sealed) -> None:
    answer = threading.Event()

    class HungBlob(FarBlob):
        @contextmanager
        def stretch(self, offset: int, size: int, wanted: StillWanted = still_wanted, /) -> Iterator[Forward]:
            with super().stretch(offset, size, wanted) as fill:
                assert answer.wait(3 * WAIT)
                yield fill

    async def scene(stage: Stage) -> None:
        readers = [Reader(greedy=True) for _ in range(6)]
        reading = [asyncio.create_task(stage.read(reader)) for reader in readers]
        await until(lambda: len(stage.blob.stretches) >= len(readers))  # type: ignore[attr-defined]
        assert await asyncio.wait_for(stage.pools.read(lambda: "decrypted"), WAIT) == "decrypted"
        answer.set()
        await asyncio.gather(*reading)
        assert {len(reader.taken) for reader in readers} == {COUNT}

    try:
        play(sealed, scene, blob=HungBlob(sealed))
    finally:
        answer.set()
