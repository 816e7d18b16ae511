"""What a witness remembers, on disk: for each log the last checkpoint that it cosigned.

::

    <directory>/lock                       held while a process uses the directory
    <directory>/<hex sha256(origin)>       the checkpoint with the log's and our own signature lines

Rolling one of these files back makes the witness sign a fork. So: one process at a time; a file is replaced whole and
durably (temporary file, fsync, rename, fsync of the directory) *before* anyone sees the signature in it; sizes only
grow; what is on disk must be what this process put there. After a failed fsync or rename nobody knows what is on disk,
so the store stays closed until a person has looked and the process starts again. What can't be seen from here is an old
copy of the whole directory put back while no process runs: never restore one from a backup.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from custody.errors import ConfigError, CustodyError, IntegrityError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import VKey, open_note
from custody.tlog.witness_protocol import LogState

__all__ = ["CheckpointStore", "Disk", "Slot", "SystemDisk", "origin_hash"]

_MAX_STORED = 64 * 1024  # bytes of a stored checkpoint; ours have three lines of signatures or so


def origin_hash(origin: str) -> str:
    """Return the name that a log has in files and URLs: hex SHA-256 of its origin (tlog-witness)."""
    return hashlib.sha256(origin.encode()).hexdigest()


class Disk(Protocol):
    """The four steps of a durable replacement. Each raises ``OSError`` and has then possibly happened all the same."""

    def write(self, path: Path, data: bytes) -> int:
        """Create or truncate ``path`` with mode 0600, write all of ``data``; return the open descriptor."""
        ...

    def sync(self, descriptor: int) -> None:
        """Make the content of an open file durable, or the names in an open directory."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target`` atomically."""
        ...


class SystemDisk:
    """The real disk."""

    def write(self, path: Path, data: bytes) -> int:
        """Create or truncate and write all."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def sync(self, descriptor: int) -> None:
        """Call fsync."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Call rename."""
        os.rename(source, target)  # noqa: PTH104 - all four steps go through one module


class Slot:
    """One log's record, while its lock is held."""

    def __init__(self, store: "CheckpointStore", name: str, time: int | None, state: LogState | None) -> None:
        self._store = store
        self._name = name
        self.state = state
        self.time = time
        """When the record was cosigned, POSIX seconds."""

    def replace(self, note: bytes, checkpoint: Checkpoint, time: int) -> None:
        """Make ``note`` the record. When this returns it is durable; when it raises, nobody may see the signature.

        Raises ``UnavailableError`` where the disk fails, ``IntegrityError`` for a smaller tree or an earlier time.
        """
        if self.state is not None and (
            checkpoint.size < self.state.size
            or (checkpoint.size == self.state.size and checkpoint.root != self.state.root)
        ):
            raise IntegrityError(f"witness: refusing to go back from size {self.state.size} to {checkpoint.size}")
        if self.time is not None and time < self.time:
            raise IntegrityError("witness: refusing to sign an earlier time than the last")
        self._store.persist(self._name, note)
        self.state, self.time = LogState(checkpoint.size, checkpoint.root), time


class CheckpointStore:
    """The records of all logs in one directory. Safe for many threads; refuses a second process."""

    def __init__(self, directory: Path, vkey: VKey, disk: Disk | None = None) -> None:
        """Open ``directory`` (it must exist) for the witness with this key.

        Raises ``ConfigError`` where another process has it, or where a record does not bear our own signature.
        """
        self._directory = directory
        self._vkey = vkey
        self._disk: Disk = disk or SystemDisk()
        self._lock = threading.Lock()
        self._failed: str | None = None
        self._records: dict[str, bytes | None] = {}  # as this process last saw or made them
        self._open_descriptors: list[int] = []
        try:
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._open_descriptors.append(lock)
            self._folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._open_descriptors.append(self._folder)
        except OSError as error:
            self.close()
            raise ConfigError(f"witness state {directory}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise ConfigError(f"witness state {directory}: another process uses it") from error

    def close(self) -> None:
        """Give the directory up; nothing is signed after that."""
        with self._lock:
            self._failed = self._failed or "closed"
            while self._open_descriptors:
                os.close(self._open_descriptors.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def failed(self) -> str | None:
        """Why the store is closed for good, or ``None`` while it works."""
        return self._failed

    def latest(self, origin: str) -> bytes | None:
        """Return the stored checkpoint of a log with its cosignature, or ``None``."""
        with self._lock:
            self._require_open()
            return self._read(origin_hash(origin))

    @contextlib.contextmanager
    def slot(self, origin: str) -> Iterator[Slot]:
        """Lock the record of a log, so that comparing and replacing it are one step.

        One lock serves all logs: replacing takes milliseconds, and a witness follows few logs.
        """
        with self._lock:
            self._require_open()
            name = origin_hash(origin)
            note = self._read(name)
            if note is None:
                yield Slot(self, name, None, None)
                return
            checkpoint, time = self._open(name, note)
            if checkpoint.origin != origin:
                raise ConfigError(f"witness state {name}: is the record of another log")
            yield Slot(self, name, time, LogState(checkpoint.size, checkpoint.root))

    def persist(self, name: str, note: bytes) -> None:
        """Replace a record durably. Only ``Slot.replace`` calls this, with the lock held."""
        temporary = self._directory / f"{name}.new"
        try:
            descriptor = self._disk.write(temporary, note)
        except OSError as error:  # for example a full disk: the old record is untouched, and later there may be room
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise UnavailableError(f"witness state: {error.strerror}") from error
        try:
            try:
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)
            self._disk.rename(temporary, self._directory / name)
            self._disk.sync(self._folder)
        except OSError as error:
            # The kernel may have dropped the pages; a second fsync would succeed and prove nothing. And after a
            # failed rename or fsync of the directory either record may be there.
            self._failed = f"{error.strerror or 'an error'} while storing a checkpoint; restart after mending the disk"
            raise UnavailableError(f"witness state: {self._failed}") from error
        self._records[name] = note

    def _require_open(self) -> None:
        """Refuse to sign, or to show a record that may hold a signature nobody should see, after a failure."""
        if self._failed:
            raise UnavailableError(f"witness state is closed: {self._failed}")

    def _read(self, name: str) -> bytes | None:
        """Read a record, and require that it is still the one that this process last read or wrote."""
        try:
            with (self._directory / name).open("rb") as file:
                note = file.read(_MAX_STORED + 1)
        except FileNotFoundError:
            note = None
        except OSError as error:
            raise UnavailableError(f"witness state {name}: {error.strerror}") from error
        if note != self._records.setdefault(name, note):
            self._failed = f"the record {name} was changed by somebody else"
            raise UnavailableError(f"witness state: {self._failed}")
        return note

    def _open(self, name: str, note: bytes) -> tuple[Checkpoint, int]:
        """Verify our own cosignature on a record: it says that the record is whole and ours."""
        try:
            opened = open_note(note, [self._vkey])
            return Checkpoint.parse(opened.text), max(time or 0 for _, time in opened.verified)
        except CustodyError as error:
            raise ConfigError(
                f"witness state {name}: does not bear the signature of {self._vkey.name}",
                hint="a damaged disk, or another key: do not delete the file, a witness without memory signs forks",
            ) from error
