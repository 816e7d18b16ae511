"""The calls with which a sealer uploads a version."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import grpc

from custody.entries.receipt import Receipt
from custody.errors import FormatError
from custody.ports import Presigned
from custody.wire.connection import DEADLINE, Connection
from custody.wire.errors import raise_from_rpc
from custody.wire.messages import receipt_from
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["BlobPlace", "UploadCalls", "UploadReply"]

_PIECE: Final = 1 << 20
_SLOWEST: Final = 1 << 18  # bytes a second that a stream must make, beside DEADLINE
_MOST_PART: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class UploadReply:
    """An upload that has begun: whether the store takes its blobs itself, in parts of how many bytes."""

    upload: str
    presigned: bool
    part_size: int


class BlobPlace(NamedTuple):
    """A blob of an upload: the ciphertext of a file, by index, or its digest list."""

    upload: str
    file: int
    digests: bool


class UploadCalls(Connection):
    """A part of ``Calls``."""

    def begin_upload(self, version: str, vid: bytes, segment: int, sizes: Sequence[int]) -> UploadReply:
        """Begin an upload: plaintext bytes of a segment, and of each file."""
        message = pb.BeginUploadRequest(version=version, vid=vid, segment=segment, sizes=sizes)
        reply = self._call(self._stub.BeginUpload, message, deadline=DEADLINE * 4)
        if not 0 < reply.part_size <= _MOST_PART:
            raise FormatError(f"the broker wants parts of {reply.part_size} bytes")
        return UploadReply(reply.upload, reply.presigned, reply.part_size)

    def sign_parts(self, place: BlobPlace, first: int, parts: int) -> list[Presigned]:
        """Ask for the requests of so many parts from ``first`` (1 and up) on."""
        message = pb.SignPartsRequest(blob=_blob(place), first=first, parts=parts)
        reply = self._call(self._stub.SignParts, message)
        if len(reply.parts) != parts:
            raise FormatError(f"the broker signed {len(reply.parts)} parts instead of {parts}")
        return [Presigned(one.url, dict(one.headers), one.expires) for one in reply.parts]

    def write_blob(self, place: BlobPlace, offset: int, data: memoryview) -> int:
        """Send bytes of a blob from ``offset`` on; returns how many of it the broker has."""
        pieces = (
            pb.BlobPiece(blob=_blob(place), offset=offset + at, data=bytes(data[at : at + _PIECE]))
            for at in range(0, len(data), _PIECE)
        )
        try:
            return self._stub.WriteBlob(pieces, timeout=DEADLINE + len(data) / _SLOWEST).size
        except grpc.RpcError as error:
            raise_from_rpc(error, self.address)

    def finish_blob(self, place: BlobPlace) -> int:
        """Say that all bytes of a blob are there; returns its size."""
        return self._call(self._stub.FinishBlob, pb.FinishBlobRequest(blob=_blob(place)), deadline=DEADLINE * 4).size

    def finish_upload(self, upload: str, manifest: bytes) -> Receipt:
        """Put the uploaded version into custody."""
        message = pb.FinishUploadRequest(upload=upload, manifest=manifest)
        return receipt_from(self._call(self._stub.FinishUpload, message, deadline=DEADLINE * 4))

    def abort_upload(self, upload: str) -> None:
        """Throw an upload away."""
        self._call(self._stub.AbortUpload, pb.AbortUploadRequest(upload=upload))


def _blob(place: BlobPlace) -> pb.Blob:
    return pb.Blob(upload=place.upload, file=place.file, digests=place.digests)
