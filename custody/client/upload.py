"""Writing a sealed version through the broker: a sealer needs no credentials of the store.

Each blob goes out in parts that can be sent again. Where the store takes them itself, several threads send them there
by presigned PUTs, which the broker signs many at a time; elsewhere they go to the broker, in order. A part is kept
until it has arrived, so memory is a few parts for each blob under way, and a connection that breaks costs one part. The
last part, and so a small blob, is sent by whoever ends the blob: as many at once as blobs end.

What is under way for a blob, or an upload, that was given up ends within a second or two; only a call that the broker
has taken, and does not answer, ends with its own deadline.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from custody.adapters.http_pool import HttpPool
from custody.adapters.http_put import put
from custody.client.link import Link
from custody.client.signed_parts import SignedParts
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, IntegrityError, UnavailableError
from custody.ports import Presigned
from custody.segments.finishing import GivenUpError
from custody.segments.streams import StillWanted
from custody.wire.uploads import BlobPlace, UploadReply

__all__ = ["BlobSender", "Upload"]

_SENDERS: Final = 8
_AHEAD: Final = 32 << 20  # bytes of one blob under way, in whole parts and at least one, besides the one being filled
_PATIENCE: Final = 120.0


class Upload:
    """An upload that has begun. ``blobs`` are file index, whether it is a digest list, and size, by store key."""

    def __init__(self, link: Link, reply: UploadReply, blobs: Mapping[str, tuple[int, bool, int]]) -> None:
        self._link = link
        self._reply = reply
        self._blobs = blobs
        self._http = HttpPool()
        self._senders = ThreadPoolExecutor(_SENDERS, "upload")
        self._given_up = False

    @contextmanager
    def writer(self, key: str) -> Iterator["BlobSender"]:
        """Write a blob piece by piece; whole when the block ends, and when the block raises it never is."""
        file, digests, size = self._blobs[key]
        sender = BlobSender(self, BlobPlace(self._reply.upload, file, digests), key, size)
        try:
            yield sender
            sender.finish()
        finally:
            sender.end()

    def finish(self, manifest: bytes) -> Receipt:
        """Put the version into custody, its blobs durable; the receipt is to be verified."""
        return self._link.call(lambda calls: calls.finish_upload(self._reply.upload, manifest), patience=_PATIENCE)

    def abort(self) -> None:
        """Throw the upload away, best effort: the broker does it too, when its time is over."""
        with suppress(CustodyError):
            self._link.call(lambda calls: calls.abort_upload(self._reply.upload), patience=1)

    def give_up(self) -> None:
        """Let all that is under way end with ``GivenUpError``; from any thread."""
        self._given_up = True

    def require_wanted(self) -> None:
        """Raise ``GivenUpError`` when it was given up."""
        if self._given_up:
            raise GivenUpError("the upload was given up")

    def close(self) -> None:
        """Give up threads and connections."""
        self.give_up()
        self._senders.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def finish_blob(self, place: BlobPlace) -> int:
        """Tell the broker that a blob is whole; it is durable when the version is registered."""
        wanted = self.require_wanted
        return self._link.call(lambda calls: calls.finish_blob(place), patience=_PATIENCE, wanted=wanted)

    @property
    def part_size(self) -> int:
        """Bytes of each part but the last."""
        return self._reply.part_size

    def signed(self, place: BlobPlace, size: int, wanted: StillWanted) -> SignedParts | None:
        """Return what signs the parts of a blob; None where the broker takes them itself."""
        if not self._reply.presigned:
            return None
        parts = max(1, -(-size // self.part_size))

        def ask(first: int, many: int) -> Sequence[Presigned]:
            return self._link.call(lambda calls: calls.sign_parts(place, first, many), wanted=wanted)

        return SignedParts(ask, parts, self.part_size, self._link.around.clock)

    def later(self, send: Callable[[], None]) -> "Future[None]":
        """Send a part in the background."""
        return self._senders.submit(send)

    def put(self, key: str, sign: Callable[[], Presigned], body: bytearray, wanted: StillWanted) -> None:
        """Send a part to the store."""
        put(key, sign, body, self._http, self._link.around, wanted=wanted)

    def stream(self, place: BlobPlace, key: str, offset: int, body: bytearray, wanted: StillWanted) -> None:
        """Send a part to the broker."""
        view = memoryview(body)
        size = self._link.call(lambda calls: calls.write_blob(place, offset, view), patience=_PATIENCE, wanted=wanted)
        if size < offset + len(body):
            raise UnavailableError(f"{key}: the broker has {size} bytes of {offset + len(body)}", hint="seal again")


class BlobSender:
    """One blob going out; used by one thread at a time, not always the same."""

    def __init__(self, upload: Upload, place: BlobPlace, key: str, size: int) -> None:
        self._upload = upload
        self._place = place
        self._key = key
        self._size = size
        self._signed = upload.signed(place, size, self._require_wanted)
        self._ahead = max(1, _AHEAD // upload.part_size)
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
            if len(self._gathered) == self._upload.part_size and self._sent + len(self._gathered) < self._size:
                self._send(later=True)

    def finish(self) -> None:
        """Send the rest, and wait until everything has arrived."""
        if self._gathered:
            self._send(later=False)
        if self._sent != self._size:
            raise IntegrityError(f"{self._key}: {self._sent} bytes, {self._size} were announced")
        self._gather(0)
        if self._upload.finish_blob(self._place) != self._size:
            raise IntegrityError(f"{self._key}: it did not arrive whole")

    def end(self) -> None:
        """Take no more; what is under way is given up, and ends first."""
        self._ended = True
        while self._under_way:
            future = self._under_way.popleft()
            if not future.cancel():
                with suppress(CustodyError):
                    future.result()

    def _send(self, *, later: bool) -> None:
        body, self._gathered = self._gathered, bytearray()
        number, offset = self._number, self._sent
        self._number += 1
        self._sent += len(body)
        if self._signed is None:
            self._upload.stream(self._place, self._key, offset, body, self._require_wanted)
            return
        send = partial(self._upload.put, self._key, partial(self._signed.take, number), body, self._require_wanted)
        if later:
            self._gather(self._ahead - 1)
            self._under_way.append(self._upload.later(send))
        else:
            send()

    def _require_wanted(self) -> None:
        self._upload.require_wanted()
        if self._ended:
            raise GivenUpError(f"{self._key}: the blob was given up")

    def _gather(self, left: int) -> None:
        while len(self._under_way) > left:
            self._under_way.popleft().result()
