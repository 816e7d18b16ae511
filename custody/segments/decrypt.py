"""The side that has the file key: ciphertext in, plaintext out, any segment at any time, from any thread.

What comes out is what somebody with the file key encrypted. Whether that is what the sealer sealed, ``SegmentChecker``
tells (``open.py``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from custody.crypto.floe import HEADER_SIZE, OVERHEAD, Decryptor, Params
from custody.crypto.secret import SecretBytes
from custody.errors import CustodyError, FormatError, IntegrityError
from custody.segments.buffers import BufferPool
from custody.segments.layout import FilePlan
from custody.segments.streams import Forward, LongReader, Reader, StillWanted, named, naming, still_wanted, stretches

__all__ = ["Fetched", "SegmentDecryptor"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Ciphertext of segments, by their numbers; and why there is no more of it, where some did not come."""

    stored: Mapping[int, memoryview]
    error: CustodyError | None = None

    def segment(self, i: int) -> memoryview:
        """Return that of a segment, or raise what kept it from coming."""
        if i not in self.stored and self.error is not None:
            raise self.error
        return self.stored[i]


class SegmentDecryptor:
    """Decrypts the segments of one stored file, in any order, from any thread.

    The size of the blob and the FLOE header are checked here, before any segment: ``IntegrityError`` for a file that
    was cut or extended, for another file's header, and for a ciphertext made for two keys. ``file_key`` and ``reader``
    stay the caller's to close. ``close`` wipes the keys derived here.

    ``fetch`` is how many stored bytes a run has, at least one segment; a store over a network is asked for all of them
    at once.
    """

    def __init__(self, plan: FilePlan, file_key: SecretBytes, reader: Reader, *, fetch: int = 0) -> None:
        self.plan = plan
        self.run: Final = max(1, min(plan.count, fetch // (plan.segment + OVERHEAD)))
        """Segments of a run, at most."""
        self.far: Final = isinstance(reader, LongReader)
        """Whether the store is waited for: then ciphertext is best fetched ahead."""
        self._stretch = stretches(reader)
        if reader.size != plan.stored_size:
            where = plan.segment_at(min(reader.size, plan.stored_size))
            what = "is cut off" if reader.size < plan.stored_size else "is not the end"
            raise IntegrityError(
                f"{plan.path}: segment {where} {what}: {reader.size} stored bytes instead of {plan.stored_size}"
            )
        header = bytearray(HEADER_SIZE)
        with naming(plan.path):
            reader.read_into(0, memoryview(header))
            self._decryptor = Decryptor(file_key, plan.aad, Params(plan.segment), bytes(header))
        self._stored = BufferPool(min(plan.segment, plan.size) + OVERHEAD)

    def fetch(self, segments: range) -> Fetched:
        """Ask for the ciphertext of adjacent segments at once, and wait for it; nothing is decrypted.

        What went wrong with one of them, whoever wants it is told.
        """
        start, size = self._span(segments)
        memory, stored, at = memoryview(bytearray(size)), dict[int, memoryview](), 0
        try:
            with self._stretch(start, size, still_wanted) as fill:
                for i in segments:
                    place = memory[at : at + self.plan.locate(i).stored_length]
                    self._fill(fill, i, place)
                    stored[i], at = place, at + len(place)
        except CustodyError as error:
            return Fetched(stored, error)
        return Fetched(stored)

    def decrypt_segment_into(
        self, i: int, out: memoryview, fetched: Fetched | None = None, pay: Callable[[], None] = lambda: None
    ) -> int:
        """Decrypt segment ``i`` into the start of ``out``, from the store or from what was fetched; return its length.

        ``pay`` is called once the ciphertext is here, before there is plaintext; what it raises ends it. What comes out
        is what somebody with the file key encrypted, who need not be the sealer: ``SegmentChecker`` tells. Raises
        ``IntegrityError`` after wiping what was written.
        """
        if fetched is not None:
            stored = fetched.segment(i)
            pay()
            return len(self._decrypt(i, stored, out))
        start, size = self._span(range(i, i + 1))
        with self._stored.take() as buffer, self._stretch(start, size, still_wanted) as fill:
            self._fill(fill, i, stored := buffer[:size])
            pay()
            return len(self._decrypt(i, stored, out))

    def decrypt_run(
        self, segments: range, place: Callable[[int], memoryview], wanted: StillWanted = still_wanted
    ) -> Iterator[tuple[int, memoryview]]:
        """Ask for adjacent segments at once; as they come, decrypt each to the start of ``place(i)`` and yield it.

        Raises as ``decrypt_segment_into``, and what ``wanted`` raises.
        """
        start, size = self._span(segments)
        with self._stored.take() as buffer, self._stretch(start, size, wanted) as fill:
            for i in segments:
                out, stored = place(i), buffer[: self.plan.locate(i).stored_length]
                self._fill(fill, i, stored)
                yield i, self._decrypt(i, stored, out)

    def _span(self, segments: range) -> tuple[int, int]:
        """Return where the ciphertext of adjacent segments begins in the blob, and how many bytes it has."""
        start, last = self.plan.locate(segments[0]).stored_offset, self.plan.locate(segments[-1])
        return start, last.stored_offset + last.stored_length - start

    def _fill(self, fill: Forward, i: int, stored: memoryview) -> None:
        try:
            fill(stored)
        except (IntegrityError, FormatError) as error:
            raise named(error, f"{self.plan.path}: segment {i}") from error

    def _decrypt(self, i: int, stored: memoryview, out: memoryview) -> memoryview:
        """Decrypt a segment to the start of ``out``; return the part of it that it has."""
        where = self.plan.locate(i)
        try:
            self._decryptor.decrypt_into(i, where.is_final, stored, out)
        except (IntegrityError, FormatError) as error:
            raise named(error, self.plan.path) from error
        return out[: where.length]

    def trim(self) -> None:
        """Give back the memory that reading took, until somebody reads again."""
        self._stored.trim()

    def close(self) -> None:
        """Wipe the keys. A segment that another thread has under way is wiped too, and raises ``ValueError`` there."""
        self._decryptor.close()
