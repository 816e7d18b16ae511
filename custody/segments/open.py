"""Opening: ciphertext in, plaintext out, any segment at any time.

Two sides, because they are two parties in stream mode:

* ``SegmentDecryptor`` has the file key and the ciphertext. The broker is this side.
* ``SegmentChecker`` has the digest key and the digest list. The job is this side: a GCM tag proves only that whoever
  made a segment had the file key, so whoever consumes plaintext checks its digest first (design section 4).

``OpenFile`` is both, for a direct-mode job and for recovery. Plaintext is written where the caller wants it, once.
Whatever does not verify is wiped before the error, which names the file and the segment.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from custody.crypto.digests import check_digest, check_segment, digest_at
from custody.crypto.floe import HEADER_SIZE, OVERHEAD, Decryptor, Params
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import wipe
from custody.errors import IntegrityError
from custody.segments.buffers import BufferPool
from custody.segments.lanes import run_lanes
from custody.segments.layout import FilePlan
from custody.segments.streams import Progress, Reader, Sink, ignore_progress, naming, write_all

__all__ = ["OpenFile", "SegmentChecker", "SegmentDecryptor", "read_digest_list"]


class SegmentDecryptor:
    """Decrypts the segments of one stored file, in any order, from any thread.

    The size of the blob and the FLOE header are checked here, before any segment: ``IntegrityError`` for a file that
    was cut or extended, for another file's header, and for a ciphertext made for two keys. ``file_key`` and ``reader``
    stay the caller's to close. ``close`` wipes the keys derived here.
    """

    def __init__(self, plan: FilePlan, file_key: SecretBytes, reader: Reader) -> None:
        self.plan = plan
        self._reader = reader
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

    def decrypt_segment_into(self, i: int, out: memoryview) -> int:
        """Decrypt segment ``i`` into the start of ``out``; return its length in bytes.

        It is what somebody with the file key encrypted, who need not be the sealer: ``SegmentChecker`` tells. Raises
        ``IntegrityError`` after wiping what was written.
        """
        where = self.plan.locate(i)
        with self._stored.take() as buffer:
            stored = buffer[: where.stored_length]
            with naming(f"{self.plan.path}: segment {i}"):
                self._reader.read_into(where.stored_offset, stored)
            with naming(self.plan.path):
                return self._decryptor.decrypt_into(i, where.is_final, stored, out)

    def close(self) -> None:
        """Wipe the keys. A segment that another thread has under way is wiped too, and raises ``ValueError`` there."""
        self._decryptor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SegmentChecker:
    """Tells whether plaintext is what the sealer sealed. Any thread may ask.

    ``expected`` is the BLAKE3 digest of the list, 64 hex digits, from the verified content: another list is refused
    here, before any segment. ``digest_key`` stays the caller's to close.
    """

    def __init__(self, plan: FilePlan, digest_key: SecretBytes, digest_list: bytes, expected: str) -> None:
        self.plan = plan
        self._key = digest_key
        self._list = digest_list
        if len(digest_list) != plan.digests_size:
            raise IntegrityError(f"{plan.path}: digest list of {len(digest_list)} bytes instead of {plan.digests_size}")
        check_digest([digest_list], bytes.fromhex(expected), f"{plan.path}: digest list")

    def check(self, i: int, plaintext: memoryview) -> None:
        """Require that ``plaintext`` is segment ``i``, whole. Wipes it (it must be writable) and raises otherwise."""
        if plaintext.readonly:
            raise ValueError("a buffer that cannot be wiped")
        if not 0 <= i < self.plan.count or len(plaintext) != self.plan.locate(i).length:
            wipe(plaintext)
            raise IntegrityError(f"{self.plan.path}: segment {i}: {len(plaintext)} bytes of plaintext")
        with naming(self.plan.path):
            check_segment(self._key, i, plaintext, digest_at(self._list, i))


class OpenFile:
    """One stored file, for whoever holds its keys: decrypted and checked. Reads may come from any thread."""

    def __init__(self, decryptor: SegmentDecryptor, checker: SegmentChecker) -> None:
        if decryptor.plan != checker.plan:
            raise ValueError("two sides of different files")
        self.plan = decryptor.plan
        self._decryptor = decryptor
        self._checker = checker
        self._plain = BufferPool(min(self.plan.segment, self.plan.size))

    @classmethod
    def open(
        cls,
        plan: FilePlan,
        *,
        expected: str,
        file_key: SecretBytes,
        digest_key: SecretBytes,
        ciphertext: Reader,
        digests: Reader,
    ) -> Self:
        """Open a file from its two blobs: first the digest list, then size and header. ``expected`` as above."""
        checker = SegmentChecker(plan, digest_key, read_digest_list(plan, digests), expected)
        return cls(SegmentDecryptor(plan, file_key, ciphertext), checker)

    def read_segment_into(self, i: int, out: memoryview) -> int:
        """Put segment ``i`` at the start of ``out``; return its length in bytes. ``IntegrityError`` after wiping it."""
        length = self._decryptor.decrypt_segment_into(i, out)
        self._checker.check(i, out[:length])
        return length

    def read_into(
        self, offset: int, out: memoryview, *, progress: Progress = ignore_progress, threads: int = 1
    ) -> None:
        """Fill ``out`` with the plaintext from ``offset``, in bytes. Whole segments are decrypted in place, uncopied.

        When this raises, ``out`` is all zeros. ``ValueError`` for a range outside the file.
        """
        segments = self.plan.covering(offset, len(out))
        lane = _RangeLane(self, self._plain, segments, offset, out, progress)
        try:
            run_lanes(len(segments), [lane] * max(1, min(threads, len(segments))))
        except BaseException:
            wipe(out)
            raise

    def copy_to(self, sink: Sink, *, progress: Progress = ignore_progress, threads: int = 2) -> None:
        """Write the whole plaintext, in order; a sink never sees an unchecked byte. ``UnavailableError`` if it is full.

        What the sink took before an error is genuine, but not the whole file: throw it away.
        """
        count = self.plan.count
        with ExitStack() as stack:
            buffers = [stack.enter_context(self._plain.take()) for _ in range(max(1, min(threads, count)))]
            run_lanes(count, [_CopyLane(self, sink, progress, buffer) for buffer in buffers])

    def close(self) -> None:
        """Wipe the keys derived here, and the plaintext in our buffers. Reads under way raise ``ValueError``."""
        self._decryptor.close()
        self._plain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class _CopyLane:
    """Decrypts and checks ahead, writes when it is this segment's turn."""

    file: OpenFile
    sink: Sink
    progress: Progress
    buffer: memoryview
    length: int = 0

    def take(self, _i: int, /) -> None:
        """Nothing: a blob can be read anywhere."""

    def work(self, i: int, /) -> None:
        self.length = self.file.read_segment_into(i, self.buffer)

    def give(self, _i: int, /) -> None:
        write_all(self.sink, self.buffer[: self.length], self.file.plan.path)
        self.progress(self.length)


@dataclass(frozen=True, slots=True)
class _RangeLane:
    """Fills the part of ``out`` that each segment has in it. Has no state, so all threads share one."""

    file: OpenFile
    spare: BufferPool
    segments: range
    offset: int
    out: memoryview
    progress: Progress

    def take(self, _k: int, /) -> None:
        """Nothing: a blob can be read anywhere."""

    def work(self, k: int, /) -> None:
        where = self.file.plan.locate(self.segments[k])
        start, end = self._span(k)
        target = self.out[start:end]
        if len(target) == where.length:
            self.file.read_segment_into(self.segments[k], target)
            return
        with self.spare.take() as buffer:  # the range begins or ends inside this segment
            self.file.read_segment_into(self.segments[k], buffer)
            skip = self.offset + start - where.offset
            target[:] = buffer[skip : skip + len(target)]

    def give(self, k: int, /) -> None:
        start, end = self._span(k)
        self.progress(end - start)

    def _span(self, k: int) -> tuple[int, int]:
        """Where in ``out`` segment ``k`` of the range belongs."""
        where = self.file.plan.locate(self.segments[k])
        start = max(0, where.offset - self.offset)
        return start, min(len(self.out), where.offset + where.length - self.offset)


def read_digest_list(plan: FilePlan, reader: Reader) -> bytes:
    """Fetch a digest list, its size checked before memory is spent on it. ``IntegrityError`` when it is another."""
    if reader.size != plan.digests_size:
        raise IntegrityError(f"{plan.path}: digest list of {reader.size} bytes instead of {plan.digests_size}")
    digest_list = bytearray(reader.size)
    with naming(f"{plan.path}: digest list"):
        reader.read_into(0, memoryview(digest_list))
    return bytes(digest_list)
