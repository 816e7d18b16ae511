"""What the module ``os`` lacks: starting to write a range of a file back, and syncing a whole file system."""

import ctypes
import errno
import os
from typing import Final

__all__ = ["can_sync_whole", "keeps_nameless", "start_write_back", "sync_whole", "wait_write_back"]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_sync_file_range: Final = _libc.sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_START: Final = 2  # SYNC_FILE_RANGE_WRITE
_WAIT: Final = 1 | 2 | 4  # _WAIT_BEFORE, _WRITE and _WAIT_AFTER

_SINCE: Final = (5, 8)  # the kernel from which syncfs tells of pages that could not be written
# ext4, XFS, Btrfs, F2FS, tmpfs: those that make everything durable then. A network's may only have sent it.
_BTRFS: Final = 0x9123683E
_KINDS: Final = frozenset({0xEF53, 0x58465342, _BTRFS, 0xF2F52010, 0x01021994})
# What the call says where it does not exist, or the file is none that has a range.
_NO_RANGES: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ESPIPE})
_STATFS: Final = 256  # bytes, more than the structure has; its first word is the kind


def start_write_back(descriptor: int, start: int, end: int) -> None:
    """Start writing what lies between two offsets of a file to the disk.

    A hint, and no promise: what goes wrong is told by the next sync, which knows of every page that failed.
    """
    _sync_file_range(descriptor, start, end - start, _START)


def wait_write_back(descriptor: int, start: int, end: int) -> None:
    """Wait until what lies between two offsets is written. Raises ``OSError`` for pages that could not be.

    **Who is told here is not told again**: the next fsync of this descriptor may succeed, and the pages are gone.
    """
    if _sync_file_range(descriptor, start, end - start, _WAIT) != 0:
        number = ctypes.get_errno() or errno.EIO
        if number not in _NO_RANGES:
            raise OSError(number, os.strerror(number))


def can_sync_whole(descriptor: int) -> bool:
    """Tell whether ``sync_whole`` is as good as an fsync of every file, on the file system of an open file."""
    release = os.uname().release.split(".")
    try:
        if (int(release[0]), int(release[1].partition("-")[0])) < _SINCE:
            return False
    except (IndexError, ValueError):
        return False
    return _kind(descriptor) in _KINDS


def sync_whole(descriptor: int) -> None:
    """Make everything durable that was written to a file system. ``OSError`` also for what failed since it was opened.

    What others have written meanwhile is waited for as well.
    """
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))


def keeps_nameless(descriptor: int) -> bool:
    """Tell whether a file that was fsynced before it had a name is whole after a power cut.

    On Btrfs before Linux 6.16 it may be there and empty: that logs nothing of a file without a name.
    """
    return _kind(descriptor) != _BTRFS


def _kind(descriptor: int) -> int:
    buffer = ctypes.create_string_buffer(_STATFS)
    if _libc.fstatfs(descriptor, buffer) != 0:
        return 0
    return ctypes.c_ulong.from_buffer(buffer).value
