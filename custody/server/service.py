"""The broker's service: each method hands signed documents to one use case and packs what comes back."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from grpc.aio import ServicerContext

from custody.broker import direct, grants, reading, requests, stops, trust, versions
from custody.broker.context import Context, Peer
from custody.documents.dsse import Envelope
from custody.entries.receipt import Receipt
from custody.errors import FormatError
from custody.server.changes import Changes
from custody.server.guard import Guard
from custody.server.often import Often
from custody.server.pools import Pools
from custody.server.reads import Reads
from custody.server.receipts import Receipts
from custody.server.uploads import UploadService
from custody.wire.messages import place_to, receipt_to, request_to, version_to
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["Service"]

_MAX_WAIT: Final = 30
_MAX_PAGE: Final = 200


class Service(UploadService):
    """Adapter between gRPC and the broker's use cases; it decides nothing."""

    def __init__(  # noqa: PLR0917 - the parts of one server, put together once
        self,
        context: Context,
        guard: Guard,
        pools: Pools,
        changes: Changes,
        receipts: Receipts,
        often: Often,
        reads: Reads,
    ) -> None:
        self._context = context
        self._guard = guard
        self._pools = pools
        self._changes = changes
        self._receipts = receipts
        self._often = often
        self._reads = reads

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
            self._often.greet(peer)
            envelope = Envelope.parse(request.envelope)
            if trust.is_brief(envelope):
                act = trust.hello(self._context, peer, envelope)
            else:
                act = await self._pools.call(peer.identity, lambda: trust.hello(self._context, peer, envelope))
            return receipt_to(await self._receipts.of_act(peer.identity, act))

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

    async def GetLogObjects(
        self,
        request: pb.GetLogObjectsRequest,
        context: "ServicerContext[pb.GetLogObjectsRequest, pb.GetLogObjectsReply]",
    ) -> pb.GetLogObjectsReply:
        async def work(peer: Peer) -> pb.GetLogObjectsReply:
            found = await self._pools.call(peer.identity, lambda: trust.log_objects(self._context, peer, request.paths))
            return pb.GetLogObjectsReply(
                objects=[pb.GetLogObjectsReply.Object(data=data or b"", missing=data is None) for data in found]
            )

        return await self._guard.answer(context, work)

    async def ListLogObjects(
        self,
        request: pb.ListLogObjectsRequest,
        context: "ServicerContext[pb.ListLogObjectsRequest, pb.ListLogObjectsReply]",
    ) -> pb.ListLogObjectsReply:
        async def work(peer: Peer) -> pb.ListLogObjectsReply:
            self._often.look(peer)
            names = await self._pools.call(
                peer.identity, lambda: trust.log_names(self._context, peer, request.prefix, request.after)
            )
            return pb.ListLogObjectsReply(paths=names)

        return await self._guard.answer(context, work)

    async def RegisterVersion(
        self, request: pb.RegisterVersionRequest, context: "ServicerContext[pb.RegisterVersionRequest, pb.Receipt]"
    ) -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            self._often.file(peer)
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
            self._often.file(peer)
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
            if not request.wait_seconds:
                return await self._shown(peer, await self._view(peer, request.request))
            with self._changes.watch(request.request, peer.identity) as changed:
                view = await self._view(peer, request.request)
                if len(view.places) <= request.seen:
                    await changed(min(request.wait_seconds, _MAX_WAIT))
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
            self._often.file(peer)
            envelope = Envelope.parse(request.envelope)
            return await self._logged(peer, lambda: grants.release_share(self._context, envelope, request.wrapped))

        return await self._guard.answer(context, work)

    async def Stop(self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Receipt]") -> pb.Receipt:
        async def work(peer: Peer) -> pb.Receipt:
            envelope = Envelope.parse(request.envelope)
            index = await self._pools.stop(peer.identity, lambda: stops.stop(self._context, envelope))
            return receipt_to(await self._receipts.one(peer.identity, index))

        return await self._guard.answer(context, work, bounded=False)

    async def OpenSession(
        self, request: pb.Envelope, context: "ServicerContext[pb.Envelope, pb.Session]"
    ) -> pb.Session:
        async def work(peer: Peer) -> pb.Session:
            envelope = Envelope.parse(request.envelope)
            opened = await self._pools.open(
                peer.identity,
                partial(reading.open_session, self._context, peer, envelope),
                partial(reading.abandon_session, self._context, peer),
            )
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
        self, request: pb.ReadRequest, context: "ServicerContext[pb.ReadRequest, bytes]"
    ) -> None:
        """Serve plaintext; ``add_reads`` registers it, for its messages are bytes already."""
        await self._reads.read(request, context)

    async def ReadDigests(
        self, request: pb.ReadDigestsRequest, context: "ServicerContext[pb.ReadDigestsRequest, pb.DigestsPiece]"
    ) -> AsyncIterator[pb.DigestsPiece]:
        async for piece in self._reads.digests(request, context):
            yield piece

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


def _page(size: int) -> int:
    return min(size or 50, _MAX_PAGE)


def _version(view: versions.VersionView, receipt: Receipt) -> pb.Version:
    return version_to(view.version, view.content, view.sharing, receipt, view.wraps)
