"""A directory as a store: the key is the path below it, the blob is the file.

How a write survives a crash: the bytes go to a file without a name in the blob's own directory (``O_TMPFILE``) and are
fsynced; then ``link`` gives the file its name (it fails where the name exists; ``rename`` would replace), and the
directory is fsynced. New directories are fsynced into their parents first. So whoever dies before the link, by whatever
signal, leaves nothing. Where the file system has no such files (NFS) or forgets them (Btrfs), and where a blob is
replaced, the file is called ``.tmp-<pid>-<n>`` meanwhile; a crash leaves that, no key can name it, and ``sweep``
removes it. After an fsync that failed, the next one may succeed and prove nothing: the store then takes no more writes
for as long as the process lives (``StoppedError``). Whoever starts again writes the same blobs anew.

Blobs to which nothing leads yet may wait with all that, and be made durable together (``Settler``): one ``syncfs``
instead of two fsyncs each, where the file system is one whose ``syncfs`` is known to be as good.

How a path cannot lead outside: keys are checked, and every path is walked from one open descriptor of the root, part by
part, with O_NOFOLLOW. So a symbolic link planted inside is refused. The descriptor also pins the file system: when that
is unmounted under a running broker, writes fail instead of landing in the empty mount point.

Files have mode 0640 and directories 0750, less what the umask takes. What still is not safe: whoever may write the
directory may delete blobs and replace them whole. The digests in the signed content catch what was replaced.
"""

import errno
import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final

from custody.adapters.file_system import can_sync_whole, keeps_nameless, sync_whole
from custody.adapters.local_files import (
    READ,
    Draft,
    LocalBlob,
    LocalWriter,
    check_part,
    discard_draft,
    explained,
    is_part,
    link_draft,
    reason,
    split_key,
)
from custody.adapters.whole_blobs import read_whole
from custody.errors import (
    ConfigError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    StoppedError,
)

__all__ = ["LocalStore"]

_CHUNK: Final = 1 << 20
_DAY: Final = 24 * 3600
_TEMPORARY: Final = ".tmp-"
_SYNCERS: Final = 16  # files that are synced at the same time: the file system makes one commit of them
_SYNCED: Final = 4  # files for which a thread more is worth its while: the first sync carries most of the next ones
_AT_ONCE: Final = 128  # files of one call that are open

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS: Final = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
_NO_NAMELESS: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR})  # what a file system says that has no such files


class _Turn:
    """Whose turn it is to sync a directory: how many have ``asked``, and up to which of them it is ``done``."""

    __slots__ = ("asked", "counting", "done", "syncing")

    def __init__(self) -> None:
        self.asked = self.done = 0
        self.counting, self.syncing = threading.Lock(), threading.Lock()


class LocalStore:
    """``Store`` over a directory that exists. It is not made here: a disk that is not mounted would go unnoticed.

    Thread-safe; several processes may share the directory. ``ConfigError`` when ``root`` is no directory.
    """

    def __init__(self, root: Path) -> None:
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"store {root}: {reason(error)}", hint=f"mkdir -m 750 {root}") from error
        self._settles = can_sync_whole(self._root)
        self._device = os.fstat(self._root).st_dev
        self._finalizer = weakref.finalize(self, os.close, self._root)
        self._numbers = count()
        self._syncers = ThreadPoolExecutor(_SYNCERS, thread_name_prefix="sync")
        self._stopped = ""
        self._turns: dict[str, _Turn] = {}
        self._durable: set[str] = set()  # directories that this process has fsynced into their parents
        self._nameless = os.access("/proc/self/fd", os.X_OK)  # whence a file without a name is linked

    def close(self) -> None:
        """Give up the directory. A second call does nothing; blobs that are open stay open."""
        self._finalizer()
        self._root = -1
        self._syncers.shutdown(wait=False)

    def put_new(self, key: str, source: BinaryIO | bytes) -> None:
        """See ``Store.put_new``. ``source`` is read to its end in pieces of 1 MiB."""
        with self._write(key, replace=False) as writer:
            if isinstance(source, bytes):
                writer.write(source)
                return
            while piece := source.read(_CHUNK):
                writer.write(piece)

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """See ``Store.put_all``. Files are synced side by side, and each directory once."""
        waiting = list(blobs.items())
        for start in range(0, len(waiting), _AT_ONCE):
            self._put_some(waiting[start : start + _AT_ONCE])

    def _put_some(self, blobs: Sequence[tuple[str, bytes]]) -> None:
        self._require_writable()
        with ExitStack() as stack:
            directories: dict[str, int] = {}
            named: dict[int, bool] = {}
            drafts = []
            for key, data in blobs:
                *folders, name = split_key(key)
                with explained(key):
                    if (directory := directories.get(folder := "/".join(folders))) is None:
                        directory = stack.enter_context(self._folder(folders, create=True))
                        directories[folder] = directory
                        named[directory] = not keeps_nameless(directory)
                    temporary, file = self._temporary(directory, named=named[directory])
                stack.callback(discard_draft, directory, temporary, file)
                LocalWriter(file, key).write(data)
                drafts.append(Draft(key, directory, file, temporary, name))
            threads = min(_SYNCERS, -(-len(drafts) // _SYNCED))
            self._side_by_side([partial(self._sync_drafts, drafts[k::threads]) for k in range(threads)])
            for draft in drafts:
                with explained(draft.key):
                    if not link_draft(draft.directory, draft.temporary, draft.name, draft.file, self._sync):
                        raise ConflictError(f"store: {draft.key} exists with other content")
            self._side_by_side([partial(self._sync_folder, *item) for item in directories.items()])

    def _side_by_side(self, syncs: Sequence[Callable[[], None]]) -> None:
        """Do all in threads. Raises when the last has ended, for what they sync is closed then."""
        begun = [self._syncers.submit(sync) for sync in syncs]
        wait(begun)
        for sync in begun:
            sync.result()

    def _sync_drafts(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            with explained(draft.key):
                self._sync(draft.file, thrown_away=True)

    def _sync_folder(self, path: str, directory: int) -> None:
        with explained(path):
            self._sync_names(path, directory)

    def writer(self, key: str) -> AbstractContextManager[LocalWriter]:
        """See ``Store.writer``."""
        return self._write(key, replace=False)

    @property
    def settles(self) -> bool:
        """See ``Settler.settles``."""
        return self._settles

    def unsettled_writer(self, key: str) -> AbstractContextManager[LocalWriter]:
        """See ``Settler.unsettled_writer``. Where the file system is none that we know, it is settled at once."""
        return self._write(key, replace=False, settled=not self._settles)

    def settle(self) -> None:
        """See ``Settler.settle``: one sync of the file system, instead of two for each blob."""
        self._require_writable()
        if self._settles:
            with explained("the file system"):
                self._sync(self._root, how=sync_whole)

    def put(self, key: str, data: bytes) -> None:
        """See ``Store.put``."""
        with self._write(key, replace=True) as writer:
            writer.write(data)

    def get(self, key: str, limit: int = 16 << 20) -> bytes:
        """See ``Store.get``."""
        return read_whole(self.open(key), key, limit)

    def open(self, key: str) -> LocalBlob:
        """See ``Store.open``."""
        *folders, name = split_key(key)
        with explained(key):
            try:
                with self._folder(folders) as directory:
                    return LocalBlob(os.open(name, READ, dir_fd=directory), key)
            except FileNotFoundError:
                raise NotFoundError(f"store: there is no {key}") from None

    def exists(self, key: str) -> bool:
        """See ``Store.exists``."""
        *folders, name = split_key(key)
        with explained(key):
            try:
                with self._folder(folders) as directory:
                    mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return False
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise IntegrityError(f"store: {key} is not a regular file")
        return stat.S_ISREG(mode)

    def list(self, prefix: str) -> Iterator[str]:
        """See ``Store.list``. Links, and names that are no part of a key (``lost+found``), are passed over."""
        *folders, start = prefix.split("/")
        for part in [*folders, start] if start else folders:
            check_part(part, prefix)
        return self._walk(folders, prefix)

    def delete(self, key: str, *, durable: bool = True) -> None:
        """See ``Store.delete``. Directories stay."""
        self._require_writable()
        *folders, name = split_key(key)
        with explained(key), suppress(FileNotFoundError), self._folder(folders) as directory:
            with suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=directory)
            if durable:
                self._sync(directory)  # also where nothing was there: who removed it may have crashed before this

    def sweep(self, now: int, age: int = _DAY) -> int:
        """Remove temporary files untouched for ``age`` seconds before ``now``; return how many. For a start-up."""
        with explained("temporary files"):
            return self._sweep([], now - age)

    @contextmanager
    def _folder(self, folders: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Open a directory below the root, made durably if asked to."""
        # A description of its own: a duplicate of the root's descriptor would share its position while listing.
        directory = os.open(".", _DIRECTORY, dir_fd=self._root)
        try:
            for depth, part in enumerate(folders, start=1):
                path = "/".join(folders[:depth])
                if create and path not in self._durable:
                    self._make(directory, part, path)
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=directory)
                except FileNotFoundError:
                    if not create:
                        raise
                    self._make(directory, part, path)  # somebody has removed what we made
                    below = os.open(part, _DIRECTORY, dir_fd=directory)
                except NotADirectoryError:
                    if not create and stat.S_ISREG(os.stat(part, dir_fd=directory, follow_symlinks=False).st_mode):
                        raise FileNotFoundError from None  # below a blob there is nothing
                    raise
                os.close(directory)
                directory = below
            yield directory
        finally:
            os.close(directory)

    def _make(self, directory: int, part: str, path: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(part, 0o750, dir_fd=directory)
        self._sync(directory)  # also where it existed: who made it may have crashed before this
        self._durable.add(path)

    def _sync_names(self, path: str, directory: int) -> None:
        """Make the names in a directory durable. Those who come while an fsync runs share the next one."""
        turn = self._turns.setdefault(path, _Turn())
        with turn.counting:
            turn.asked += 1
            mine = turn.asked
        with turn.syncing:
            if turn.done < mine:
                asked = turn.asked
                self._require_writable()  # the fsync of another may have failed meanwhile
                self._sync(directory)
                turn.done = asked

    def _sync(self, descriptor: int, *, thrown_away: bool = False, how: Callable[[int], None] | None = None) -> None:
        """Make durable. A full disk says so here at the latest, which is no doubt about a file that is thrown away."""
        try:
            (how or os.fsync)(descriptor)
        except OSError as error:
            self._doubt(error, thrown_away=thrown_away)
            raise

    def _doubt(self, error: OSError, *, thrown_away: bool) -> None:
        if not (thrown_away and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            self._stopped = reason(error)

    def _require_writable(self) -> None:
        if self._stopped:
            raise StoppedError(
                f"store: takes no more writes after an fsync that failed: {self._stopped}",
                hint="look at the disk under the store, then start again",
            )

    @contextmanager
    def _write(self, key: str, *, replace: bool, settled: bool = True) -> Iterator[LocalWriter]:
        """Make a temporary file, and publish it under ``key`` when the block ends well; durably, if ``settled``."""
        self._require_writable()
        *folders, name = split_key(key)
        with ExitStack() as stack:
            with explained(key):
                directory = stack.enter_context(self._folder(folders, create=True))
                temporary, file = self._temporary(directory, named=replace or not keeps_nameless(directory))
            stack.callback(discard_draft, directory, temporary, file)
            writer = LocalWriter(file, key)
            stack.callback(writer.end)
            try:
                yield writer
                with explained(key):
                    if writer.lost is not None:  # whoever was told of it has gone on all the same
                        raise writer.lost
            finally:
                if writer.lost is not None:
                    self._doubt(writer.lost, thrown_away=True)
            with explained(key):
                settled = settled or os.fstat(file).st_dev != self._device  # a mount below the root: not synced with it
                if settled:
                    self._sync(file, thrown_away=True)
                else:
                    writer.hurry()
                if replace:
                    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                elif not link_draft(directory, temporary, name, file, self._sync):
                    raise ConflictError(f"store: {key} exists with other content")
                # If this fails the blob stays visible: another reader may rely on it. Who starts again and asks again
                # gets it durable.
                if settled:
                    self._sync_names("/".join(folders), directory)

    def _temporary(self, directory: int, *, named: bool) -> tuple[str, int]:
        """Make a file to be filled; its name is empty where it has none."""
        if not named and self._nameless:
            try:
                return "", os.open(".", _NAMELESS, 0o640, dir_fd=directory)
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    raise
                self._nameless = False
        while True:  # another process may have our number: in containers everybody is pid 1
            name = f"{_TEMPORARY}{os.getpid()}-{next(self._numbers)}"
            with suppress(FileExistsError):
                return name, os.open(name, _CREATE, 0o640, dir_fd=directory)

    def _walk(self, folders: Sequence[str], prefix: str) -> Iterator[str]:
        base = "".join(f"{part}/" for part in folders)
        for name in self._names(folders):
            if not f"{base}{name}".startswith(prefix):
                continue
            if name.endswith("/"):
                yield from self._walk([*folders, name[:-1]], prefix)
            else:
                yield base + name

    def _names(self, folders: Sequence[str]) -> Sequence[str]:
        """List a directory in the order of keys, which is that of names when a directory's ends with its slash."""
        names = []
        with (
            explained("/".join(folders)),
            suppress(FileNotFoundError),
            self._folder(folders) as directory,
            os.scandir(directory) as entries,
        ):
            for entry in entries:
                if is_part(entry.name) and entry.is_dir(follow_symlinks=False):
                    names.append(f"{entry.name}/")
                elif is_part(entry.name) and entry.is_file(follow_symlinks=False):
                    names.append(entry.name)
        return sorted(names)

    def _sweep(self, folders: Sequence[str], before: int) -> int:
        removed, below = 0, []
        with suppress(FileNotFoundError), self._folder(folders) as directory, os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                elif entry.name.startswith(_TEMPORARY):
                    with suppress(FileNotFoundError):  # its writer was not dead and has just finished
                        if entry.stat(follow_symlinks=False).st_mtime < before:
                            os.unlink(entry.name, dir_fd=directory)
                            removed += 1
        return removed + sum(self._sweep([*folders, name], before) for name in below)
