"""Notes about seals under way, so that the next seal sweeps what a killed one left in the store.

A note is a file ``<home>/unfinished/<vid>`` that holds the store's URL, locked by its seal for as long as it lives. A
note that can be locked is of a seal that died; the blobs of its vid are nobody's, since a vid is never used twice.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from custody.adapters import small_files
from custody.ports import Store
from custody.segments.layout import manifest_key, version_prefix

__all__ = ["Unfinished", "throw_away"]

_VID: Final = re.compile(r"[0-9a-f]{64}")
_MAX: Final = 8192


def throw_away(store: Store, vid: bytes) -> None:
    """Delete what lies under a vid, the manifest first: a store may have made it visible and failed to say so."""
    store.delete(manifest_key(vid))
    for key in list(store.list(version_prefix(vid))):
        store.delete(key)


class Unfinished:
    """The notes of one home about one store."""

    def __init__(self, home: Path, url: str) -> None:
        self._directory: Final = home / "unfinished"
        self._url: Final = url

    @contextmanager
    def sealing(self, vid: str) -> Iterator[Callable[[], None]]:
        """Keep a note, locked for the length of the block; it goes when what is given is called, and stays otherwise.

        Whoever is killed calls nothing, nor does a seal whose blobs could not be deleted.
        """
        small_files.make_directory(self._directory, 0o700)
        path = self._directory / vid
        with small_files.explained(path):
            while (descriptor := self._begin(path)) is None:
                pass
        try:
            yield lambda: path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _begin(self, path: Path) -> int | None:
        """Make a note, locked and durable. None where a sweep took it for a dead one before it was locked."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_at(descriptor, path):
                os.close(descriptor)
                return None
            os.write(descriptor, self._url.encode())
            os.fsync(descriptor)
            for directory in (self._directory, self._directory.parent):
                small_files.sync_directory(directory)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor

    def sweep(self, store: Store) -> int:
        """Delete the blobs of dead seals in ``store``; return how many seals there were."""
        swept = 0
        with small_files.explained(self._directory):
            notes = [path for path in self._directory.glob("*") if _VID.fullmatch(path.name)]
        for path in notes:
            with self._dead(path) as dead:
                if not dead:
                    continue
                vid = bytes.fromhex(path.name)
                if not store.exists(manifest_key(vid)):  # it may have died right after it was done
                    throw_away(store, vid)
                    swept += 1
                path.unlink(missing_ok=True)
        return swept

    @contextmanager
    def _dead(self, path: Path) -> Iterator[bool]:
        """Tell whether a note is of this store and its seal has died; holds its lock meanwhile."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # An empty note: it died before its first blob. One that is not there any more was another sweep's, and
            # what may have its name by now is not ours to remove.
            dead = os.read(descriptor, _MAX) in (self._url.encode(), b"") and _is_at(descriptor, path)
        except OSError:
            dead = False
        try:
            yield dead
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
