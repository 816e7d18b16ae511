"""Memory as every contender should find it: used before."""

from pathlib import Path
from typing import Final

from custody.segments.buffers import huge_buffer

__all__ = ["touch"]

_LEFT: Final = 512 << 20
_PAGE: Final = 4096
_AT_ONCE: Final = 64 << 20


def touch(size: int) -> None:
    """Write to every page of so much memory, or of all that is free but for a rest, and give it back.

    What a virtual machine has never used its host must find first, which can take ten times as long as to use it:
    whoever is measured first would pay. What is not free was used.
    """
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemFree"].split()[0]) << 10
    memory = huge_buffer(min(size, max(0, free - _LEFT)))
    for start in range(0, len(memory), _AT_ONCE):  # between two of them a signal is heard
        pages = memory[start : start + _AT_ONCE : _PAGE]
        pages[:] = bytes(len(pages))
