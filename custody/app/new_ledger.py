"""Where a ledger that is made again goes: never over one that holds something, and never half of it.

SQLite: the new ledger is made in ``<file>.rebuild``, and renamed when it is whole. A write-ahead log that an older file
left beside would be replayed into the new one, so there must be none. A lock on the directory keeps two runs apart.

PostgreSQL: rows without a signed checkpoint are what an unfinished run leaves. No broker starts with them; they are
compared with the log, and the run goes on after them.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from custody.adapters.ledger_engine import mask
from custody.adapters.small_files import explained
from custody.errors import ConflictError, CustodyError, IntegrityError, UnavailableError
from custody.ports import Journal
from custody.publishing.batch import read_pieces
from custody.tlog.merkle import root_hash
from custody.tlog.reader import TileReader
from custody.tlog.tiles import TILE_WIDTH

__all__ = ["NewLedger", "new_ledger"]

_SQLITE: Final = "sqlite:///"
_BESIDE: Final = ("-wal", "-shm", "-journal")
_KEEP: Final = "move it away, with the files -wal and -shm beside it, and keep it; then run this again"
_KEEP_DATABASE: Final = "rename that database and create an empty one in its place; then run this again"

_Found = tuple[int, int, int, int] | None  # device, inode, size and mtime in ns of a file, if there is one


class NewLedger:
    """A ledger to be filled. ``journal`` holds nothing, or on PostgreSQL the first rows of the log."""

    def __init__(self, journal: Journal, finish: Callable[[], None]) -> None:
        self.journal = journal
        self._finish = finish

    def finish(self) -> None:
        """Close the journal and put it where the broker looks for it, durably. Raises ``ConflictError``."""
        self.journal.close()
        self._finish()


@contextmanager
def new_ledger(url: str, open_: Callable[[str], Journal], reader: TileReader | None) -> Iterator[NewLedger]:
    """Begin a ledger at ``url``; without ``finish`` the end of the block drops it (SQLite) or leaves it (PostgreSQL).

    ``open_`` opens a journal by URL. ``reader`` is the log, only to say how an older ledger relates to it. Raises
    ``ConflictError`` for a ledger that holds something, ``UnavailableError`` where another run is making it.
    """
    if not url.startswith(_SQLITE):
        with closing(open_(url)) as journal:
            _require_unused(journal, f"the ledger {mask(url)}", reader, _KEEP_DATABASE, may_continue=True)
            yield NewLedger(journal, lambda: None)
        return
    path = Path(url.removeprefix(_SQLITE)).resolve()
    temporary = path.with_name(f"{path.name}.rebuild")
    with _alone(path.parent):
        found = _require_no_ledger(path, lambda: open_(url), reader)
        _remove(temporary)
        try:
            with closing(open_(f"{_SQLITE}{temporary}")) as journal:
                yield NewLedger(journal, lambda: _rename(temporary, path, found))
        finally:
            _remove(temporary)


def _require_no_ledger(path: Path, open_: Callable[[], Journal], reader: TileReader | None) -> _Found:
    """Require that there is no file, or an empty ledger in it; return which file it is."""
    what = f"the ledger {path}"
    if _identity(path) is None or path.stat().st_size == 0:
        _require_nothing_beside(path)
        return _identity(path)
    try:
        with closing(open_()) as journal:
            _require_unused(journal, what, reader, _KEEP, may_continue=False)
    except IntegrityError as error:
        raise ConflictError(f"{what} is not empty: {error.message}", hint=_KEEP) from error
    _require_nothing_beside(path)
    return _identity(path)


def _require_unused(journal: Journal, what: str, reader: TileReader | None, hint: str, *, may_continue: bool) -> None:
    """Raise ``ConflictError`` for a ledger that holds entries, saying how they relate to the log's."""
    size = journal.size()
    if size == 0:
        return
    try:
        same = _common(journal, reader) if reader else 0
    except CustodyError as error:
        raise ConflictError(
            f"{what} holds {size} entries, and comparing them with this log fails: {error.message}", hint=hint
        ) from error
    if reader is None:
        raise ConflictError(f"{what} holds {size} entries", hint=hint)
    if same < min(size, reader.size):
        raise ConflictError(f"{what} holds {size} entries, and entry {same} is not the one of this log", hint=hint)
    if may_continue and journal.checkpoint() is None:
        return
    if size > reader.size or (size == reader.size and journal.checkpoint() is not None):
        raise ConflictError(
            f"{what} holds {size} entries, all {reader.size} of this log among them",
            hint="nothing is to be rebuilt: start the broker with it",
        )
    raise ConflictError(
        f"{what} is not empty: it holds the first {size} of the {reader.size} entries of this log, an older copy of it",
        hint=hint,
    )


def _common(journal: Journal, reader: TileReader) -> int:
    """Count the first entries that ledger and log share. Of pruned ones the ledger remembers their root."""
    pruned, size = journal.pruned(), min(journal.size(), reader.size)
    if pruned is None:
        begin = 0
    elif pruned.size > size:
        raise IntegrityError(f"its first {pruned.size} entries are only in a log, and this one has {reader.size}")
    elif root_hash(pruned.size, reader.hash_at) != pruned.root:
        raise IntegrityError(f"its first {pruned.size} entries are only in a log, and that is another one")
    else:
        begin = pruned.size
    for rows in read_pieces(journal, begin, size):
        index, first = divmod(rows[0].index, TILE_WIDTH)
        for row, entry in zip(rows, reader.bundle(index)[first:], strict=False):
            if row.entry != entry:
                return row.index
    return size


def _rename(temporary: Path, path: Path, found: _Found) -> None:
    """Give a finished file its name, unless something happened there meanwhile."""
    if any(_beside(temporary)):
        raise UnavailableError(f"{temporary} was not closed whole", hint="run this again")
    if _identity(path) != found:
        raise ConflictError(
            f"the ledger {path} has been made or changed meanwhile", hint="stop the broker, then run this again"
        )
    _require_nothing_beside(path)
    with explained(path):
        _sync(temporary, os.O_RDONLY)
        temporary.replace(path)
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def _require_nothing_beside(path: Path) -> None:
    for left in _beside(path):
        raise ConflictError(
            f"{left} is left of an older ledger, or a broker still runs with it",
            hint="stop the broker; move it away to where the ledger went; then run this again",
        )


def _beside(path: Path) -> Iterator[Path]:
    for suffix in _BESIDE:
        left = path.with_name(path.name + suffix)
        if left.exists():
            yield left


def _remove(path: Path) -> None:
    with explained(path):
        path.unlink(missing_ok=True)
        for left in _beside(path):
            left.unlink(missing_ok=True)


def _identity(path: Path) -> _Found:
    with explained(path):
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold a directory's lock; it goes with the process, so what a killed run left can be removed."""
    with explained(directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(f"another run is making a ledger in {directory}") from None
        yield
    finally:
        os.close(descriptor)
