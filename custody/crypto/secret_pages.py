"""Where secrets lie: anonymous private pages, mlocked where the memory limit allows it, left out of core dumps, and
zeros in a forked child.

A secret of more than 64 bytes has pages of its own. Smaller ones share them, in slots of 64 bytes: a version has two
keys for each of its files, which may be fifty thousand, and a page each would be more than may be locked. A slot is
lent again when nobody can look into it any more, and never by a child of the process that made it: what it inherits is
not locked.
"""

import ctypes
import mmap
import os
import weakref
from collections import deque
from typing import Final, NamedTuple

from custody.crypto import sodium

__all__ = ["allocate", "generation"]

_SLOT: Final = 64
_MADV_WIPEONFORK: Final = 18  # Linux 4.14; not among the constants of the mmap module


class _Slot(NamedTuple):
    pages: mmap.mmap
    locked: bool
    at: int


# Appending to a deque and taking from it are one step each for the interpreter: so neither a thread nor the collector,
# which may give back a slot at any time, meets another half-way.
_free: Final[deque[_Slot]] = deque()


class _Generation:
    """How many forks lie between this process and the first."""

    current = 0

    @classmethod
    def advance(cls) -> None:
        cls.current += 1
        _free.clear()


os.register_at_fork(after_in_child=_Generation.advance)


def generation() -> int:
    """Return the number of this process: WIPEONFORK leaves a child zeros, which are no key."""
    return _Generation.current


def allocate(size: int) -> tuple[memoryview, bool]:
    """Return ``size`` bytes for a secret, all zeros, and whether they are locked. Wipe them in the end: they are lent
    again, or given back to the system, once nothing points at them any more, no view, slice or context.
    """
    if size > _SLOT:
        pages, locked = _make(size)
        return memoryview(pages), locked
    try:
        slot = _free.pop()
    except IndexError:
        pages, locked = _make(mmap.PAGESIZE)
        slot, *others = (_Slot(pages, locked, at) for at in range(0, mmap.PAGESIZE, _SLOT))
        _free.extend(others)
    # Of every view of it, and every slice of those, the interpreter knows that it points at this array.
    array = (ctypes.c_ubyte * size).from_buffer(slot.pages, slot.at)
    weakref.finalize(array, _give_back, slot, generation()).atexit = False
    view = memoryview(array).cast("B")
    sodium.wipe(view)  # a slice of the last secret may have been written to after that was wiped
    return view, slot.locked


def _give_back(slot: _Slot, made_in: int) -> None:
    if made_in == generation():
        _free.append(slot)


def _make(size: int) -> tuple[mmap.mmap, bool]:
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_DONTDUMP)
    pages.madvise(_MADV_WIPEONFORK)
    with memoryview(pages) as whole:
        return pages, sodium.lock(whole)
