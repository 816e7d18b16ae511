"""Writing a sealed version through the broker: a sealer needs no credentials of the store.

Each blob goes out in parts that can be sent again. Where the store takes them itself, several threads send them there
by presigned PUTs; elsewhere they go to the broker, in order. A part is kept until it has arrived, so memory is a few
parts for each blob under way, and a connection that breaks costs one part.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Final

from custody.adapters.http_pool import HttpPool
from custody.adapters.http_put import put
from custody.client.link import Link
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, IntegrityError, UnavailableError
from custody.ports import Presigned
from custody.wire.uploads import BlobPlace, UploadReply

__all__ = ["BlobSender", "Upload"]

_SENDERS: Final = 4
_AHEAD: Final = 2  # parts of one blob under way, besides the one being filled
_PATIENCE: Final = 120.0


class Upload:
    """An upload that has begun. ``blobs`` are file index, whether it is a digest list, and size, by store key."""

    def __init__(self, link: Link, reply: UploadReply, blobs: Mapping[str, tuple[int, bool, int]]) -> None:
        self._link = link
        self._reply = reply
        self._blobs = blobs
        self._http = HttpPool()
        self._senders = ThreadPoolExecutor(_SENDERS, "upload")

    @contextmanager
    def writer(self, key: str) -> Iterator["BlobSender"]:
        """Write a blob piece by piece; it is durable when the block ends, and when the block raises it never is."""
        file, digests, size = self._blobs[key]
        place = BlobPlace(self._reply.upload, file, digests)
        sender = BlobSender(self, place, key, size)
        try:
            yield sender
            sender.finish()
        finally:
            sender.end()

    def finish(self, manifest: bytes) -> Receipt:
        """Put the version into custody; the receipt is to be verified."""
        return self._link.call(lambda calls: calls.finish_upload(self._reply.upload, manifest), patience=_PATIENCE)

    def abort(self) -> None:
        """Throw the upload away, best effort: the broker does it too, when its time is over."""
        with suppress(CustodyError):
            self._link.call(lambda calls: calls.abort_upload(self._reply.upload), patience=1)

    def close(self) -> None:
        """Give up threads and connections."""
        self._senders.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def start(self, place: BlobPlace, key: str, number: int, offset: int, body: bytearray) -> "Future[None]":
        """Send a part in the background, or here and now where the broker takes it."""
        if self._reply.presigned:
            return self._senders.submit(self._put, place, key, number, body)
        done: Future[None] = Future()
        self._stream(place, key, offset, body)
        done.set_result(None)
        return done

    def finish_blob(self, place: BlobPlace) -> int:
        """Have the broker make a blob durable."""
        return self._link.call(lambda calls: calls.finish_blob(place), patience=_PATIENCE)

    @property
    def part_size(self) -> int:
        """Bytes of each part but the last."""
        return self._reply.part_size

    def _put(self, place: BlobPlace, key: str, number: int, body: bytearray) -> None:
        def sign() -> Presigned:
            return self._link.call(lambda calls: calls.sign_parts(place, number, 1))[0]

        put(key, sign, body, self._http, self._link.around)

    def _stream(self, place: BlobPlace, key: str, offset: int, body: bytearray) -> None:
        view = memoryview(body)
        size = self._link.call(lambda calls: calls.write_blob(place, offset, view), patience=_PATIENCE)
        if size < offset + len(body):
            raise UnavailableError(f"{key}: the broker has {size} bytes of {offset + len(body)}", hint="seal again")


class BlobSender:
    """One blob going out; used by one thread at a time."""

    def __init__(self, upload: Upload, place: BlobPlace, key: str, size: int) -> None:
        self._upload = upload
        self._place = place
        self._key = key
        self._size = size
        self._gathered = bytearray()
        self._sent = 0
        self._number = 1
        self._under_way: deque[Future[None]] = deque()
        self._ended = False

    def write(self, data: bytes | memoryview, /) -> None:
        """See ``BlobWriter.write``. ``IntegrityError`` beyond the size that was announced."""
        if self._ended:
            raise ValueError("the blob is written already")
        view = memoryview(data).cast("B")
        if self._sent + len(self._gathered) + len(view) > self._size:
            raise IntegrityError(f"{self._key}: longer than the {self._size} bytes announced")
        while view:
            room = self._upload.part_size - len(self._gathered)
            self._gathered += view[:room]
            view = view[room:]
            if len(self._gathered) == self._upload.part_size:
                self._send()

    def finish(self) -> None:
        """Send the rest, and wait until everything has arrived."""
        if self._gathered:
            self._send()
        if self._sent != self._size:
            raise IntegrityError(f"{self._key}: {self._sent} bytes, {self._size} were announced")
        self._gather(0)
        if self._upload.finish_blob(self._place) != self._size:
            raise IntegrityError(f"{self._key}: it did not arrive whole")

    def end(self) -> None:
        """Take no more; what is under way ends first."""
        self._ended = True
        while self._under_way:
            future = self._under_way.popleft()
            if not future.cancel():
                with suppress(CustodyError):
                    future.result()

    def _send(self) -> None:
        self._gather(_AHEAD - 1)
        body, self._gathered = self._gathered, bytearray()
        self._under_way.append(self._upload.start(self._place, self._key, self._number, self._sent, body))
        self._number += 1
        self._sent += len(body)

    def _gather(self, left: int) -> None:
        while len(self._under_way) > left:
            self._under_way.popleft().result()
