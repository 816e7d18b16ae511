"""The part of a file that is being fetched: ``<name>.custody-part`` beside its place, private, and of one fetch.

Two fetches of one file into one directory would cut off and overwrite what the other has checked, and give it its name.
So a part is locked (``flock``) from before it is looked at until it has its name. Whoever comes second is told so, also
on another machine where the file system is shared; one that knows no locks keeps nobody apart, and there it is for the
users to choose other directories.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from custody.errors import ConflictError, IntegrityError
from custody.segments.layout import FilePlan
from custody.segments.streams import StillWanted

__all__ = ["PART", "Checked", "Part", "another", "is_whole", "verified"]

PART: Final = ".custody-part"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO that lies there must not wait for its other end."""
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})


class Checked(Protocol):
    """What of a file of a session is used here."""

    plan: FilePlan

    def holds(self, i: int, plaintext: memoryview, /) -> bool:
        """Tell whether ``plaintext`` is segment ``i``."""
        ...


class Part:
    """A part that is ours. Close it, or use it as a context manager, unless it was named."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. ``IntegrityError`` for what is no private file of this user, ``ConflictError`` where
        another fetch has it, ``OSError``.
        """
        self.path = path
        self.descriptor = os.open(path, _WRITE, 0o600)
        try:
            self._require_own_file()
            self._lock()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave it to the next fetch."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of ``data``."""
        while data:
            done = os.pwrite(self.descriptor, data, offset)
            data, offset = data[done:], offset + done

    def discard_empty(self) -> None:
        """Remove it again, if it was made just now."""
        if not os.fstat(self.descriptor).st_size:
            self.path.unlink()

    def name(self) -> None:
        """Give it its name. ``ConflictError`` where there is a file of that name meanwhile."""
        target = self.path.with_name(self.path.name.removesuffix(PART))
        if os.path.lexists(target):
            raise another(target)
        self._require_in_place()
        self.path.rename(target)

    def _require_own_file(self) -> None:
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise IntegrityError(f"{self.path}: not a private file of this user", hint="move it away")

    def _lock(self) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._busy() from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        self._require_in_place()

    def _require_in_place(self) -> None:
        """Whoever had it before may have given it its name while we waited for it to open."""
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            raise self._busy() from None
        if not os.path.samestat(there, os.fstat(self.descriptor)):
            raise self._busy()

    def _busy(self) -> ConflictError:
        return ConflictError(
            f"{self.path}: another fetch is writing it", hint="wait until that has ended, or choose another --out"
        )


def another(target: Path) -> ConflictError:
    """Return what is raised for a file that is in the way."""
    return ConflictError(f"{target} exists and is another file", hint="move it away, or choose another --out")


def verified(file: Checked, descriptor: int, wanted: StillWanted) -> int:
    """Count the segments from the start that are there and right; all of them only where nothing follows."""
    whole, size = file.plan.count, os.fstat(descriptor).st_size
    if size != file.plan.size:
        whole = min(whole - 1, size // file.plan.segment)
    buffer = bytearray(min(file.plan.segment, file.plan.size))
    for i in range(whole):
        wanted()
        where = file.plan.locate(i)
        view = memoryview(buffer)[: where.length]
        if os.preadv(descriptor, [view], where.offset) != where.length or not file.holds(i, view):
            return i
    return whole


def is_whole(file: Checked, path: Path, wanted: StillWanted) -> bool:
    """Tell whether the file that is in its place is the one. ``ConflictError`` for something else than a file."""
    descriptor = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConflictError(f"{path}: not a regular file", hint="move it away, or choose another --out")
        return verified(file, descriptor, wanted) == file.plan.count
    finally:
        os.close(descriptor)
