"""The broker's service: each method hands signed documents to one use case and packs what comes back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from grpc.aio import ServicerContext

from custody.broker import direct, grants, reading, requests, stops, trust, versions
from custody.broker.context import Context, Peer
from custody.documents.dsse import Envelope
from custody.errors import CustodyError, FormatError, UnavailableError
from custody.server.changes import Changes
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.uploads import UploadService
from custody.wire.messages import place_to, receipt_to, request_to, version_to
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["MAX_STREAMS", "MAX_STREAMS_OF_SESSION", "Service"]

MAX_STREAMS: Final = 256
"""Streams served at once; each holds at most one segment and one message in memory."""

MAX_STREAMS_OF_SESSION: Final = 16
"""So that one job cannot take them all."""

_MAX_WAIT: Final = 30
_MAX_PAGE: Final = 200
_PIECE: Final = 1 << 20  # bytes per message: the fastest size measured, see ops/adr
_STALL: Final = 30.0
"""Seconds a reader may leave one message untaken before its stream ends; it can resume where it was."""


class Service(UploadService):
    """Adapter between gRPC and the broker's use cases; it decides nothing."""

    def __init__(self, context: Context, guard: Guard, pools: Pools, changes: Changes) -> None:
        self._context = context
        self._guard = guard
        self._pools = pools
        self._changes = changes
        self._streams = asyncio.Semaphore(MAX_STREAMS)
        self._of_session: Counter[str] = Counter()

    async def GetRoots(
        self, request: pb.GetRootsRequest, context: "ServicerContext[pb.GetRootsRequest, pb.GetRootsReply]"
    ) -> pb.GetRootsReply:
        async def work(peer: Peer) -> pb.GetRootsReply:
            roots = await self._pools.call(trust.roots, self._context, peer)
            return pb.GetRootsReply(
                roots=[
                    pb.GetRootsReply.Root(envelope=envelope.encode(), receipt=receipt_to(receipt))
                    for envelope, receipt in roots
                ]
            )

        return await self._guard.answer(context, work)

    async def Hello(self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Receipt]") -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            envelope = Envelope.parse(request.envelope)
            return receipt_to(await self._pools.call(trust.hello, self._context, peer, envelope))

        return await self._guard.answer(context, work)

    async def GetLogObject(
        self,
        request: pb.GetLogObjectRequest,
        context: "ServicerContext[pb.GetLogObjectRequest, pb.GetLogObjectReply]",
    ) -> pb.GetLogObjectReply:
        async def work(peer: Peer) -> pb.GetLogObjectReply:
            data = await self._pools.call(trust.log_object, self._context, peer, request.path)
            return pb.GetLogObjectReply(data=data)

        return await self._guard.answer(context, work)

    async def RegisterVersion(
        self, request: pb.RegisterVersionRequest, context: "ServicerContext[pb.RegisterVersionRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            return receipt_to(await self._pools.call(versions.register, self._context, peer, request.manifest))

        return await self._guard.answer(context, work)

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: "ServicerContext[pb.ListVersionsRequest, pb.ListVersionsReply]"
    ) -> pb.ListVersionsReply:
        async def work(peer: Peer) -> pb.ListVersionsReply:
            limit = _page(request.page_size)
            found = await self._pools.call(
                versions.list_versions, self._context, peer, after=request.page_token, limit=limit
            )
            return pb.ListVersionsReply(
                versions=[_version(item) for item in found],
                next_page_token=found[-1].version if len(found) == limit else "",
            )

        return await self._guard.answer(context, work)

    async def GetVersion(
        self, request: pb.GetVersionRequest, context: "ServicerContext[pb.GetVersionRequest, pb.Version]"
    ) -> pb.Version:
        async def work(peer: Peer) -> pb.Version:
            return _version(await self._pools.call(versions.get_version, self._context, peer, request.version))

        return await self._guard.answer(context, work)

    async def SubmitRequest(
        self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.RequestView]"
    ) -> pb.RequestView:
        async def work(peer: Peer) -> pb.RequestView:
            envelope = Envelope.parse(request.envelope)
            return _request(await self._pools.call(requests.submit, self._context, peer, envelope))

        return await self._guard.answer(context, work)

    async def ListRequests(
        self, request: pb.ListRequestsRequest, context: "ServicerContext[pb.ListRequestsRequest, pb.ListRequestsReply]"
    ) -> pb.ListRequestsReply:
        async def work(peer: Peer) -> pb.ListRequestsReply:
            if request.filter not in ("", "live", "all"):
                raise FormatError("filter: live or all")
            limit = _page(request.page_size)
            digests = await self._pools.call(
                requests.list_requests,
                self._context,
                peer,
                closed=request.filter == "all",
                after=request.page_token,
                limit=limit,
            )
            views = [await self._pools.call(requests.view, self._context, peer, digest) for digest in digests]
            return pb.ListRequestsReply(
                requests=[_request(item) for item in views],
                next_page_token=digests[-1] if len(digests) == limit else "",
            )

        return await self._guard.answer(context, work)

    async def GetRequest(
        self, request: pb.GetRequestRequest, context: "ServicerContext[pb.GetRequestRequest, pb.RequestView]"
    ) -> pb.RequestView:
        async def work(peer: Peer) -> pb.RequestView:
            view = await self._pools.call(requests.view, self._context, peer, request.request)
            if len(view.receipts) <= request.seen and request.wait_seconds:
                await self._changes.wait(request.request, min(request.wait_seconds, _MAX_WAIT))
                view = await self._pools.call(requests.view, self._context, peer, request.request)
            return _request(view)

        return await self._guard.answer(context, work)

    async def Decide(self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Receipt]") -> pb.Receipt:
        async def work(_: Peer) -> pb.Receipt:
            envelope = Envelope.parse(request.envelope)
            return receipt_to(await self._pools.call(grants.decide, self._context, envelope))

        return await self._guard.answer(context, work)

    async def ReleaseShare(
        self, request: pb.ReleaseShareRequest, context: "ServicerContext[pb.ReleaseShareRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(_: Peer) -> pb.Receipt:
            envelope = Envelope.parse(request.envelope)
            return receipt_to(await self._pools.call(grants.release_share, self._context, envelope, request.wrapped))

        return await self._guard.answer(context, work)

    async def Stop(self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Receipt]") -> pb.Receipt:
        async def work(_: Peer) -> pb.Receipt:
            # Only stopping itself has threads of its own; who waits for a receipt must not hold up the next stop.
            index = await self._pools.stop(stops.stop, self._context, Envelope.parse(request.envelope))
            ledger, timeout = self._context.ledger, self._context.receipt_timeout
            return receipt_to(await self._pools.call(ledger.receipt, index, timeout))

        return await self._guard.answer(context, work)

    async def OpenSession(
        self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Session]"
    ) -> pb.Session:
        async def work(peer: Peer) -> pb.Session:
            envelope = Envelope.parse(request.envelope)
            opened = await self._pools.call(reading.open_session, self._context, peer, envelope)
            return pb.Session(
                session=opened.session,
                receipt=receipt_to(opened.receipt),
                content=opened.content.encode(),
                files=[
                    *(pb.FileKeys(file=file, digest_key=key) for file, key in opened.digest_keys.items()),
                    *(pb.FileKeys(file=file, sealed=keys) for file, keys in opened.sealed_keys.items()),
                ],
            )

        return await self._guard.answer(context, work)

    async def Read(  # type: ignore[override]  # a coroutine that writes is as good as a generator to gRPC
        self, request: pb.ReadRequest, context: "ServicerContext[pb.ReadRequest, pb.Segment]"
    ) -> None:
        """Write through the context, not by yielding: only so does a reader that takes nothing run into a timeout."""
        peer = await self._guard.peer(context)
        await self._require_room(context, request.session)
        async with self._stream(request.session):
            try:
                session = self._context.sessions.get(request.session, peer.identity)
                plan = reading.plan_of(session, request.file)
                end = plan.count if not request.segments else request.first_segment + request.segments
                if not request.first_segment < end <= plan.count:
                    raise FormatError(f"file {request.file} has segments 0 to {plan.count - 1}")
                buffer = memoryview(bytearray(min(plan.segment, max(1, plan.size))))
                for segment in range(request.first_segment, end):
                    size = await self._pools.read(
                        reading.read_segment, self._context, session, request.file, segment, buffer
                    )
                    for offset in range(0, max(1, size), _PIECE):
                        data = bytes(buffer[offset : min(offset + _PIECE, size)])
                        piece = pb.Segment(segment=segment, offset=offset, data=data)
                        async with asyncio.timeout(_STALL):
                            await context.write(piece)
            except grpc.aio.InternalError:
                return  # the reader has gone; gRPC would write a traceback for each
            except TimeoutError:
                await self._guard.refuse(
                    context, UnavailableError("the reader took nothing for too long", hint="resume at the next segment")
                )
            except CustodyError as error:
                await self._guard.refuse(context, error)

    async def ReadDigests(
        self, request: pb.ReadDigestsRequest, context: "ServicerContext[pb.ReadDigestsRequest, pb.DigestsPiece]"
    ) -> AsyncIterator[pb.DigestsPiece]:
        peer = await self._guard.peer(context)
        await self._require_room(context, request.session)
        try:
            async with self._stream(request.session):
                session = self._context.sessions.get(request.session, peer.identity)
                pieces = reading.read_digests(self._context, session, request.file)
                while (piece := await self._pools.read(next, pieces, None)) is not None:
                    yield pb.DigestsPiece(data=piece)
        except CustodyError as error:
            await self._guard.refuse(context, error)

    async def Locate(
        self, request: pb.LocateRequest, context: "ServicerContext[pb.LocateRequest, pb.Place]"
    ) -> pb.Place:
        async def work(peer: Peer) -> pb.Place:
            place = await self._pools.call(direct.locate, self._context, peer, request.session, request.file)
            return place_to(place.folder, place.ciphertext, place.digests)

        return await self._guard.answer(context, work)

    async def CloseSession(
        self, request: pb.CloseSessionRequest, context: "ServicerContext[pb.CloseSessionRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            return receipt_to(await self._pools.call(reading.close_session, self._context, peer, request.session))

        return await self._guard.answer(context, work)

    async def _require_room(self, context: "ServicerContext[Any, Any]", session: str) -> None:
        if self._streams.locked() or self._of_session[session] >= MAX_STREAMS_OF_SESSION:
            await self._guard.refuse(context, UnavailableError("too many streams", hint="try again in a moment"))

    @asynccontextmanager
    async def _stream(self, session: str) -> AsyncIterator[None]:
        """Count a stream while it runs."""
        async with self._streams:
            self._of_session[session] += 1
            try:
                yield
            finally:
                self._of_session[session] -= 1
                if not self._of_session[session]:
                    del self._of_session[session]


def _page(size: int) -> int:
    return min(size or 50, _MAX_PAGE)


def _version(view: versions.VersionView) -> pb.Version:
    return version_to(view.version, view.content, view.sharing, view.receipt, view.wraps)


def _request(view: requests.RequestView) -> pb.RequestView:
    return request_to(
        view.request,
        view.phase,
        view.reason,
        view.receipts,
        view.envelopes,
        view.bytes_spent,
        view.sessions_used,
    )
