"""Memory for messages, kept by the C library instead of given back after each.

A message of a mebibyte is large to glibc: it gets pages of its own, which the system must clear first, and gives them
back at once; that costs more than TLS does. What counts as large follows the program: when a larger block is freed, up
to 32 MiB, the next ones of that size come from memory that is kept, and twice as much may lie unused before some is
given back. So one block is allocated and freed here. Its pages are never touched, so it costs nothing; a program that
has chosen its own limits (``mallopt``, ``GLIBC_TUNABLES``) keeps them, and other C libraries do as they please.
"""

from typing import Final

__all__ = ["keep_memory"]

_BLOCK: Final = 16 << 20


def keep_memory() -> None:
    """Let messages be made in memory that was used before."""
    bytes(_BLOCK)
