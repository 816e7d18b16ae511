"""Files of a session on disk: whole and checked, or not there.

Each file is written to ``<name>.custody-part`` beside its place, and renamed when every segment was checked and all is
durable. What an earlier run left there is used again as far as it is right: the digests tell. A file that is in its
place already is read and, where it is the one, left alone. Plaintext weights are nobody else's: files get mode 0600,
new directories 0700.

Small files wait for answers and for the disk more than for anything else, so several are under way at once; of large
ones, each of which keeps everything busy, there is one. Files are named by groups. Where the file system is known, one
``syncfs`` makes the parts of a group durable and another their names, instead of two fsyncs each; a crash between them
leaves parts, which the next run finds to be whole.
"""

import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from custody.adapters.file_system import can_sync_whole, sync_whole
from custody.adapters.small_files import explained
from custody.client.direct import DirectFile
from custody.client.parts import PART, Part, another, is_whole, verified
from custody.client.reading import VerifiedFile
from custody.errors import ConflictError, UnavailableError
from custody.segments.lanes import run_unordered
from custody.segments.streams import Progress, StillWanted

__all__ = ["Fetched", "Wanted", "download", "prepare"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_SMALL: Final = 1 << 20
"""Bytes of a file of which several may be under way: so their memory is bounded."""

_AT_ONCE: Final = 4
"""Files under way. A broker gives a session 16 streams, and serves each one better while all have few."""

_GROUP: Final = 128  # each stays open, and locked, until it has its name
_GROUP_SIZE: Final = 1 << 30  # bytes: whoever looks at the directory sees files come
_WORTH: Final = 4
"""Files of a group from which one sync of all is less work than two for each."""

Fetched = Callable[[str, int], None]
"""Told of each file that is in its place: its path in the version, and how many bytes did not have to be fetched."""


class Wanted(NamedTuple):
    """A file to be put below a directory: its path there, its size in bytes, and how to open it, for as long as it is
    wanted; it is closed again.
    """

    path: str
    size: int
    open: Callable[[StillWanted], VerifiedFile | DirectFile]


class _StoppedError(Exception):
    """Another file has failed; what was written of this one stays for the next run."""


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
            raise another(target)
    with explained(out):
        status = os.statvfs(out)
    free = status.f_bavail * status.f_frsize
    if free < size:
        raise UnavailableError(
            f"{out}: {size} bytes are needed, {free} are free", hint="make room, or choose another --out"
        )


def download(
    files: Sequence[Wanted],
    out: Path,
    *,
    progress: Progress,
    present: Progress,
    fetched: Fetched,
) -> None:
    """Put files into their places below ``out``, some at once; callables are told by one thread at a time.

    The first failure ends the others at their next segment, or within a second or two where they wait. Raises
    ``ConflictError`` where another file is in the place of one or another fetch has its part, and whatever reading
    raises; the parts that were checked until then stay for the next run. After a sync that failed none does: what it
    was about may never have got to the disk, and read back it would look right.
    """
    with explained(out):
        root = os.open(out, _FOLDER)  # before the first write: syncfs tells of what failed since
    try:
        for group in _groups(files):
            _Group(group, out, root, progress, present).download(fetched)
    finally:
        os.close(root)


def _groups(files: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    group: list[Wanted] = []
    size = 0
    for file in files:
        if group and (len(group) == _GROUP or size + file.size > _GROUP_SIZE):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group


class _Group:
    """Files that are fetched side by side, and named together."""

    def __init__(self, files: Sequence[Wanted], out: Path, root: int, progress: Progress, present: Progress) -> None:
        self._files = files
        self._out = out
        self._root = root
        self._device = os.fstat(root).st_dev
        self._together = len(files) >= _WORTH and can_sync_whole(root)
        self._telling = threading.Lock()
        self._progress = progress
        self._present = present
        self._hurry = threading.Event()  # something has failed, and the rest is to end
        self._large = deque(file for file in files if file.size > _SMALL)
        self._small = deque(file for file in files if file.size <= _SMALL)
        self._there: dict[str, int] = {}
        self._parts: dict[str, Part] = {}  # what is whole and has its name still to come, by path in the version

    def download(self, fetched: Fetched) -> None:
        """Fetch all, then name all."""
        count = min(_AT_ONCE, len(self._files))
        try:
            run_unordered(count, [self._fetch_some] * count, interrupted=self._hurry.set)
            self._name()
        finally:
            for part in self._parts.values():
                part.close()
        for file in self._files:
            fetched(file.path, self._there[file.path])

    def _fetch_some(self, k: int) -> None:
        """Fetch files for as long as there are any; of the large ones only the first of all threads takes some."""
        queues = [self._large, self._small] if k == 0 else [self._small]
        for queue in queues:
            while not self._hurry.is_set():
                try:
                    file = queue.popleft()
                except IndexError:
                    break
                self._fetch(file)

    def _fetch(self, wanted: Wanted) -> None:
        try:
            with closing(wanted.open(self._still_wanted)) as file:
                there = self._fetch_file(file, wanted.path)
        except BaseException as error:
            with self._telling:
                first = not self._hurry.is_set()
                self._hurry.set()
            if first or not isinstance(error, Exception):
                raise
            return  # it was told to stop, or failed as well: the first failure is told
        with self._telling:
            self._there[wanted.path] = there

    def _still_wanted(self) -> None:
        if self._hurry.is_set():
            raise UnavailableError("given up, since something else has failed")

    def _fetch_file(self, file: VerifiedFile | DirectFile, path: str) -> int:
        """Make one part whole, or find the file in its place; return how many of its bytes were there already."""
        target = _inside(self._out, path)
        if os.path.lexists(target):
            return self._find(file, target)
        part = target.with_name(target.name + PART)
        with explained(part), ExitStack() as stack:
            mine = stack.enter_context(Part(part))
            if os.path.lexists(target):  # another fetch gave it its name just now
                mine.discard_empty()
                return self._find(file, target)
            first = min(verified(file, mine.descriptor, self._still_wanted), file.plan.count - 1)
            there = file.plan.locate(first).offset
            self._tell(self._present, there)
            os.ftruncate(mine.descriptor, there)

            def give(i: int, data: memoryview) -> None:
                if self._hurry.is_set():
                    raise _StoppedError
                mine.write(data, file.plan.locate(i).offset)

            file.pass_on(first, give, lambda done: self._tell(self._progress, done), self._still_wanted)
            # A mount below is not synced with the rest.
            if not self._together or os.fstat(mine.descriptor).st_dev != self._device:
                with _doubting([mine]):
                    os.fsync(mine.descriptor)
            with self._telling:
                self._parts[path] = mine
            stack.pop_all()  # last: somebody has it all the time, who closes it
        return there

    def _find(self, file: VerifiedFile | DirectFile, target: Path) -> int:
        """Look whether what is in a file's place is the file."""
        with explained(target):
            if not is_whole(file, target, self._still_wanted):
                raise another(target)
        self._tell(self._present, file.plan.size)
        return file.plan.size

    def _tell(self, what: Progress, done: int) -> None:
        with self._telling:
            what(done)

    def _name(self) -> None:
        """Give all parts their names, each durable before its name is."""
        parts = list(self._parts.values())
        if not parts:
            return
        with explained(self._out):
            if self._together:
                with _doubting(parts):
                    sync_whole(self._root)
            for part in parts:
                part.name()
            if self._together:
                sync_whole(self._root)
            for folder in {above for part in parts for above in _folders(self._out, part.path.parent)}:
                self._sync_folder(folder)

    def _sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, _FOLDER)
        try:
            if not self._together or os.fstat(descriptor).st_dev != self._device:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _doubting(parts: Iterable[Part]) -> Iterator[None]:
    """Remove parts when their sync fails: what is in memory only would be found right, and the next sync succeed."""
    try:
        yield
    except OSError:
        for part in parts:
            with suppress(OSError):
                part.path.unlink()
        raise


def _folders(out: Path, folder: Path) -> Iterator[Path]:
    """The directories from ``folder`` up to ``out``: each may be new."""
    while folder != out:
        yield folder
        folder = folder.parent
    yield out


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
