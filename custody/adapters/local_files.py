"""One file of the local store: its key, its handle for reading or writing, and what an ``OSError`` means."""

import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from custody.adapters.file_system import start_write_back, wait_write_back
from custody.errors import ConfigError, CustodyError, FormatError, IntegrityError, NotFoundError, UnavailableError

__all__ = [
    "READ",
    "STRETCH",
    "Draft",
    "LocalBlob",
    "LocalWriter",
    "check_part",
    "discard_draft",
    "explained",
    "is_part",
    "link_draft",
    "meaning",
    "reason",
    "same_content",
    "split_key",
]

_MAX_KEY: Final = 512
_MAX_PART: Final = 200
_CHUNK: Final = 1 << 20

_PART: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*", re.ASCII)

# O_NONBLOCK: opening a FIFO that somebody planted must not wait for its other end.
READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a blob is opened."""

STRETCH: Final = 32 << 20
"""Bytes that a writer is ahead of the disk, at least; and twice that at most."""

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
                try:  # not ``explained``: a block is what this costs most of
                    got = os.preadv(self._descriptor, [buffer[done:]], offset + done)
                except OSError as error:
                    raise meaning(error, self._key) from error
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
        self.lost: OSError | None = None
        """Why the file is not what was written to it. The fsync at the end may not know: it must not become a blob."""

    def write(self, data: bytes | memoryview, /) -> None:
        """See ``BlobWriter.write``. ``ValueError`` after the block that it was made for."""
        if self._descriptor < 0:
            raise ValueError("the blob is written already")
        with explained(self._key):
            if self.lost is not None:
                raise self.lost
            self._append(memoryview(data).cast("B"))
        if self._size - self._begun >= STRETCH:
            before = self._begun
            self.hurry()
            if before:
                self._wait(max(0, before - STRETCH), before)

    def hurry(self) -> None:
        """Start writing to the disk what is not on its way yet."""
        start_write_back(self._descriptor, self._begun, self._size)
        self._begun = self._size

    def _append(self, data: memoryview) -> None:
        """Write all of it, or nothing: a disk that fills takes a part before it says so."""
        left = data
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BaseException:
            self._take_back()
            raise
        self._size += len(data)

    def _take_back(self) -> None:
        """Cut off what a write that failed has left. Where that fails too, the file is lost."""
        try:
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
        except OSError as error:
            self.lost = error

    def _wait(self, start: int, end: int) -> None:
        with explained(self._key):
            try:
                wait_write_back(self._descriptor, start, end)
            except OSError as error:
                self.lost = error
                raise

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


class Draft(NamedTuple):
    """A temporary file that is to become a blob: key, directory and file (both open), names."""

    key: str
    directory: int
    file: int
    temporary: str
    name: str


def link_draft(directory: int, temporary: str, name: str, file: int, sync: Callable[[int], None]) -> bool:
    """Give the temporary file its name. False where that name holds something else; where it holds the same, that is
    made durable by ``sync``: whoever wrote it may not have done so.
    """
    try:
        if temporary:
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        else:  # what is followed is the kernel's own way from a descriptor to its file
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=directory, follow_symlinks=True)
    except FileExistsError:
        existing = os.open(name, READ, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(existing).st_mode) or not same_content(file, existing):
                return False
            sync(existing)
        finally:
            os.close(existing)
    return True


def discard_draft(directory: int, temporary: str, file: int) -> None:
    """Remove the temporary name, if it is still ours, and close the file. What fails here, ``sweep`` removes later."""
    with suppress(OSError):
        if temporary and os.path.samestat(os.stat(temporary, dir_fd=directory, follow_symlinks=False), os.fstat(file)):
            os.unlink(temporary, dir_fd=directory)
    with suppress(OSError):  # what was acknowledged has been fsynced
        os.close(file)
