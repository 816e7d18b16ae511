"""One file of the local store: its key, its handle for reading or writing, and what an ``OSError`` means."""

import ctypes
import errno
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from custody.errors import ConfigError, CustodyError, FormatError, IntegrityError, NotFoundError, UnavailableError

__all__ = [
    "STRETCH",
    "LocalBlob",
    "LocalWriter",
    "check_part",
    "explained",
    "is_part",
    "meaning",
    "reason",
    "same_content",
    "split_key",
    "write_back",
]

_MAX_KEY: Final = 512
_MAX_PART: Final = 200
_CHUNK: Final = 1 << 20

_PART: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*", re.ASCII)

STRETCH: Final = 32 << 20
"""Bytes that a writer is ahead of the disk, at least; and twice that at most."""

_WAIT: Final = 1 | 2 | 4  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER
_START: Final = 2  # _WRITE alone
_sync_file_range: Final = ctypes.CDLL(None).sync_file_range  # the module os has everything but this
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_HINTS: Final = {
    errno.ENOSPC: "make room on the store's file system",
    errno.EDQUOT: "raise this user's quota on the store's file system",
    errno.EIO: "the disk under the store fails: see the kernel's log",
    errno.EACCES: "let this user read and write the store's directory",
    errno.EROFS: "mount the store's file system writable",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= in systemd)",
}


def is_part(name: str) -> bool:
    """Tell whether a file's or directory's name can be a part of a key."""
    return len(name) <= _MAX_PART and _PART.fullmatch(name) is not None


def check_part(part: str, key: str) -> None:
    """Raise ``FormatError`` unless ``part`` is one of ``a-z 0-9 . _ -``, up to 200, not starting with a dot."""
    if not is_part(part):
        raise FormatError(f"store: {key[:80]!a} is not a key")


def split_key(key: str) -> list[str]:
    """Split a key of up to 512 characters into its parts. ``FormatError`` for what is not a key."""
    if len(key) > _MAX_KEY:
        raise FormatError(f"store: a key of {len(key)} characters")
    parts = key.split("/")
    for part in parts:
        check_part(part, key)
    return parts


@contextmanager
def explained(key: str) -> Iterator[None]:
    """Turn an ``OSError`` into the store error it means. What does not exist is the caller's to tell apart before."""
    try:
        yield
    except OSError as error:
        raise meaning(error, key) from error


def meaning(error: OSError, key: str) -> CustodyError:
    """Return the store error that an ``OSError`` means."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        return IntegrityError(f"store: {key}: a link, or a file where a directory belongs")
    if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
        hint = "the file system must know hard links, and this user must be allowed to make and remove them"
        return ConfigError(f"store: {key}: {reason(error)}", hint=hint)
    return UnavailableError(f"store: {key}: {reason(error)}", hint=_HINTS.get(error.errno or 0, ""))


def reason(error: OSError) -> str:
    """Say what the system said, without the path."""
    return (error.strerror or type(error).__name__).lower()


def write_back(descriptor: int, start: int, end: int) -> None:
    """Start writing what lies between two offsets of a file to the disk, and wait for the stretch before it.

    A hint, and no promise: what goes wrong here is told by the fsync at the end, which knows of every page that failed.
    """
    _sync_file_range(descriptor, start, end - start, _START)
    before = max(0, start - STRETCH)
    if before < start:
        _sync_file_range(descriptor, before, start - before, _WAIT)


class LocalBlob:
    """A file open for reading. Takes over the descriptor.

    ``NotFoundError`` if it is a directory, which is no blob; ``IntegrityError`` if it is not a regular file.
    """

    def __init__(self, descriptor: int, key: str) -> None:
        self._descriptor = descriptor
        self._key = key
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        info = os.fstat(descriptor)
        self._size = info.st_size
        if not stat.S_ISREG(info.st_mode):
            self.close()
            if stat.S_ISDIR(info.st_mode):
                raise NotFoundError(f"store: there is no {key}")
            raise IntegrityError(f"store: {key} is not a regular file")

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._size

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """See ``BlobReader.read_into``."""
        if offset < 0:
            raise ValueError("a negative offset")
        # The number of a closed descriptor may belong to another file already: close waits for the readers.
        with self._lock:
            if self._closed:
                raise ValueError("the blob has been closed")
            self._readers += 1
        try:
            done = 0
            while done < len(buffer):
                with explained(self._key):
                    got = os.preadv(self._descriptor, [buffer[done:]], offset + done)
                if got == 0:
                    raise IntegrityError(f"store: {self._key} ends at byte {offset + done}")
                done += got
        finally:
            with self._lock:
                self._readers -= 1
                self._release()

    def close(self) -> None:
        """See ``BlobReader.close``. A second call does nothing."""
        with self._lock:
            self._closed = True
            self._release()

    def _release(self) -> None:
        if self._closed and not self._readers and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalWriter:
    """A temporary file being filled. The store that made it closes and publishes it.

    What it holds goes to the disk while it is filled, a stretch behind the writer: so the fsync at the end of 100 GB
    has a few seconds to go and not minutes, and the page cache is not full of what it cannot drop.
    """

    def __init__(self, descriptor: int, key: str) -> None:
        self._descriptor = descriptor
        self._key = key
        self._size = 0
        self._begun = 0  # bytes on their way to the disk

    def write(self, data: bytes | memoryview, /) -> None:
        """See ``BlobWriter.write``. ``ValueError`` after the block that it was made for."""
        if self._descriptor < 0:
            raise ValueError("the blob is written already")
        view = memoryview(data).cast("B")
        self._size += len(view)
        while view:
            with explained(self._key):
                view = view[os.write(self._descriptor, view) :]
        if self._size - self._begun >= STRETCH:
            write_back(self._descriptor, self._begun, self._size)
            self._begun = self._size

    def end(self) -> None:
        """Refuse writes from now on."""
        self._descriptor = -1


def same_content(first: int, second: int) -> bool:
    """Compare two open files by content."""
    if os.fstat(first).st_size != os.fstat(second).st_size:
        return False
    offset = 0
    while piece := os.pread(first, _CHUNK, offset):
        if piece != os.pread(second, len(piece), offset):
            return False
        offset += len(piece)
    return True
