"""Looks for byte strings in the readable memory of a process: run as another process, so it finds nothing of itself.

    python scanner.py PID...     needles on standard input, one hex string a line

Prints one line per hit: pid, needle number, address. Needs root or CAP_SYS_PTRACE.
"""

import sys
from collections.abc import Iterator
from pathlib import Path


def regions(pid: int) -> Iterator[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="ascii").splitlines():
        span, mode, *rest = line.split()
        if mode[0] == "r" and rest[-1] not in {"[vvar]", "[vsyscall]", "[vvar_vclock]"}:
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16)


def pieces(pid: int, size: int = 8 << 20, overlap: int = 64) -> Iterator[tuple[int, bytes]]:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in regions(pid):
            position = start
            while position < end:
                try:
                    memory.seek(position)
                    data = memory.read(min(size, end - position))
                except (OSError, ValueError, OverflowError):
                    break  # a guard page or a device: not readable, so not part of the claim
                if not data:
                    break
                yield position, data
                if position + len(data) >= end:
                    break
                position += max(1, len(data) - overlap)


def find(pid: int, needles: list[bytes]) -> Iterator[tuple[int, int]]:
    for position, data in pieces(pid):
        for number, needle in enumerate(needles):
            if (at := data.find(needle)) >= 0:
                yield number, position + at


if __name__ == "__main__":
    wanted = [bytes.fromhex(line.strip()) for line in sys.stdin if line.strip()]
    for number_of_process in map(int, sys.argv[1:]):
        for number, address in find(number_of_process, wanted):
            sys.stdout.write(f"{number_of_process} {number} {address:#x}\n")
