"""Files of a session on disk: whole and checked, or not there.

Each file is written to ``<name>.custody-part`` beside its place, and renamed when every segment was checked and all is
fsynced. What an earlier run left there is used again as far as it is right: the digests tell. A file that is in its
place already is read and, where it is the one, left alone. Plaintext weights are nobody else's: files get mode 0600,
new directories 0700.
"""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from custody.adapters.small_files import explained
from custody.client.direct import DirectFile
from custody.client.reading import VerifiedFile
from custody.errors import ConflictError, IntegrityError, UnavailableError
from custody.segments.streams import Progress

__all__ = ["PART", "Fetched", "download_file", "prepare"]

PART: Final = ".custody-part"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO that lies there must not wait for its other end."""

Fetched = Callable[[str, int], None]
"""Told of each file that is in its place: its path in the version, and how many bytes did not have to be fetched."""


def prepare(out: Path, files: Iterable[tuple[str, int]]) -> None:
    """Make the directory, and find out what can be known before a session is spent on it.

    ``files`` are paths in the version and sizes in bytes. Raises ``ConflictError`` for something else in the place of a
    file, ``UnavailableError`` where there is no room for those that are missing.
    """
    size = 0
    with explained(out):
        out.mkdir(0o700, parents=True, exist_ok=True)
    for path, length in files:
        target = _inside(out, path)
        if not os.path.lexists(target):
            part = target.with_name(target.name + PART)
            size += length - (part.lstat().st_size if part.is_file() else 0)
        elif not stat.S_ISREG(target.lstat().st_mode) or target.lstat().st_size != length:
            raise _another(target)
    with explained(out):
        status = os.statvfs(out)
    free = status.f_bavail * status.f_frsize
    if free < size:
        raise UnavailableError(
            f"{out}: {size} bytes are needed, {free} are free", hint="make room, or choose another --out"
        )


def download_file(file: VerifiedFile | DirectFile, out: Path, progress: Progress, present: Progress) -> int:
    """Put one file into its place below ``out``; return how many of its bytes were there and right already.

    Raises ``ConflictError`` where another file is in its place, and whatever reading raises; the part that was checked
    until then stays for the next run.
    """
    target = _inside(out, file.plan.path)
    if os.path.lexists(target):
        with explained(target):
            whole = _verified(file, target)
        if whole < file.plan.count:
            raise _another(target)
        present(file.plan.size)
        return file.plan.size
    part = target.with_name(target.name + PART)
    with explained(part):
        first = min(_verified(file, part), file.plan.count - 1) if os.path.lexists(part) else 0
        there = file.plan.locate(first).offset
        present(there)
        descriptor = os.open(part, _WRITE, 0o600)
        try:
            _require_own_file(descriptor, part)
            os.ftruncate(descriptor, there)
            file.pass_on(first, lambda i, data: _write(descriptor, data, file.plan.locate(i).offset), progress)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.rename(target)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    return there


def _inside(out: Path, path: str) -> Path:
    """Return where a file of the version goes, its directories made; none of them may be a symbolic link."""
    folder = out
    parts = path.split("/")
    for part in parts[:-1]:
        folder /= part
        with explained(folder):
            folder.mkdir(0o700, exist_ok=True)
            if folder.is_symlink():
                raise ConflictError(f"{folder} is a symbolic link", hint="choose another --out")
    return folder / parts[-1]


def _verified(file: VerifiedFile | DirectFile, path: Path) -> int:
    """Count the segments from the start that are there and right; all of them only where nothing follows."""
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConflictError(f"{path}: not a regular file", hint="move it away, or choose another --out")
        whole = file.plan.count
        if status.st_size != file.plan.size:
            whole = min(whole - 1, status.st_size // file.plan.segment)
        buffer = bytearray(min(file.plan.segment, file.plan.size))
        for i in range(whole):
            where = file.plan.locate(i)
            view = memoryview(buffer)[: where.length]
            if os.preadv(descriptor, [view], where.offset) != where.length or not file.holds(i, view):
                return i
        return whole
    finally:
        os.close(descriptor)


def _another(target: Path) -> ConflictError:
    return ConflictError(f"{target} exists and is another file", hint="move it away, or choose another --out")


def _require_own_file(descriptor: int, path: Path) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise IntegrityError(f"{path}: not a private file of this user", hint="move it away")


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, offset)
        data, offset = data[done:], offset + done
