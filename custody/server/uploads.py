"""The methods of the broker's service with which sealers upload versions."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from grpc.aio import ServicerContext

from custody.broker import uploads
from custody.broker.context import Context, Peer
from custody.errors import FormatError, UnavailableError
from custody.server.guard import Guard
from custody.server.often import Often
from custody.server.pools import Pools
from custody.server.receipts import Receipts
from custody.wire.messages import receipt_to
from custody.wire.v1 import broker_pb2 as pb
from custody.wire.v1.broker_pb2_grpc import BrokerServicer

__all__ = ["UploadService"]

_STALL: Final = 30.0
"""Seconds that a sealer may take for the next message of a stream; it can go on where it was."""

_MAX_PIECE: Final = 4 << 20  # bytes of one message


class UploadService(BrokerServicer):
    """A part of ``Service``; it decides nothing."""

    _context: Context
    _guard: Guard
    _often: Often
    _pools: Pools
    _receipts: Receipts

    async def BeginUpload(
        self, request: pb.BeginUploadRequest, context: "ServicerContext[pb.BeginUploadRequest, pb.Upload]"
    ) -> pb.Upload:
        async def work(peer: Peer) -> pb.Upload:
            begun = await self._pools.upload(
                peer.identity,
                lambda: uploads.begin(
                    self._context, peer, request.version, request.vid, request.segment, request.sizes
                ),
            )
            return pb.Upload(
                upload=begun.id,
                presigned=uploads.presigns(self._context),
                part_size=begun.part_size,
                expires=begun.expires,
            )

        return await self._guard.answer(context, work)

    async def SignParts(
        self, request: pb.SignPartsRequest, context: "ServicerContext[pb.SignPartsRequest, pb.SignPartsReply]"
    ) -> pb.SignPartsReply:
        async def work(peer: Peer) -> pb.SignPartsReply:
            blob, place = request.blob, (request.blob.file, request.blob.digests)
            signed = await self._pools.upload(
                peer.identity,
                lambda: uploads.sign_parts(self._context, peer, blob.upload, place, request.first, request.parts),
            )
            return pb.SignPartsReply(
                parts=[pb.SignedRequest(url=one.url, headers=one.headers, expires=one.expires) for one in signed]
            )

        return await self._guard.answer(context, work)

    async def WriteBlob(
        self, request_iterator: AsyncIterator[pb.BlobPiece], context: "ServicerContext[pb.BlobPiece, pb.BlobReply]"
    ) -> pb.BlobReply:
        async def work(peer: Peer) -> pb.BlobReply:
            size = 0
            pieces = aiter(request_iterator)
            while (piece := await _next(pieces)) is not None:
                if len(piece.data) > _MAX_PIECE:
                    raise FormatError(f"a piece of more than {_MAX_PIECE} bytes")
                size = await self._pools.upload(peer.identity, partial(_write, self._context, peer, piece))
            return pb.BlobReply(size=size)

        return await self._guard.answer(context, work)

    async def FinishBlob(
        self, request: pb.FinishBlobRequest, context: "ServicerContext[pb.FinishBlobRequest, pb.BlobReply]"
    ) -> pb.BlobReply:
        async def work(peer: Peer) -> pb.BlobReply:
            blob = request.blob
            place = (blob.file, blob.digests)
            size = await self._pools.upload(
                peer.identity, lambda: uploads.finish_blob(self._context, peer, blob.upload, place)
            )
            return pb.BlobReply(size=size)

        return await self._guard.answer(context, work)

    async def FinishUpload(
        self, request: pb.FinishUploadRequest, context: "ServicerContext[pb.FinishUploadRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            self._often.file(peer)
            index = await self._pools.upload(
                peer.identity, lambda: uploads.finish(self._context, peer, request.upload, request.manifest)
            )
            return receipt_to(await self._receipts.one(peer.identity, index))

        return await self._guard.answer(context, work)

    async def AbortUpload(
        self, request: pb.AbortUploadRequest, context: "ServicerContext[pb.AbortUploadRequest, pb.AbortUploadReply]"
    ) -> pb.AbortUploadReply:
        async def work(peer: Peer) -> pb.AbortUploadReply:
            await self._pools.upload(peer.identity, lambda: uploads.abort(self._context, peer, request.upload))
            return pb.AbortUploadReply()

        return await self._guard.answer(context, work)


def _write(context: Context, peer: Peer, piece: pb.BlobPiece) -> int:
    place = (piece.blob.file, piece.blob.digests)
    return uploads.write(context, peer, piece.blob.upload, place, piece.offset, piece.data)


async def _next(pieces: AsyncIterator[pb.BlobPiece]) -> pb.BlobPiece | None:
    try:
        async with asyncio.timeout(_STALL):
            return await anext(pieces)
    except StopAsyncIteration:
        return None
    except TimeoutError:
        raise UnavailableError("the sealer sent nothing for too long", hint="go on where it was") from None
