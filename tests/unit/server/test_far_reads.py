"""Streams from a store over a network: its ciphertext is asked for ahead, at length, and nobody pays for that."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from custody.errors import UnavailableError
from custody.segments.streams import Forward, StillWanted, still_wanted
from custody.server import streams
from custody.wire.pieces import split_piece
from tests.doubles.sealed import Sealed
from tests.doubles.store import DownBlob, LongBlob
from tests.unit.server.stage import COUNT, PLAINTEXT, RUN_LENGTH, SEGMENT, WAIT, Reader, Stage, play, settled, until


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
        assert reader.plaintext == PLAINTEXT

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
