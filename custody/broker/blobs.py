"""A blob of an upload while it comes in: by presigned requests straight into the store, or through the broker."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from copy import copy
from typing import Final, Protocol

from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError, StoreError
from custody.ports import BlobWriter, Presigned, Presigner, Settler, Store

__all__ = ["PART", "BlobUpload", "PresignedBlob", "StreamedBlob", "part_size"]

PART: Final = 8 << 20
"""Bytes of a part, unless a blob is so large that it would have too many."""

_MOST_PARTS: Final = 10_000  # S3's limit
_SIGNED_AT_ONCE: Final = 64


def part_size(largest: int) -> int:
    """Bytes of a part when the largest blob has that many: a multiple of ``PART``."""
    return PART * max(1, -(-largest // (PART * _MOST_PARTS)))


class BlobUpload(Protocol):
    """A blob that is coming in."""

    def finish(self) -> None:
        """Put it whole under its key; durable when its version is registered. ``IntegrityError`` for missing bytes."""
        ...

    def discard(self) -> None:
        """Forget what came in."""
        ...


class PresignedBlob:
    """``BlobUpload`` for a store that signs: the bytes do not pass through here."""

    def __init__(self, store: Presigner, key: str, size: int, part: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._part = part
        self._parts = max(1, -(-size // part))
        self._lock = threading.Lock()
        self._upload: str | None = None

    def sign(self, first: int, parts: int, seconds: int) -> Sequence[Presigned]:
        """Return the requests of so many parts from ``first`` on. ``FormatError`` outside the blob."""
        if not 1 <= first <= first + parts - 1 <= self._parts or parts > _SIGNED_AT_ONCE:
            raise FormatError(f"parts {first} to {first + parts - 1}: it has 1 to {self._parts}, 64 are signed at once")
        if self._parts == 1:
            return [self._store.presign_put(self._key, self._size, seconds)]
        with self._lock:
            upload = self._upload = self._upload or self._store.begin_parts(self._key)
        return [
            self._store.presign_part(self._key, upload, number, self._length(number), seconds)
            for number in range(first, first + parts)
        ]

    def finish(self) -> None:
        """See ``BlobUpload.finish``."""
        if self._parts > 1 and self._upload is None:
            raise IntegrityError(f"{self._key}: nothing of it was sent")
        if self._upload is not None:
            self._store.finish_parts(self._key, self._upload, self._size)
            return
        try:
            size = self._store.pin(self._key).size
        except NotFoundError:
            raise IntegrityError(f"{self._key}: nothing of it was sent") from None
        if size != self._size:
            raise IntegrityError(f"{self._key}: {size} bytes were sent, {self._size} were announced")

    def discard(self) -> None:
        """See ``BlobUpload.discard``."""
        if self._upload is not None:
            with suppress(StoreError):  # the store's own sweep finds it
                self._store.abort_parts(self._key, self._upload)

    def _length(self, number: int) -> int:
        return min(self._part, self._size - (number - 1) * self._part)


class StreamedBlob:
    """``BlobUpload`` for any store: the broker writes what it is sent, in order.

    Nothing leads to it before ``register``, which settles the store: one sync for all blobs of a version where the
    store can, instead of two for each. An upload does not survive its broker, so nobody is told before that they will.

    What is counted here is what the writer holds: that keeps all of a write or nothing (``BlobWriter.write``).
    """

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._key = key
        self._size = size
        self._lock = threading.Lock()
        self._stack = ExitStack()
        writer = store.unsettled_writer if isinstance(store, Settler) else store.writer
        self._writer: BlobWriter | None = self._stack.enter_context(writer(key))
        self._done = 0
        self._failure: CustodyError | None = None

    def write(self, offset: int, data: bytes) -> int:
        """Take the bytes from ``offset`` on; what came before is passed over. Returns how many there are now.

        ``FormatError`` for bytes beyond the size announced, and for a gap.
        """
        with self._lock:
            writer = self._open()
            if offset > self._done or offset + len(data) > self._size:
                raise FormatError(f"{self._key}: bytes {offset} to {offset + len(data)}: {self._done} are there")
            fresh = memoryview(data)[self._done - offset :]
            writer.write(fresh)
            self._done += len(fresh)
            return self._done

    def finish(self) -> None:
        """See ``BlobUpload.finish``. What was written is gone when the store fails, so who asks again is told why."""
        with self._lock:
            self._open()
            if self._done != self._size:
                raise IntegrityError(f"{self._key}: {self._done} bytes were sent, {self._size} were announced")
            self._writer = None
            try:
                self._stack.close()
            except CustodyError as error:
                self._failure = copy(error)  # without the traceback, which holds on to what was written
                raise

    def discard(self) -> None:
        """See ``BlobUpload.discard``."""
        with self._lock:
            self._writer = None
            over = DeniedError("the upload is over")
            with suppress(DeniedError, StoreError):
                self._stack.__exit__(DeniedError, over, None)

    def _open(self) -> BlobWriter:
        if self._failure is not None:
            raise copy(self._failure)
        if self._writer is None:
            raise DeniedError("the upload is over")
        return self._writer
