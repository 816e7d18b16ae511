"""What the pipelines read from and write to. Files, a store's blobs and a network stream all fit."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Lock
from typing import Final, Protocol, runtime_checkable

from custody.errors import FormatError, IntegrityError, UnavailableError

__all__ = [
    "Finished",
    "Forward",
    "LongReader",
    "Progress",
    "Reader",
    "Sink",
    "Source",
    "StillWanted",
    "explained",
    "ignore_finished",
    "ignore_progress",
    "named",
    "naming",
    "read_full",
    "still_wanted",
    "stretches",
    "waited_for",
    "write_all",
]

_LOOK: Final = 1.0
"""Seconds after which whoever waits for a lock asks whether it is still worth it."""


class Source(Protocol):
    """Plaintext to be read forward, such as ``open(path, "rb", buffering=0)``."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read up to ``len(buffer)`` bytes; 0 at the end."""
        ...


class Sink(Protocol):
    """Bytes to be appended to; blocking."""

    def write(self, data: memoryview, /) -> int | None:
        """Take bytes and say how many; None means all of them. The buffer is reused afterwards."""
        ...


class Reader(Protocol):
    """Bytes to be read anywhere, by many threads: a store's ``BlobReader``."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """Fill the whole buffer, or raise ``IntegrityError`` or ``UnavailableError``."""
        ...


Forward = Callable[[memoryview], None]
"""Fills the whole buffer with the bytes that come next, or raises as ``Reader.read_into``."""


StillWanted = Callable[[], None]
"""Raises when what is waited for is not wanted any more; asked again and again while somebody waits."""


def still_wanted() -> None:
    """Want it for as long as it takes."""


@contextmanager
def waited_for(lock: Lock, wanted: StillWanted) -> Iterator[None]:
    """Hold a lock for the length of a block. Whoever has it may wait for a network; ``wanted`` ends our waiting."""
    while not lock.acquire(timeout=_LOOK):
        wanted()
    try:
        yield
    finally:
        lock.release()


@runtime_checkable
class LongReader(Reader, Protocol):
    """A reader that pays for the way to its bytes, and so rather answers once and at length: a store over a network."""

    def stretch(self, offset: int, size: int, wanted: StillWanted, /) -> AbstractContextManager[Forward]:
        """Ask for ``size`` bytes from ``offset`` on at once, to be taken in order, piece by piece, by one thread. What
        ``wanted`` raises ends the waiting, within a second or two.
        """
        ...


def stretches(reader: Reader) -> Callable[[int, int, StillWanted], AbstractContextManager[Forward]]:
    """Return what takes stretches of any reader, as ``LongReader.stretch`` does; others are asked for each piece."""
    # Asked once for all segments: a protocol takes its time to say whether somebody keeps it.
    return reader.stretch if isinstance(reader, LongReader) else partial(_pieces, reader)


@contextmanager
def _pieces(reader: Reader, offset: int, _size: int, _wanted: StillWanted) -> Iterator[Forward]:
    at = offset

    def fill(buffer: memoryview) -> None:
        nonlocal at
        reader.read_into(at, buffer)
        at += len(buffer)

    yield fill


Progress = Callable[[int], None]
"""Told after each segment how many plaintext bytes of it were wanted, by one thread at a time."""


Finished = Callable[[str], None]
"""Told the path of each file that is done, by one thread at a time."""


def ignore_progress(_done: int, /) -> None:
    """Tell nobody."""


def ignore_finished(_path: str, /) -> None:
    """Tell nobody."""


@contextmanager
def explained(path: str, what: str) -> Iterator[None]:
    """Turn the ``OSError`` of a plain file into ``UnavailableError``."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{path}: {what}: {(error.strerror or type(error).__name__).lower()}") from error


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the file's name in front of what is wrong with it."""
    try:
        yield
    except (IntegrityError, FormatError) as error:
        raise named(error, where) from error


def named(error: IntegrityError | FormatError, where: str) -> IntegrityError | FormatError:
    """Return an error with the file's name in front. For what is done with every segment: a block costs more."""
    return type(error)(f"{where}: {error.message}", hint=error.hint)


def read_full(source: Source, buffer: memoryview, path: str) -> int:
    """Fill ``buffer`` by as many reads as it takes; return how many bytes there were before the source ended."""
    done = 0
    while done < len(buffer):
        with explained(path, "cannot be read"):
            got = source.readinto(buffer[done:])
        if got is None:
            raise ValueError("the source does not block")
        if got == 0:
            break
        done += got
    return done


def write_all(sink: Sink, data: memoryview, path: str) -> None:
    """Write all of ``data``; a raw file may take less than it is given."""
    while data:
        with explained(path, "cannot be written"):
            taken = sink.write(data)
        data = data[len(data) if taken is None else taken :]
