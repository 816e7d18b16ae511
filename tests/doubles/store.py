"""Stores and system calls that fail when told to."""

import errno
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any, BinaryIO, Never, Protocol, TypeVar

from custody.errors import UnavailableError
from custody.ports import BlobReader, BlobWriter, Store
from custody.segments.streams import Forward, StillWanted, still_wanted

__all__ = ["Dead", "DownBlob", "Fault", "FaultyOs", "FaultyStore", "LongBlob", "MemoryBlob", "makes_a_file"]

_T = TypeVar("_T")


class Fault(Enum):
    """What happens at the chosen operation."""

    EIO = "eio"
    """It fails and has done nothing."""
    ENOSPC = "enospc"
    """The same, and every later one that needs room fails too."""
    PERSISTED = "persisted"
    """It is done, durably, and then fails: the answer was lost."""
    KILLED = "killed"
    """The process is gone: neither this nor any later operation happens, clean-up included."""


class Dead(BaseException):
    """Raised in place of a kill -9; nothing may catch it and go on."""


class MemoryBlob:
    """A blob in memory. ``reads`` records what was asked for: (offset, length)."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.reads: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        return len(self.data)

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        self.reads.append((offset, len(buffer)))
        buffer[:] = self.data[offset : offset + len(buffer)]

    def close(self) -> None:
        pass


class DownBlob(MemoryBlob):
    """A near store that answers nothing beyond the header until it is mended."""

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(data)
        self._down = True

    def mend(self) -> None:
        self._down = False

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        if offset and self._down:
            raise UnavailableError("store: it has gone")
        super().read_into(offset, buffer)


class LongBlob(MemoryBlob):
    """A blob as a store over a network has it. ``stretches`` records the answers asked for: (offset, size)."""

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(data)
        self.stretches: list[tuple[int, int]] = []

    @contextmanager
    def stretch(self, offset: int, size: int, wanted: StillWanted = still_wanted, /) -> Iterator[Forward]:
        self.stretches.append((offset, size))
        answer = io.BytesIO(self.data[offset : offset + size])

        def fill(buffer: memoryview) -> None:
            assert answer.readinto(buffer) == len(buffer)

        yield fill


def _fails(number: int, at: int | None, fault: Fault, *, needs_room: bool) -> bool:
    if at is None or number <= at:
        return number == at
    return fault is Fault.KILLED or (fault is Fault.ENOSPC and needs_room)


class FaultyStore:
    """Any store, failing at operation ``at`` (from 0; None: never). ``done`` counts operations.

    Operations: every method, every ``write`` of a writer, and the end of a writer's block.
    """

    def __init__(self, store: Store, *, at: int | None = None, fault: Fault = Fault.EIO) -> None:
        self._store = store
        self._at = at
        self._fault = fault
        self.done = 0

    def _do(self, operation: Callable[[], _T], *, needs_room: bool = False) -> _T:
        number, self.done = self.done, self.done + 1
        if not _fails(number, self._at, self._fault, needs_room=needs_room):
            return operation()
        if self._fault is Fault.KILLED:
            raise Dead
        if self._fault is Fault.PERSISTED:
            operation()
        raise UnavailableError(f"store: operation {number}: {self._fault.value}")

    def put_new(self, key: str, source: BinaryIO | bytes) -> None:
        self._do(lambda: self._store.put_new(key, source), needs_room=True)

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        for key, data in blobs.items():
            self.put_new(key, data)

    @contextmanager
    def writer(self, key: str) -> Iterator[BlobWriter]:
        with ExitStack() as stack:
            inner = stack.enter_context(self._store.writer(key))
            yield _FaultyWriter(inner, self._do)
            self._do(stack.close, needs_room=True)

    def put(self, key: str, data: bytes) -> None:
        self._do(lambda: self._store.put(key, data), needs_room=True)

    def get(self, key: str, limit: int = 16 << 20) -> bytes:
        return self._do(lambda: self._store.get(key, limit))

    def open(self, key: str) -> BlobReader:
        return self._do(lambda: self._store.open(key))

    def exists(self, key: str) -> bool:
        return self._do(lambda: self._store.exists(key))

    def list(self, prefix: str) -> Iterator[str]:
        return self._do(lambda: self._store.list(prefix))

    def delete(self, key: str, *, durable: bool = True) -> None:
        self._do(lambda: self._store.delete(key, durable=durable))

    def close(self) -> None:
        self._store.close()


class _Do(Protocol):
    def __call__(self, operation: Callable[[], None], /, *, needs_room: bool = ...) -> None: ...


class _FaultyWriter:
    def __init__(self, inner: BlobWriter, do: _Do) -> None:
        self._inner = inner
        self._do = do

    def write(self, data: bytes | memoryview, /) -> None:
        self._do(lambda: self._inner.write(data), needs_room=True)


def makes_a_file(flags: int) -> bool:
    """Whether an ``open`` with these flags makes a file, with a name or without."""
    return bool(flags & os.O_CREAT) or flags & os.O_TMPFILE == os.O_TMPFILE


class FaultyOs:
    """Stands where a module has imported ``os``, and fails at durable step ``at`` (from 0; None: never).

    Durable steps: making a file or a directory, and every write, fsync, link, rename and unlink. A write that fails
    for want of room has written half. ``steps`` names the steps that were tried, in order.
    """

    def __init__(self, *, at: int | None = None, fault: Fault = Fault.EIO) -> None:
        self._at = at
        self._fault = fault
        self.steps: list[str] = []

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in ("open", "mkdir", "write", "fsync", "link", "rename", "unlink"):
            return call

        def step(*args: Any, **options: Any) -> Any:
            if name == "open" and not makes_a_file(args[1]):
                return call(*args, **options)
            number = len(self.steps)
            self.steps.append(name)
            if not _fails(number, self._at, self._fault, needs_room=name != "unlink"):
                return call(*args, **options)
            if self._fault is Fault.KILLED:
                raise Dead
            if self._fault is Fault.PERSISTED:
                result = call(*args, **options)
                if name == "open":
                    os.close(result)
            elif self._fault is Fault.ENOSPC and name == "write":
                descriptor, data = args
                return os.write(descriptor, data[: len(data) // 2]) if len(data) > 1 else _raise(errno.ENOSPC)
            return _raise(errno.ENOSPC if self._fault is Fault.ENOSPC else errno.EIO)

        return step


def _raise(number: int) -> Never:
    raise OSError(number, os.strerror(number))
