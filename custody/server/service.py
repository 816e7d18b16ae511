"""The broker's service: each method hands signed documents to one use case and packs what comes back."""

from collections.abc import AsyncIterator
from typing import Final

from grpc.aio import ServicerContext

from custody.broker import grants, reading, requests, stops, trust, versions
from custody.broker.context import Context, Peer
from custody.documents.dsse import Envelope
from custody.errors import FormatError
from custody.server.changes import Changes
from custody.server.guard import Guard
from custody.server.pools import Pools
from custody.server.reads import Reads
from custody.wire.messages import receipt_to, request_to, version_to
from custody.wire.v1 import broker_pb2 as pb
from custody.wire.v1.broker_pb2_grpc import BrokerServicer

__all__ = ["Service"]

_MAX_WAIT: Final = 30
_MAX_PAGE: Final = 200


class Service(BrokerServicer):
    """Adapter between gRPC and the broker's use cases; it decides nothing."""

    def __init__(self, context: Context, guard: Guard, pools: Pools, changes: Changes, reads: Reads) -> None:
        self._context = context
        self._guard = guard
        self._pools = pools
        self._changes = changes
        self._reads = reads

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
                files=[pb.FileKeys(file=file, digest_key=key) for file, key in opened.digest_keys.items()],
            )

        return await self._guard.answer(context, work)

    async def Read(  # type: ignore[override]  # a coroutine that writes is as good as a generator to gRPC
        self, request: pb.ReadRequest, context: "ServicerContext[pb.ReadRequest, bytes]"
    ) -> None:
        """Serve plaintext; ``add_reads`` registers it, for its messages are bytes already."""
        await self._reads.read(request, context)

    async def ReadDigests(
        self, request: pb.ReadDigestsRequest, context: "ServicerContext[pb.ReadDigestsRequest, pb.DigestsPiece]"
    ) -> AsyncIterator[pb.DigestsPiece]:
        async for piece in self._reads.digests(request, context):
            yield piece

    async def CloseSession(
        self, request: pb.CloseSessionRequest, context: "ServicerContext[pb.CloseSessionRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            return receipt_to(await self._pools.call(reading.close_session, self._context, peer, request.session))

        return await self._guard.answer(context, work)


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
