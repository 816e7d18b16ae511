"""A blob on its way into S3: in one request where it is small, else in parts that several threads send.

Nothing is visible before the last request, which carries ``If-None-Match: *``: S3 itself refuses it where the key is
taken, however many writers there are. A part may be sent again at any time; so what breaks is resumed by part. A part
that did not arrive in spite of that is gone, for nobody keeps it: then the blob is lost, and nothing completes it.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from custody.adapters.s3_client import explained
from custody.crypto.digests import hasher
from custody.errors import ConflictError, CustodyError, NotFoundError, StoreError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["PART", "S3Writer", "part_size"]

PART: Final = 8 << 20
"""Bytes of a part, the first 1,000 times."""

_STEP: Final = 1000
_AHEAD: Final = 64 << 20  # bytes under way, in whole parts and at least one: with the part being filled, our memory
_MOST_AHEAD: Final = 3  # parts under way at most


def part_size(number: int) -> int:
    """Bytes of part ``number`` (from 1) of a blob of unknown size: 10,000 parts, S3's limit, exceed 5 TiB."""
    return PART << ((number - 1) // _STEP)


class S3Writer:
    """``BlobWriter``, ended by ``finish`` or ``abandon``. ``stored`` returns size and BLAKE3 of what is there."""

    def __init__(  # noqa: PLR0917 - where it goes, from server to key
        self,
        client: "S3Client",
        bucket: str,
        name: str,
        key: str,
        pool: Executor,
        stored: Callable[[], tuple[int, bytes]],
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._name = name
        self._key = key
        self._pool = pool
        self._stored = stored
        self._upload: str | None = None
        self._parts: list[CompletedPartTypeDef] = []
        self._under_way: deque[Future[CompletedPartTypeDef]] = deque()
        self._number = 1
        self._gathered = bytearray()
        self._size = 0
        self._hash = hasher()
        self._ended = False
        self._lost: CustodyError | None = None

    def write(self, data: bytes | memoryview, /) -> None:
        """See ``BlobWriter.write``. ``ValueError`` after the block that it was made for."""
        if self._ended:
            raise ValueError("the blob is written already")
        if self._lost is not None:
            raise self._lost
        view = memoryview(data).cast("B")
        try:
            self._append(view)
        except BaseException as error:
            broken_off = UnavailableError(f"store: {self._key}: a write was broken off")
            self._lost = error if isinstance(error, CustodyError) else broken_off
            raise

    def finish(self) -> None:
        """Make it visible and durable. ``ConflictError`` where the key holds other bytes."""
        self._ended = True
        if self._lost is not None:
            raise self._lost
        try:
            if self._upload is None:
                self._put()
            else:
                self._send()
                self._gather(0)
                self._complete(self._upload)
        except (ConflictError, NotFoundError) as error:
            self._require_same(error)
            self.abandon()

    def abandon(self) -> None:
        """Throw away what was sent. Best effort: what stays is invisible, and ``sweep`` finds it."""
        self._ended = True
        for future in self._under_way:
            future.cancel()
        for future in self._under_way:
            with suppress(Exception):
                future.result()
        self._under_way.clear()
        if self._upload is not None:
            with suppress(StoreError), explained(self._key):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._name, UploadId=self._upload)
            self._upload = None

    def _append(self, view: memoryview) -> None:
        self._hash.update(view)
        self._size += len(view)
        while view:
            room = part_size(self._number) - len(self._gathered)
            self._gathered += view[:room]
            view = view[room:]
            if view:  # a part is sent when it is known not to be the last: a small blob needs one request
                self._send()

    def _put(self) -> None:
        with explained(self._key):
            self._client.put_object(Bucket=self._bucket, Key=self._name, Body=_body(self._gathered), IfNoneMatch="*")

    def _complete(self, upload: str) -> None:
        with explained(self._key):
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._name,
                UploadId=upload,
                MultipartUpload={"Parts": self._parts},
                IfNoneMatch="*",
            )

    def _require_same(self, error: StoreError) -> None:
        """An earlier attempt of ours may have succeeded unheard, or somebody stored the same bytes: both are fine."""
        try:
            size, digest = self._stored()
        except NotFoundError:
            raise UnavailableError(f"store: {self._key}: the upload was lost", hint="try again") from error
        if (size, digest) != (self._size, self._hash.digest()):
            raise ConflictError(f"store: {self._key} exists with other content") from error

    def _send(self) -> None:
        if self._upload is None:
            with explained(self._key):
                begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._name)
            self._upload = begun["UploadId"]
        self._gather(max(1, min(_MOST_AHEAD, _AHEAD // part_size(self._number))) - 1)
        body, self._gathered = self._gathered, bytearray()
        self._under_way.append(self._pool.submit(self._part, self._upload, self._number, body))
        self._number += 1

    def _gather(self, left: int) -> None:
        """Wait until no more than ``left`` parts are under way."""
        while len(self._under_way) > left:
            self._parts.append(self._under_way.popleft().result())

    def _part(self, upload: str, number: int, body: bytearray) -> "CompletedPartTypeDef":
        with explained(self._key):
            sent = self._client.upload_part(
                Bucket=self._bucket, Key=self._name, UploadId=upload, PartNumber=number, Body=_body(body)
            )
        return {"PartNumber": number, "ETag": sent["ETag"]}


def _body(data: bytearray) -> bytes:
    """Say of a bytearray that it will do: the library takes one without a copy, and its types forget to say so."""
    return cast("bytes", data)
