"""Open files, each opened once for all who read it at the same time; a few stay open for those to come.

A version may have fifty thousand files, and a process a thousand descriptors. So a file that nobody reads is closed as
soon as enough others were read since.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from custody.segments.streams import StillWanted, still_wanted, waited_for

__all__ = ["Shelf"]


class _Closes(Protocol):
    def close(self) -> None: ...


_F = TypeVar("_F", bound=_Closes)

_GATES: Final = 16


@dataclass(slots=True)
class _Lent(Generic[_F]):
    file: _F
    readers: int = 0


class Shelf(Generic[_F]):
    """Files by their index in the version; ``kept`` of those that nobody reads stay open. Thread-safe."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._gates = [threading.Lock() for _ in range(_GATES)]  # one opens a file, and others wait for it
        self._files: OrderedDict[int, _Lent[_F]] = OrderedDict()  # whoever was lent least recently comes first
        self._closed = False

    @contextmanager
    def lend(self, index: int, open_file: Callable[[], _F], wanted: StillWanted = still_wanted) -> Iterator[_F]:
        """Lend a file for the length of a block; ``open_file`` opens it where it is not open. ``ValueError`` when the
        shelf is closed. What ``wanted`` raises ends the waiting for somebody else who opens it.
        """
        lent = self._find(index)
        if lent is None:
            with waited_for(self._gates[index % _GATES], wanted):
                lent = self._find(index) or self._put(index, open_file())
        try:
            yield lent.file
        finally:
            self._take_back(lent)

    def close(self) -> None:
        """Close all files, those that are lent too; nothing is lent from now on."""
        with self._lock:
            self._closed = True
            files, self._files = list(self._files.values()), OrderedDict()
        for lent in files:
            lent.file.close()

    def _find(self, index: int) -> _Lent[_F] | None:
        with self._lock:
            lent = self._files.get(index)
            if lent is not None:
                lent.readers += 1
                self._files.move_to_end(index)
            return lent

    def _put(self, index: int, file: _F) -> _Lent[_F]:
        """Lend what was opened, unless all was closed meanwhile."""
        with self._lock:
            if not self._closed:
                lent = self._files[index] = _Lent(file, 1)
                return lent
        file.close()
        raise ValueError("the files were closed")

    def _take_back(self, lent: _Lent[_F]) -> None:
        with self._lock:
            lent.readers -= 1
            idle = [index for index, found in self._files.items() if not found.readers]
            spare = [self._files.pop(index).file for index in idle[: -self._kept or None]]
        for file in spare:
            file.close()
