"""Reading many small files of few directories: a published log.

Where ``LocalStore`` opens each directory on the way for each file, a ``LocalReader`` keeps those open that it used
last. It follows no links either, and reads regular files only. A directory that is exchanged for another meanwhile goes
unnoticed: that is for logs, whose files never change, and whose reader believes nothing.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from custody.adapters.local_files import check_part, meaning, split_key
from custody.adapters.store_local import LocalStore
from custody.errors import IntegrityError, NotFoundError

__all__ = ["LocalReader"]

_OPEN: Final = 64
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a FIFO must not wait


class LocalReader:
    """The files below ``root``, by key as in ``LocalStore``. Not thread-safe. ``ConfigError`` for no directory."""

    def __init__(self, root: Path) -> None:
        self._store = LocalStore(root)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folders: OrderedDict[str, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the directories."""
        for descriptor in (*self._folders.values(), self._root):
            os.close(descriptor)
        self._folders.clear()
        self._store.close()

    def get(self, key: str, limit: int) -> bytes:
        """Return the bytes of a file. ``NotFoundError``; ``IntegrityError`` for no regular file or a larger one."""
        folder, _, name = key.rpartition("/")
        check_part(name, key)
        try:
            file = os.open(name, _READ, dir_fd=self._folder(folder))
        except FileNotFoundError:
            raise NotFoundError(f"store: there is no {key}") from None
        except OSError as error:
            raise meaning(error, key) from error
        try:
            return _read(file, key, limit)
        except OSError as error:
            raise meaning(error, key) from error
        finally:
            os.close(file)

    def list(self, prefix: str) -> Iterable[str]:
        """Yield the keys that begin with ``prefix``."""
        return self._store.list(prefix)

    def _folder(self, name: str) -> int:
        """Return an open directory. ``FileNotFoundError`` where there is none."""
        if not name:
            return self._root
        found = self._folders.get(name)
        if found is None:
            *_, last = split_key(name)
            found = self._folders[name] = os.open(last, _DIRECTORY, dir_fd=self._folder(name.rpartition("/")[0]))
        self._folders.move_to_end(name)
        if len(self._folders) > _OPEN:
            os.close(self._folders.popitem(last=False)[1])
        return found


def _read(file: int, key: str, limit: int) -> bytes:
    info = os.fstat(file)
    if stat.S_ISDIR(info.st_mode):
        raise NotFoundError(f"store: there is no {key}")
    if not stat.S_ISREG(info.st_mode):
        raise IntegrityError(f"store: {key} is not a regular file")
    if info.st_size > limit:
        raise IntegrityError(f"store: {key} has {info.st_size} bytes, more than the {limit} it may have")
    data = os.read(file, info.st_size + 1)
    while len(data) < info.st_size:
        piece = os.read(file, info.st_size - len(data))
        if not piece:
            raise IntegrityError(f"store: {key} ends at byte {len(data)}")
        data += piece
    return data
