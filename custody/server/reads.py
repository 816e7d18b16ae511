"""Serving plaintext: a segment is charged, decrypted and made into messages in a thread, then written.

A segment is decrypted into the message that it leaves in. One that takes several messages is decrypted aside, in the
threads' buffers, and copied once. A stream holds the messages of one segment, or of two runs while few are served.

A store over a network is waited for elsewhere, and ahead: while few are served, the ciphertext of some runs beyond
those is under way or at hand. It is not paid for before it is decrypted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import grpc
from grpc.aio import Server, ServicerContext

from custody.broker import reading
from custody.broker.context import Context, Peer
from custody.broker.sessions import Session
from custody.errors import CustodyError, FormatError
from custody.segments.buffers import BufferPool
from custody.segments.decrypt import Fetched
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.streams import Stream, Streams
from custody.wire.pieces import READ, blank_piece, join_piece
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["PIECE", "RUN", "Reads", "add_reads"]

PIECE: Final = 1 << 20
"""Bytes of plaintext in a message, at most: the fastest size measured, see ops/adr."""

RUN: Final = 4 << 20
"""Bytes decrypted at once, at least a segment. Passing work from thread to thread costs as much as decrypting 2 MiB."""


class Reads:
    """The streams of the broker's service."""

    def __init__(self, context: Context, guard: Guard, pools: Pools) -> None:
        self._context = context
        self._guard = guard
        self._pools = pools
        self._streams = Streams()
        self._buffers: dict[int, BufferPool] = {}  # by size: as many as threads decrypt

    async def read(self, request: pb.ReadRequest, context: "ServicerContext[pb.ReadRequest, bytes]") -> None:
        """Write through the context, not by yielding: only so does a reader that takes nothing run into a timeout."""
        peer = await self._guard.peer(context)
        try:
            async with self._place(peer, request.session) as stream:
                session = self._context.sessions.get(request.session, peer.identity)
                plan = reading.plan_of(session, request.file)
                end = plan.count if not request.segments else request.first_segment + request.segments
                if not request.first_segment < end <= plan.count:
                    raise FormatError(f"file {request.file} has segments 0 to {plan.count - 1}")
                await self._write(context, stream, session, request.file, range(request.first_segment, end))
        except grpc.aio.InternalError:
            return  # the reader has gone; gRPC would write a traceback for each
        except CustodyError as error:
            await self._guard.refuse(context, error)

    async def digests(
        self, request: pb.ReadDigestsRequest, context: "ServicerContext[pb.ReadDigestsRequest, pb.DigestsPiece]"
    ) -> AsyncIterator[pb.DigestsPiece]:
        """Yield the digest list of a file."""
        peer = await self._guard.peer(context)
        try:
            async with self._place(peer, request.session):
                session = self._context.sessions.get(request.session, peer.identity)
                pieces = reading.read_digests(self._context, session, request.file)
                while (piece := await self._pools.fetch(lambda: next(pieces, None))) is not None:
                    yield pb.DigestsPiece(data=piece)
        except CustodyError as error:
            await self._guard.refuse(context, error)

    async def _write(
        self,
        context: "ServicerContext[pb.ReadRequest, bytes]",
        stream: Stream,
        session: Session,
        file: int,
        segments: range,
    ) -> None:
        """Write segments. While a run is written the next one is made, unless too many streams are served to hold two
        each.
        """
        far = await self._pools.fetch(partial(reading.is_far, self._context, session, file))
        longest = max(1, RUN // int(session.content.segment))
        runs = _Runs(segments, longest, self._streams, partial(self._fetch, session, file) if far else None)
        ahead: asyncio.Future[_Made] | None = self._begin(session, file, runs)
        try:
            while ahead is not None:
                made = await ahead
                more = made.error is None and bool(runs)
                ahead = self._begin(session, file, runs) if more and self._streams.few else None
                for message in made.messages:
                    # What was made before the lease was stopped does not leave after it.
                    session.require_live(self._context.ledger.clock())
                    await stream.write(context.write(message))
                if made.error is not None:
                    raise made.error
                if more and ahead is None:
                    ahead = self._begin(session, file, runs)
        finally:
            if ahead is not None:
                ahead.cancel()
            runs.close()

    def _begin(self, session: Session, file: int, runs: "_Runs") -> "asyncio.Future[_Made]":
        """Begin to make the next run."""
        run, fetching = runs.take()
        make = partial(self._make, session, file, run)
        if fetching is None:
            return self._pools.read(make)

        async def made() -> _Made:
            fetched = await fetching
            return await self._pools.read(lambda: make(fetched))

        return asyncio.ensure_future(made())

    def _fetch(self, session: Session, file: int, run: range) -> "asyncio.Future[Fetched]":
        return self._pools.fetch(partial(self._fetched, session, file, run))

    def _fetched(self, session: Session, file: int, run: range) -> Fetched:
        try:
            return reading.fetch_segments(self._context, session, file, run)
        except CustodyError as error:
            return Fetched({}, error)

    @asynccontextmanager
    async def _place(self, peer: Peer, session: str) -> AsyncIterator[Stream]:
        """Take the places of a stream. One that waits for them is a call under way like any other."""
        with self._guard.place(peer):
            segment = int(self._context.sessions.get(session, peer.identity).content.segment)
            async with self._streams.enter(session, segment) as stream:
                yield stream

    def close(self) -> None:
        """Wipe the buffers."""
        for pool in self._buffers.values():
            pool.close()

    def _make(self, session: Session, file: int, run: range, fetched: Fetched | None = None) -> "_Made":
        """Decrypt segments into messages. What precedes one that fails is paid for, and served."""
        messages: list[bytes] = []
        try:
            plan = reading.plan_of(session, file)
            for segment in run:
                size = plan.locate(segment).length
                make = self._one if size <= PIECE else self._several
                messages += make(session, file, segment, size, fetched)
        except CustodyError as error:
            return _Made(messages, error)
        return _Made(messages, None)

    def _one(self, session: Session, file: int, segment: int, size: int, fetched: Fetched | None) -> list[bytes]:
        message, place = blank_piece(segment, 0, size)
        reading.read_segment(self._context, session, file, segment, place, fetched=fetched)
        return [message]

    def _several(self, session: Session, file: int, segment: int, size: int, fetched: Fetched | None) -> list[bytes]:
        room = int(session.content.segment)
        pool = self._buffers.get(room) or self._buffers.setdefault(room, BufferPool(room))
        with pool.take() as buffer:
            reading.read_segment(self._context, session, file, segment, buffer, fetched=fetched)
            return [
                join_piece(segment, offset, buffer[offset : min(offset + PIECE, size)])
                for offset in range(0, size, PIECE)
            ]


class _Made(NamedTuple):
    """The messages of a run, and what ended it early."""

    messages: list[bytes]
    error: CustodyError | None


class _Runs:
    """The segments of a stream, cut into runs: one, so that the reader has something soon, then longer ones.

    Where a store is waited for, ``fetch`` begins to fetch the ciphertext of a run, of some of them ahead.
    """

    def __init__(
        self,
        segments: range,
        longest: int,
        streams: Streams,
        fetch: "Callable[[range], asyncio.Future[Fetched]] | None",
    ) -> None:
        self._left = segments
        self._first = segments.start
        self._longest = longest
        self._streams = streams
        self._fetch = fetch
        self._fetching: deque[tuple[range, asyncio.Future[Fetched]]] = deque()

    def __bool__(self) -> bool:
        """Whether there are more."""
        return bool(self._left or self._fetching)

    def take(self) -> "tuple[range, asyncio.Future[Fetched] | None]":
        """Return the next run, of which there must be one, and what is being fetched for it."""
        if self._fetch is None:
            return self._cut(), None
        while self._left and len(self._fetching) <= self._streams.ahead:
            run = self._cut()
            self._fetching.append((run, self._fetch(run)))
        return self._fetching.popleft()

    def close(self) -> None:
        """Fetch nothing more."""
        for _, fetching in self._fetching:
            fetching.cancel()

    def _cut(self) -> range:
        size = self._longest if self._left.start > self._first and self._streams.few else 1
        run, self._left = self._left[:size], self._left[size:]
        return run


def add_reads(reads: Reads, server: Server) -> None:
    """Let ``Read`` write messages that are bytes already. Before the generated handlers: the first of a name serves."""
    service, _, method = READ[1:].rpartition("/")
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
        reads.read,
        request_deserializer=pb.ReadRequest.FromString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
