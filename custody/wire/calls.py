"""The broker's service as a client calls it: typed, with a deadline on every call, errors as ``CustodyError``s.

Calls that only read, and calls whose document the broker recognises when it comes again, are repeated by whoever calls
(``custody.client``, ``custody.custodian``); nothing is repeated here.
"""

from collections.abc import Iterator, Sequence

import grpc

from custody.documents.dsse import Envelope
from custody.entries.receipt import Receipt
from custody.errors import FormatError
from custody.wire.connection import DEADLINE
from custody.wire.errors import raise_from_rpc
from custody.wire.messages import (
    OpenReply,
    PlaceReply,
    RequestReply,
    VersionReply,
    place_from,
    receipt_from,
    request_from,
    session_from,
    version_from,
)
from custody.wire.pieces import Piece, split_piece
from custody.wire.uploads import UploadCalls
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["Calls"]


class Calls(UploadCalls):
    """All calls of the service, over one connection."""

    def get_roots(self) -> list[tuple[Envelope, Receipt]]:
        """Roots from genesis on, each with the receipt of its entry."""
        reply = self._call(self._stub.GetRoots, pb.GetRootsRequest())
        return [(Envelope.parse(item.envelope), receipt_from(item.receipt)) for item in reply.roots]

    def hello(self, envelope: Envelope) -> Receipt:
        """Send a signed nonce."""
        return receipt_from(self._call(self._stub.Hello, pb.Envelope(envelope=envelope.encode())))

    def get_log_object(self, path: str) -> bytes:
        """A tile, bundle, document or checkpoint of the log."""
        return self._call(self._stub.GetLogObject, pb.GetLogObjectRequest(path=path)).data

    def get_log_objects(self, paths: Sequence[str]) -> list[bytes | None]:
        """What stands at the first of these paths, at least one; ``None`` where there is no object."""
        reply = self._call(self._stub.GetLogObjects, pb.GetLogObjectsRequest(paths=paths))
        if not 1 <= len(reply.objects) <= len(paths):
            raise FormatError(f"the broker answered {len(paths)} paths with {len(reply.objects)} objects")
        return [None if item.missing else item.data for item in reply.objects]

    def list_log_objects(self, prefix: str, after: str = "") -> list[str]:
        """The next paths with a prefix; none after the last."""
        return list(self._call(self._stub.ListLogObjects, pb.ListLogObjectsRequest(prefix=prefix, after=after)).paths)

    def register_version(self, manifest: bytes) -> Receipt:
        """Put a sealed version into custody."""
        return receipt_from(
            self._call(self._stub.RegisterVersion, pb.RegisterVersionRequest(manifest=manifest), deadline=120.0)
        )

    def list_versions(self, page_token: str = "", page_size: int = 100) -> tuple[list[VersionReply], str]:
        """One page of versions, and the token of the next ("" for none)."""
        request = pb.ListVersionsRequest(page_token=page_token, page_size=page_size)
        reply = self._call(self._stub.ListVersions, request)
        return [version_from(item) for item in reply.versions], reply.next_page_token

    def get_version(self, version: str) -> VersionReply:
        """One version, with the wraps for the caller's own devices."""
        return version_from(self._call(self._stub.GetVersion, pb.GetVersionRequest(version=version)))

    def submit_request(self, envelope: Envelope) -> RequestReply:
        """File a request."""
        return request_from(self._call(self._stub.SubmitRequest, pb.Envelope(envelope=envelope.encode())))

    def list_requests(
        self, *, closed: bool = False, page_token: str = "", page_size: int = 50
    ) -> tuple[list[RequestReply], str]:
        """One page of the requests that concern the caller, and the token of the next."""
        message = pb.ListRequestsRequest(filter="all" if closed else "live", page_token=page_token, page_size=page_size)
        reply = self._call(self._stub.ListRequests, message)
        return [request_from(item) for item in reply.requests], reply.next_page_token

    def get_request(self, request: str, *, seen: int = 0, wait_seconds: int = 0) -> RequestReply:
        """One request; with ``wait_seconds`` only when it has more than ``seen`` entries, or at the end of the wait."""
        message = pb.GetRequestRequest(request=request, seen=seen, wait_seconds=wait_seconds)
        return request_from(self._call(self._stub.GetRequest, message, deadline=DEADLINE + wait_seconds))

    def decide(self, envelope: Envelope) -> Receipt:
        """Send a decision."""
        return receipt_from(self._call(self._stub.Decide, pb.Envelope(envelope=envelope.encode())))

    def release_share(self, envelope: Envelope, wrapped: bytes) -> Receipt:
        """Send a release with its wrapped share."""
        message = pb.ReleaseShareRequest(envelope=envelope.encode(), wrapped=wrapped)
        return receipt_from(self._call(self._stub.ReleaseShare, message))

    def stop(self, envelope: Envelope) -> Receipt:
        """Send a stop."""
        return receipt_from(self._call(self._stub.Stop, pb.Envelope(envelope=envelope.encode())))

    def open_session(self, envelope: Envelope) -> OpenReply:
        """Open a session of a lease."""
        message = pb.Envelope(envelope=envelope.encode())
        return session_from(self._call(self._stub.OpenSession, message, deadline=60.0))

    def read(self, session: str, file: int, first_segment: int = 0, segments: int = 0) -> Iterator[Piece]:
        """Yield pieces of plaintext segments, in order. Close the iterator to end the stream."""
        return self._pieces(session, file, first_segment, segments, None)

    def _pieces(
        self, session: str, file: int, first_segment: int, segments: int, deadline: float | None
    ) -> Iterator[Piece]:
        message = pb.ReadRequest(session=session, file=file, first_segment=first_segment, segments=segments)
        call = self._read(message, timeout=deadline)
        try:
            yield from map(split_piece, call)
        except grpc.RpcError as error:
            raise_from_rpc(error, self.address)
        finally:
            call.cancel()

    def read_digests(self, session: str, file: int, size: int) -> bytes:
        """The digest list of a file, not yet checked against the content. ``FormatError`` for more than ``size`` bytes:
        whoever sends them may send for ever.
        """
        message = pb.ReadDigestsRequest(session=session, file=file)
        digests = bytearray()
        call = self._stub.ReadDigests(message, timeout=DEADLINE * 10)
        try:
            for piece in call:
                digests += piece.data
                if len(digests) > size:
                    raise FormatError(f"the broker sent more than the {size} bytes of digests that file {file} has")
        except grpc.RpcError as error:
            raise_from_rpc(error, self.address)
        finally:
            call.cancel()
        return bytes(digests)

    def locate(self, session: str, file: int) -> PlaceReply:
        """Where a direct session's job reads a file."""
        return place_from(self._call(self._stub.Locate, pb.LocateRequest(session=session, file=file)))

    def close_session(self, session: str, *, deadline: float = DEADLINE) -> Receipt:
        """End a session; the receipt is of its outcome."""
        message = pb.CloseSessionRequest(session=session)
        return receipt_from(self._call(self._stub.CloseSession, message, deadline=deadline))
