"""The broker's service: each method hands signed documents to one use case and packs what comes back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import grpc
from grpc.aio import ServicerContext

from custody.broker import direct, grants, reading, requests, stops, trust, versions
from custody.broker.context import Context, Peer
from custody.broker.refusals import PerMinute
from custody.documents.dsse import Envelope
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, FormatError, UnavailableError
from custody.server.changes import Changes
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.receipts import Receipts
from custody.server.uploads import UploadService
from custody.wire.messages import place_to, receipt_to, request_to, version_to
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["MAX_HELLOS", "MAX_STREAMS", "MAX_STREAMS_OF_SESSION", "Service"]

MAX_STREAMS: Final = 256
"""Streams served at once; each holds at most one segment and one message in memory."""

MAX_STREAMS_OF_SESSION: Final = 16
"""So that one job cannot take them all."""

MAX_HELLOS: Final = 60
"""A minute of one identity. A tool says one before it signs something; each is an entry for ever."""

_MAX_WAIT: Final = 30
_MAX_PAGE: Final = 200
_PIECE: Final = 1 << 20  # bytes per message: the fastest size measured, see ops/adr
_STALL: Final = 30.0
"""Seconds a reader may leave one message untaken before its stream ends; it can resume where it was."""


class Service(UploadService):
    """Adapter between gRPC and the broker's use cases; it decides nothing."""

    def __init__(  # noqa: PLR0917 - the parts of one server, put together once
        self,
        context: Context,
        guard: Guard,
        pools: Pools,
        changes: Changes,
        receipts: Receipts,
        hellos: PerMinute,
    ) -> None:
        self._context = context
        self._guard = guard
        self._pools = pools
        self._changes = changes
        self._receipts = receipts
        self._hellos = hellos
        self._streams = asyncio.Semaphore(MAX_STREAMS)
        self._of_session: Counter[str] = Counter()

    async def GetRoots(
        self, request: pb.GetRootsRequest, context: "ServicerContext[pb.GetRootsRequest, pb.GetRootsReply]"
    ) -> pb.GetRootsReply:
        async def work(peer: Peer) -> pb.GetRootsReply:
            roots = await self._pools.call(peer.identity, lambda: trust.roots(self._context, peer))
            receipts = await self._receipts.of(peer.identity, [place for _, place in roots])
            return pb.GetRootsReply(
                roots=[
                    pb.GetRootsReply.Root(envelope=envelope.encode(), receipt=receipt_to(receipt))
                    for (envelope, _), receipt in zip(roots, receipts, strict=True)
                ]
            )

        return await self._guard.answer(context, work)

    async def Hello(self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Receipt]") -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            if not self._hellos.take(peer.identity):
                raise UnavailableError("too many hellos", hint="try again in a minute")
            envelope = Envelope.parse(request.envelope)
            return await self._logged(peer, lambda: trust.hello(self._context, peer, envelope))

        return await self._guard.answer(context, work)

    async def GetLogObject(
        self,
        request: pb.GetLogObjectRequest,
        context: "ServicerContext[pb.GetLogObjectRequest, pb.GetLogObjectReply]",
    ) -> pb.GetLogObjectReply:
        async def work(peer: Peer) -> pb.GetLogObjectReply:
            data = await self._pools.call(peer.identity, lambda: trust.log_object(self._context, peer, request.path))
            return pb.GetLogObjectReply(data=data)

        return await self._guard.answer(context, work)

    async def RegisterVersion(
        self, request: pb.RegisterVersionRequest, context: "ServicerContext[pb.RegisterVersionRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            return await self._logged(peer, lambda: versions.register(self._context, peer, request.manifest))

        return await self._guard.answer(context, work)

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: "ServicerContext[pb.ListVersionsRequest, pb.ListVersionsReply]"
    ) -> pb.ListVersionsReply:
        async def work(peer: Peer) -> pb.ListVersionsReply:
            limit = _page(request.page_size)
            found = await self._pools.call(
                peer.identity,
                lambda: versions.list_versions(self._context, peer, after=request.page_token, limit=limit),
            )
            receipts = await self._receipts.of(peer.identity, [item.place for item in found])
            return pb.ListVersionsReply(
                versions=[_version(item, receipt) for item, receipt in zip(found, receipts, strict=True)],
                next_page_token=found[-1].version if len(found) == limit else "",
            )

        return await self._guard.answer(context, work)

    async def GetVersion(
        self, request: pb.GetVersionRequest, context: "ServicerContext[pb.GetVersionRequest, pb.Version]"
    ) -> pb.Version:
        async def work(peer: Peer) -> pb.Version:
            found = await self._pools.call(
                peer.identity, lambda: versions.get_version(self._context, peer, request.version)
            )
            return _version(found, await self._receipts.one(peer.identity, found.place))

        return await self._guard.answer(context, work)

    async def SubmitRequest(
        self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.RequestView]"
    ) -> pb.RequestView:
        async def work(peer: Peer) -> pb.RequestView:
            envelope = Envelope.parse(request.envelope)
            view = await self._pools.call(peer.identity, lambda: requests.submit(self._context, peer, envelope))
            return await self._shown(peer, view)

        return await self._guard.answer(context, work)

    async def ListRequests(
        self, request: pb.ListRequestsRequest, context: "ServicerContext[pb.ListRequestsRequest, pb.ListRequestsReply]"
    ) -> pb.ListRequestsReply:
        async def work(peer: Peer) -> pb.ListRequestsReply:
            if request.filter not in ("", "live", "all"):
                raise FormatError("filter: live or all")
            limit = _page(request.page_size)
            digests = await self._pools.call(
                peer.identity,
                lambda: requests.list_requests(
                    self._context, peer, closed=request.filter == "all", after=request.page_token, limit=limit
                ),
            )
            return pb.ListRequestsReply(
                requests=[await self._shown(peer, await self._view(peer, digest)) for digest in digests],
                next_page_token=digests[-1] if len(digests) == limit else "",
            )

        return await self._guard.answer(context, work)

    async def GetRequest(
        self, request: pb.GetRequestRequest, context: "ServicerContext[pb.GetRequestRequest, pb.RequestView]"
    ) -> pb.RequestView:
        async def work(peer: Peer) -> pb.RequestView:
            view = await self._view(peer, request.request)
            if len(view.places) <= request.seen and request.wait_seconds:
                await self._changes.wait(request.request, min(request.wait_seconds, _MAX_WAIT), peer.identity)
                view = await self._view(peer, request.request)
            return await self._shown(peer, view)

        return await self._guard.answer(context, work)

    async def Decide(self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Receipt]") -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            envelope = Envelope.parse(request.envelope)
            return await self._logged(peer, lambda: grants.decide(self._context, envelope))

        return await self._guard.answer(context, work)

    async def ReleaseShare(
        self, request: pb.ReleaseShareRequest, context: "ServicerContext[pb.ReleaseShareRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            envelope = Envelope.parse(request.envelope)
            return await self._logged(peer, lambda: grants.release_share(self._context, envelope, request.wrapped))

        return await self._guard.answer(context, work)

    async def Stop(self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Receipt]") -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            envelope = Envelope.parse(request.envelope)
            index = await self._pools.stop(peer.identity, lambda: stops.stop(self._context, envelope))
            return receipt_to(await self._receipts.one(peer.identity, index))

        return await self._guard.answer(context, work)

    async def OpenSession(
        self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Session]"
    ) -> pb.Session:
        async def work(peer: Peer) -> pb.Session:
            envelope = Envelope.parse(request.envelope)
            opened = await self._pools.open(peer.identity, lambda: reading.open_session(self._context, peer, envelope))
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
                        partial(reading.read_segment, self._context, session, request.file, segment, buffer)
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
                while (piece := await self._pools.read(lambda: next(pieces, None))) is not None:
                    yield pb.DigestsPiece(data=piece)
        except CustodyError as error:
            await self._guard.refuse(context, error)

    async def Locate(
        self, request: pb.LocateRequest, context: "ServicerContext[pb.LocateRequest, pb.Place]"
    ) -> pb.Place:
        async def work(peer: Peer) -> pb.Place:
            place = await self._pools.call(
                peer.identity, lambda: direct.locate(self._context, peer, request.session, request.file)
            )
            return place_to(place.folder, place.ciphertext, place.digests)

        return await self._guard.answer(context, work)

    async def CloseSession(
        self, request: pb.CloseSessionRequest, context: "ServicerContext[pb.CloseSessionRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            return await self._logged(peer, lambda: reading.close_session(self._context, peer, request.session))

        return await self._guard.answer(context, work)

    async def _logged(self, peer: Peer, act: Callable[[], int]) -> pb.Receipt:
        """Do what makes an entry and returns its index; return the receipt."""
        index = await self._pools.call(peer.identity, act)
        return receipt_to(await self._receipts.one(peer.identity, index))

    async def _view(self, peer: Peer, digest: str) -> requests.RequestView:
        return await self._pools.call(peer.identity, lambda: requests.view(self._context, peer, digest))

    async def _shown(self, peer: Peer, view: requests.RequestView) -> pb.RequestView:
        """Show a request, once the newest of its entries is published."""
        receipts = await self._receipts.of(peer.identity, view.places)
        return request_to(
            view.request, view.phase, view.reason, receipts, view.envelopes, view.bytes_spent, view.sessions_used
        )

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


def _version(view: versions.VersionView, receipt: Receipt) -> pb.Version:
    return version_to(view.version, view.content, view.sharing, receipt, view.wraps)
