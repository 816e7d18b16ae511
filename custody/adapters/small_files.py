"""Small files of people and programs: read with a limit, created once, or replaced whole.

``create`` never overwrites; ``replace`` writes a temporary file beside the target, fsyncs it and renames, so that a
reader sees the old bytes or the new ones and a crash leaves one of the two. Both have fsynced the directory when they
return. ``explain`` turns an ``OSError`` into the one line that a person can act on.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from custody.errors import ConfigError, ConflictError, CustodyError, NotFoundError, UnavailableError

__all__ = ["create", "explain", "explained", "make_directory", "read", "read_private", "replace", "sync_directory"]

_OTHERS: Final = 0o077
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for its other end.
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_KINDS: Final[dict[int, tuple[type[CustodyError], str]]] = {
    errno.ENOENT: (NotFoundError, ""),
    errno.ENOTDIR: (NotFoundError, "a part of the path is a file, not a directory"),
    errno.EEXIST: (ConflictError, "nothing is overwritten: move it away, or choose another name"),
    errno.ENOTEMPTY: (ConflictError, "nothing is overwritten: choose another name"),
    errno.EACCES: (ConfigError, "this user may not do that here: check owner and mode"),
    errno.EPERM: (ConfigError, "this user may not do that here: check owner and mode"),
    errno.EROFS: (ConfigError, "the file system is mounted read-only"),
    errno.EISDIR: (ConfigError, "a directory stands where a file is expected"),
    errno.ELOOP: (ConfigError, "a symbolic link stands where a file is expected"),
    errno.ENAMETOOLONG: (ConfigError, "choose a shorter name"),
    errno.ENOSPC: (UnavailableError, "make room on that file system, then start again"),
    errno.EDQUOT: (UnavailableError, "raise this user's quota, then start again"),
    errno.EFBIG: (UnavailableError, "raise the limit on file sizes (ulimit -f), then start again"),
    errno.EIO: (UnavailableError, "the disk fails: see the kernel's log"),
    errno.EMFILE: (UnavailableError, "raise the limit of open files (ulimit -n)"),
}


def explain(error: OSError, path: object = None) -> CustodyError:
    """Return the error to raise instead: ``PATH: what the system said``, and what to do."""
    where = error.filename if path is None else path
    said = (error.strerror or type(error).__name__).lower()
    kind, hint = _KINDS.get(error.errno or 0, (UnavailableError, ""))
    return kind(f"{os.fsdecode(where) if isinstance(where, bytes) else where}: {said}" if where else said, hint=hint)


@contextmanager
def explained(path: object = None) -> Iterator[None]:
    """Raise an ``OSError`` of the block as what it means, naming ``path``."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def read(path: Path, limit: int) -> bytes:
    """Return a regular file of at most ``limit`` bytes. ``ConfigError`` for another kind of file or a larger one."""
    return _read(path, limit, private=False)


def read_private(path: Path, limit: int) -> bytes:
    """Return the bytes of a file that only its owner may use; ``ConfigError`` where others may."""
    return _read(path, limit, private=True)


def create(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Make a file that must not exist; durable when this returns. ``ConflictError`` where it exists."""
    with explained(path):
        _write(path, data, mode)
        sync_directory(path.parent)


def replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make a file or replace it whole; durable when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        try:
            _write(temporary, data, mode)
            temporary.rename(path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
        sync_directory(path.parent)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory that may exist already, and those above it."""
    with explained(path):
        path.mkdir(mode, parents=True, exist_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, limit: int, *, private: bool) -> bytes:
    with explained(path):
        descriptor = os.open(path, _READ)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path}: not a regular file")
            if private and status.st_mode & _OTHERS:
                mode = f"{stat.S_IMODE(status.st_mode):04o}"
                raise ConfigError(f"{path}: others may use this key file (mode {mode})", hint=f"chmod 600 {path}")
            data = file.read(limit + 1)
    if len(data) > limit:
        raise ConfigError(f"{path}: larger than {limit} bytes, so not the file that is expected here")
    return data


def _write(path: Path, data: bytes | memoryview, mode: int) -> None:
    descriptor = os.open(path, _WRITE, mode)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except BaseException:
        path.unlink()  # we made it: O_EXCL
        raise
    finally:
        os.close(descriptor)
