"""Serving plaintext: a segment is charged, decrypted and made into messages in a thread, then written.

One copy is made of a segment between its decryption and gRPC: into the message. A stream holds the messages of one
segment; the buffers that segments are decrypted in are the threads'.
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import grpc
from grpc.aio import Server, ServicerContext

from custody.broker import reading
from custody.broker.context import Context
from custody.broker.sessions import Session
from custody.errors import CustodyError, FormatError
from custody.segments.buffers import BufferPool
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.streams import Streams
from custody.wire.pieces import READ, join_piece
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["PIECE", "Reads", "add_reads"]

PIECE: Final = 1 << 20
"""Bytes of plaintext in a message, at most: the fastest size measured, see ops/adr."""


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
            async with self._streams.enter(request.session) as stream:
                session = self._context.sessions.get(request.session, peer.identity)
                plan = reading.plan_of(session, request.file)
                end = plan.count if not request.segments else request.first_segment + request.segments
                if not request.first_segment < end <= plan.count:
                    raise FormatError(f"file {request.file} has segments 0 to {plan.count - 1}")
                for segment in range(request.first_segment, end):
                    for message in await self._pools.read(partial(self._messages, session, request.file, segment)):
                        await stream.write(context.write(message))
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
            async with self._streams.enter(request.session):
                session = self._context.sessions.get(request.session, peer.identity)
                pieces = reading.read_digests(self._context, session, request.file)
                while (piece := await self._pools.read(lambda: next(pieces, None))) is not None:
                    yield pb.DigestsPiece(data=piece)
        except CustodyError as error:
            await self._guard.refuse(context, error)

    def close(self) -> None:
        """Wipe the buffers."""
        for pool in self._buffers.values():
            pool.close()

    def _messages(self, session: Session, file: int, segment: int) -> list[bytes]:
        """Decrypt a segment, and copy it into messages."""
        room = int(session.content.segment)
        pool = self._buffers.get(room) or self._buffers.setdefault(room, BufferPool(room))
        with pool.take() as buffer:
            size = reading.read_segment(self._context, session, file, segment, buffer)
            return [
                join_piece(segment, offset, buffer[offset : min(offset + PIECE, size)])
                for offset in range(0, max(1, size), PIECE)
            ]


def add_reads(reads: Reads, server: Server) -> None:
    """Let ``Read`` write messages that are bytes already. After the generated handlers, whose own it replaces."""
    service, _, method = READ[1:].rpartition("/")
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
        reads.read,
        request_deserializer=pb.ReadRequest.FromString,
    )
    server.add_registered_method_handlers(service, {method: handler})
