"""Streams of plaintext: what is made ready ahead is bounded, paid for, and kept back when the lease is stopped."""

import asyncio
import hashlib
import os

import pytest

from custody.server import streams
from custody.server.reads import PIECE
from custody.server.streams import MAX_STREAMS_OF_SESSION, Streams
from custody.wire.pieces import split_piece
from tests.doubles.sealed import Sealed, plaintext, seal
from tests.doubles.store import LongBlob, MemoryBlob
from tests.unit.server.stage import COUNT, PLAINTEXT, RUN_LENGTH, SEGMENT, WAIT, Reader, Stage, play, settled, until


@pytest.mark.parametrize("store", [MemoryBlob, LongBlob])
def test_every_byte_arrives_once_and_in_order_whatever_is_asked_for(sealed: Sealed, store: type[MemoryBlob]) -> None:
    async def scene(stage: Stage) -> None:
        for first, count in ((0, 0), (3, 7), (0, 1), (COUNT - 1, 1)):
            reader = Reader(greedy=True)
            await stage.read(reader, first, count)
            end = first + (count or COUNT)
            assert (
                hashlib.sha256(reader.plaintext).digest()
                == hashlib.sha256(PLAINTEXT[first * SEGMENT : end * SEGMENT]).digest()
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
    broken = seal(PLAINTEXT, os.urandom, segment=SEGMENT)
    broken.ciphertext[broken.segment(3)] = bytes(SEGMENT + 32)

    async def scene(stage: Stage) -> None:
        reader = Reader(greedy=True)
        await stage.read(reader)
        assert reader.plaintext == PLAINTEXT[: 3 * SEGMENT]
        assert "segment 3" in stage.guard.refused[0]
        assert len(reader.taken) == 3  # and no message whose payload was never written

    play(broken, scene, blob=store(broken.ciphertext))
