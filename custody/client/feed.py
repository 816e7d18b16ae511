"""Segments of one file, in order, into the caller's memory, across broken connections.

A stream is asked for in pieces of at most 128 MiB, so that each has a deadline. When it breaks, the next one begins at
the segment that did not arrive whole: what arrived is not fetched again. Plaintext is copied once, from the message to
where the caller wants it; it is not checked here.
"""

from collections.abc import Generator, Iterator
from typing import Final

from custody.client.live import Live
from custody.errors import DeniedError, IntegrityError, UnavailableError
from custody.segments.layout import FilePlan
from custody.segments.streams import StillWanted
from custody.wire.pieces import Piece

__all__ = ["Feed", "fill"]

_AT_ONCE: Final = 128 << 20  # bytes


class Feed:
    """Fetches ``segments`` of a file in rising order, for as long as they are wanted. One thread uses it; close it."""

    def __init__(self, live: Live, plan: FilePlan, segments: range, wanted: StillWanted) -> None:
        self._live = live
        self._wanted = wanted
        self._plan = plan
        self._end = segments.stop
        self._pieces: Generator[Piece, None, None] | None = None
        self._next = 0
        self._until = 0

    def fetch(self, i: int, out: memoryview) -> None:
        """Fill ``out`` with segment ``i``, whole. Raises what ends the session's patience."""
        if not out:
            return  # an empty file has one segment of no bytes
        trouble = self._live.trouble(self._wanted)
        while True:
            generation = self._live.generation
            try:
                fill(self._from(i), i, out)
            except StopIteration:
                error: UnavailableError | DeniedError = UnavailableError(
                    f"{self._plan.path}: the stream ended too early"
                )
            except (UnavailableError, DeniedError) as failure:
                error = failure
            except BaseException:
                self.close()
                raise
            else:
                self._next = i + 1
                if self._next == self._until:
                    self.close()
                return
            self.close()
            self._live.recover(error, generation, trouble, len(out))

    def close(self) -> None:
        """Give up the stream, if there is one."""
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            pieces.close()

    def _from(self, i: int) -> Iterator[Piece]:
        if self._pieces is not None and self._next != i:
            self.close()  # segments between were at hand already
        if self._pieces is None:
            count = min(max(1, _AT_ONCE // self._plan.segment), self._end - i)
            self._until = i + count
            self._pieces = self._live.stream(self._plan.index, i, count)
        return self._pieces


def fill(pieces: Iterator[Piece], i: int, out: memoryview) -> None:
    """Put the pieces of segment ``i`` together in ``out``.

    Raises ``IntegrityError`` for pieces of another segment, out of order, or too long; ``StopIteration`` where there
    are too few.
    """
    done = 0
    while done < len(out):
        piece = next(pieces)
        data = piece.data
        if piece.segment != i or piece.offset != done or not 0 < len(data) <= len(out) - done:
            raise IntegrityError(
                f"segment {i}: the broker sent {len(data)} bytes of segment {piece.segment} at offset {piece.offset}"
            )
        out[done : done + len(data)] = data
        done += len(data)
