"""Opening: ciphertext in, plaintext out, any segment at any time.

Two sides, because they are two parties in stream mode:

* ``SegmentDecryptor`` (``decrypt.py``) has the file key and the ciphertext. The broker is this side.
* ``SegmentChecker`` has the digest key and the digest list. The job is this side: a GCM tag proves only that whoever
  made a segment had the file key, so whoever consumes plaintext checks its digest first (design section 4).

``OpenFile`` is both, for a direct-mode job and for recovery. Plaintext is written where the caller wants it, once.
Whatever does not verify is wiped before the error, which names the file and the segment.

The opening pipeline is ``OpenFile.read_into``. ``threads`` lanes each take the next run of segments, and for each::

    stretch               from the file, or from the one long answer to the run, into the lane's scratch memory
    decrypt_into          straight to the segment's place in the caller's buffer, no copy between
    check                 the digest, while the segment is still in the processor's cache

Reading from a file, AES-GCM and BLAKE3 all leave the interpreter alone, so two lanes keep two cores busy. What a run
costs once is paid less often by long ones, and lanes that are far apart never touch the same huge page for the first
time at once: the kernel would clear one for each, and throw one away. A store over a network is waited for: there lanes
beyond the number of cores are the read-ahead, ``fetch`` bytes of one answer pay for its latency, and while a segment is
opened the kernel receives the next. Scratch memory is one segment for each lane, whatever the size of the file.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from custody.crypto.digests import check_digest, check_segment, digest_at
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import wipe
from custody.errors import IntegrityError, UnavailableError
from custody.segments.buffers import BufferPool
from custody.segments.decrypt import SegmentDecryptor
from custody.segments.lanes import Step, run_lanes, run_unordered
from custody.segments.layout import FilePlan
from custody.segments.streams import (
    Progress,
    Reader,
    Sink,
    StillWanted,
    ignore_progress,
    named,
    naming,
    still_wanted,
    write_all,
)

__all__ = ["Give", "OpenFile", "SegmentChecker", "read_digest_list"]

Give = Callable[[int, memoryview], None]
"""Takes a segment, by its number; its memory is used again afterwards."""

_SHARES: Final = 8
"""No run is shorter than this part of the longest, where there is more: an answer of little costs a request as well."""


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
        try:
            check_segment(self._key, i, plaintext, digest_at(self._list, i))
        except IntegrityError as error:
            raise named(error, self.plan.path) from error


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
        fetch: int = 0,
    ) -> Self:
        """Open a file from its two blobs: first the digest list, then size and header. ``expected`` as above.

        ``fetch`` is how many bytes of ciphertext a run has, as for ``SegmentDecryptor``.
        """
        checker = SegmentChecker(plan, digest_key, read_digest_list(plan, digests), expected)
        return cls(SegmentDecryptor(plan, file_key, ciphertext, fetch=fetch), checker)

    def read_segment_into(self, i: int, out: memoryview) -> int:
        """Put segment ``i`` at the start of ``out``; return its length in bytes. ``IntegrityError`` after wiping it."""
        length = self._decryptor.decrypt_segment_into(i, out)
        self._checker.check(i, out[:length])
        return length

    def read_into(
        self,
        offset: int,
        out: memoryview,
        *,
        progress: Progress = ignore_progress,
        threads: int = 2,
        wanted: StillWanted = still_wanted,
    ) -> None:
        """Fill ``out`` with the plaintext from ``offset``, in bytes. Whole segments are decrypted in place, uncopied.

        Read as the module says. When this raises, ``out`` is all zeros, and the error is that of the first segment that
        is wrong, or what ``wanted`` raises while a store is waited for. ``ValueError`` for a range outside the file.
        """
        runs = self._runs(self.plan.covering(offset, len(out)), threads)
        given_up = _GivenUp(wanted)
        fill = _Fill(self, self._plain, runs, offset, out, progress, given_up.check)
        try:
            run_unordered(len(runs), [fill.work] * max(1, min(threads, len(runs))), interrupted=given_up.set)
        except BaseException:
            wipe(out)
            raise

    def pass_on(
        self,
        segments: range,
        give: Give,
        *,
        progress: Progress = ignore_progress,
        threads: int = 2,
        wanted: StillWanted = still_wanted,
    ) -> None:
        """Have ``give`` take each segment once, checked, in no order and from several threads; then wipe it.

        Some are fetched and opened while others are given, and as many are in memory as there are threads.
        """
        runs = self._runs(segments, threads)
        telling, given_up = threading.Lock(), _GivenUp(wanted)

        def work(k: int) -> None:
            with self._plain.take() as buffer:
                for i, plaintext in self.read_run(runs[k], lambda _: buffer, given_up.check):
                    give(i, plaintext)
                    with telling:
                        progress(len(plaintext))

        try:
            run_unordered(len(runs), [work] * max(1, min(threads, len(runs))), interrupted=given_up.set)
        finally:
            self._plain.trim()

    def _runs(self, segments: range, threads: int) -> Sequence[range]:
        """Cut segments into runs: long ones, but where there are few, each of ``threads`` lanes has a share."""
        most = self._decryptor.run
        run = max(1, most // _SHARES, min(most, -(-len(segments) // max(1, threads))))
        return [segments[k : k + run] for k in range(0, len(segments), run)]

    def read_run(
        self, segments: range, place: Callable[[int], memoryview], wanted: StillWanted = still_wanted
    ) -> Iterator[tuple[int, memoryview]]:
        """Put adjacent segments each at the start of ``place(i)``, checked; a wrong one is wiped before the error."""
        for i, plaintext in self._decryptor.decrypt_run(segments, place, wanted):
            self._checker.check(i, plaintext)
            yield i, plaintext

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

    @property
    def ordered(self) -> tuple[Step]:
        """Writing."""
        return (self._give,)

    def _give(self, _i: int, /) -> None:
        write_all(self.sink, self.buffer[: self.length], self.file.plan.path)
        self.progress(self.length)


class _GivenUp(threading.Event):
    """Set when the caller was interrupted: who waits for a store then is not to wait on, nor when nobody wants it."""

    def __init__(self, wanted: StillWanted) -> None:
        super().__init__()
        self._wanted = wanted

    def check(self) -> None:
        if self.is_set():
            raise UnavailableError("given up: the reader was interrupted")
        self._wanted()


class _Fill:
    """Fills the part of ``out`` that each segment has in it. All lanes share one."""

    def __init__(  # noqa: PLR0917 - one caller
        self,
        file: OpenFile,
        spare: BufferPool,
        runs: Sequence[range],
        offset: int,
        out: memoryview,
        progress: Progress,
        wanted: StillWanted,
    ) -> None:
        self._runs = runs
        self._file = file
        self._spare = spare
        self._offset = offset
        self._out = out
        self._progress = progress
        self._wanted = wanted
        self._telling = threading.Lock()

    def work(self, k: int) -> None:
        """Fetch, decrypt and check run ``k``."""
        with ExitStack() as stack:

            def place(i: int) -> memoryview:
                if (target := self._whole(i)) is not None:
                    return target
                edge = stack.enter_context(self._spare.take())  # the range begins or ends inside this segment
                stack.callback(wipe, edge)
                return edge

            for i, plaintext in self._file.read_run(self._runs[k], place, self._wanted):
                begin = i * self._file.plan.segment - self._offset  # where in ``out`` the segment begins
                start, end = max(0, begin), min(len(self._out), begin + len(plaintext))
                if end - start != len(plaintext):
                    self._out[start:end] = plaintext[start - begin : end - begin]
                with self._telling:
                    self._progress(end - start)

    def _whole(self, i: int) -> memoryview | None:
        """Return the place of a segment that lies in the range with all its bytes."""
        start = i * self._file.plan.segment - self._offset
        end = min(start + self._file.plan.segment, self._file.plan.size - self._offset)
        return self._out[start:end] if start >= 0 and end <= len(self._out) else None


def read_digest_list(plan: FilePlan, reader: Reader) -> bytes:
    """Fetch a digest list, its size checked before memory is spent on it. ``IntegrityError`` when it is another."""
    if reader.size != plan.digests_size:
        raise IntegrityError(f"{plan.path}: digest list of {reader.size} bytes instead of {plan.digests_size}")
    digest_list = bytearray(reader.size)
    with naming(f"{plan.path}: digest list"):
        reader.read_into(0, memoryview(digest_list))
    return bytes(digest_list)
