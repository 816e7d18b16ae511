"""Serving plaintext: a segment is charged, decrypted and made into messages in a thread, then written.

A segment is decrypted into the message that it leaves in. One that takes several messages is decrypted aside, in the
threads' buffers, and copied once. A stream holds the messages of one segment, or of two runs while few are served.
"""

import asyncio
from collections.abc import AsyncIterator
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
                while (piece := await self._pools.read(lambda: next(pieces, None))) is not None:
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
        """Write segments: one, so that the reader has something soon, then runs of them.

        While a run is written the next one is made, unless too many streams are served to hold two each.
        """
        longest = max(1, RUN // int(session.content.segment))
        begun = segments.start

        def begin() -> "asyncio.Future[_Made]":
            nonlocal begun
            size = longest if begun > segments.start and self._streams.few else 1
            run = segments[begun - segments.start :][:size]
            begun += len(run)
            return self._pools.read(partial(self._make, session, file, run))

        ahead: asyncio.Future[_Made] | None = begin()
        try:
            while ahead is not None:
                made = await ahead
                more = made.error is None and begun < segments.stop
                ahead = begin() if more and self._streams.few else None
                for message in made.messages:
                    # What was made before the lease was stopped does not leave after it.
                    session.require_live(self._context.ledger.clock())
                    await stream.write(context.write(message))
                if made.error is not None:
                    raise made.error
                if more and ahead is None:
                    ahead = begin()
        finally:
            if ahead is not None:
                ahead.cancel()

    @asynccontextmanager
    async def _place(self, peer: Peer, session: str) -> AsyncIterator[Stream]:
        """Take a place for a stream. One that waits for it is a call under way like any other."""
        with self._guard.place(peer):
            async with self._streams.enter(session) as stream:
                yield stream

    def close(self) -> None:
        """Wipe the buffers."""
        for pool in self._buffers.values():
            pool.close()

    def _make(self, session: Session, file: int, run: range) -> "_Made":
        """Decrypt segments into messages. What precedes one that fails is paid for, and served."""
        messages: list[bytes] = []
        try:
            plan = reading.plan_of(session, file)
            for segment in run:
                size = plan.locate(segment).length
                make = self._one if size <= PIECE else self._several
                messages += make(session, file, segment, size)
        except CustodyError as error:
            return _Made(messages, error)
        return _Made(messages, None)

    def _one(self, session: Session, file: int, segment: int, size: int) -> list[bytes]:
        message, place = blank_piece(segment, 0, size)
        reading.read_segment(self._context, session, file, segment, place)
        return [message]

    def _several(self, session: Session, file: int, segment: int, size: int) -> list[bytes]:
        room = int(session.content.segment)
        pool = self._buffers.get(room) or self._buffers.setdefault(room, BufferPool(room))
        with pool.take() as buffer:
            reading.read_segment(self._context, session, file, segment, buffer)
            return [
                join_piece(segment, offset, buffer[offset : min(offset + PIECE, size)])
                for offset in range(0, size, PIECE)
            ]


class _Made(NamedTuple):
    """The messages of a run, and what ended it early."""

    messages: list[bytes]
    error: CustodyError | None


def add_reads(reads: Reads, server: Server) -> None:
    """Let ``Read`` write messages that are bytes already. Before the generated handlers: the first of a name serves."""
    service, _, method = READ[1:].rpartition("/")
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
        reads.read,
        request_deserializer=pb.ReadRequest.FromString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
