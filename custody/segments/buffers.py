"""Buffers for segments on their way: made once, used again and again, wiped at the end.

Memory is the wall (design section 7): a fresh page costs more than decrypting what goes into it. So a pipeline holds a
few buffers, whatever the size of the file, and nothing is copied between them.
"""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from custody.crypto.sodium import wipe

__all__ = ["BufferPool", "huge_buffer"]


class BufferPool:
    """Buffers of ``size`` bytes, as many as are in use at once; any thread may take one.

    Each is an anonymous private mapping, left out of core dumps: plaintext passes through.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._free: list[mmap.mmap] = []
        self._closed = False

    @contextmanager
    def take(self) -> Iterator[memoryview]:
        """Lend a buffer for the length of a block. It holds whatever its last user left there."""
        with self._lock:
            if self._closed:
                raise ValueError("the buffers have been wiped")
            mapping = self._free.pop() if self._free else _make(self.size)
        try:
            yield memoryview(mapping)[: self.size]
        finally:
            self._take_back(mapping)

    def _take_back(self, mapping: mmap.mmap) -> None:
        with self._lock:
            if self._closed:
                _destroy(mapping)
            else:
                self._free.append(mapping)

    def trim(self) -> None:
        """Wipe the buffers that nobody has now and give their pages back; the next user gets fresh ones."""
        with self._lock:
            while self._free:
                _destroy(self._free.pop())

    def close(self) -> None:
        """Wipe all buffers and give their pages back; one that is lent, when it comes back."""
        with self._lock:
            self._closed = True
            while self._free:
                _destroy(self._free.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def huge_buffer(size: int) -> memoryview:
    """Return ``size`` bytes of fresh private memory, zeros, in huge pages where the kernel has them.

    Left out of core dumps. The pages go back to the system when the last view of them is gone; they are not wiped then.
    """
    mapping = _make(size)
    with suppress(OSError):  # a kernel that was built without them
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(mapping)[:size]


def _make(size: int) -> mmap.mmap:
    mapping = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.madvise(mmap.MADV_DONTDUMP)
    return mapping


def _destroy(mapping: mmap.mmap) -> None:
    with memoryview(mapping) as view:
        wipe(view)
    with suppress(BufferError):  # a slice that somebody kept; the content is gone, the pages go when the slice does
        mapping.close()
