"""Sealing: plaintext in, ciphertext and digest list out, segment by segment and file by file.

Each plaintext byte is read once and stays in one buffer: there its keyed digest is taken, and from there it is
encrypted into a second buffer, which is hashed and written. Memory is two segments a lane, whatever the size.

The segments of all files go through the same lanes, one file after the other; so a few threads are busy with one huge
file and with ten thousand small ones alike. What a file waits for at its end, an fsync or a store's answer, happens in
the background (``custody.segments.finishing``), unless the store makes all of them durable at once.

The list of segment digests is what a reader trusts. It is written beside the ciphertext and bound by the signed content
(design section 4); so somebody who keeps the file key cannot forge a segment for others.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Final

from custody.crypto.floe import OVERHEAD, Encryptor, Params
from custody.crypto.secret import SecretBytes
from custody.documents.content import File
from custody.segments.buffers import BufferPool
from custody.segments.finishing import AT_ONCE, Finishing
from custody.segments.lanes import Step, run_lanes
from custody.segments.layout import FilePlan
from custody.segments.sealing_file import SealedFile, SealingFile
from custody.segments.sealing_queue import FileToSeal, Queue, QueuedFile
from custody.segments.streams import Finished, Progress, Sink, Source, ignore_finished, ignore_progress
from custody.values import check_path

__all__ = ["LANES", "seal_file", "seal_version"]

LANES: Final = 2
"""Two cores are busy with two lanes: one writes while the other reads, encrypts and hashes (measured: ops/adr/0014)."""

_WORTH: Final = 256 << 10
"""Bytes of a segment, on average, that are worth a second lane: below, the two only take the interpreter from each
other (measured too)."""

_Take = Callable[[int], tuple[SealingFile, int]]  # says whose segment comes next, and which of that file it is
_Given = Callable[[int, int], None]  # told what has been written: segment of its file, bytes of plaintext


def seal_file(
    source: Source,
    plan: FilePlan,
    *,
    file_key: SecretBytes,
    digest_key: SecretBytes,
    ciphertext: Sink,
    digests: Sink,
    rng: Callable[[int], bytes],
    progress: Progress = ignore_progress,
    threads: int = LANES,
) -> SealedFile:
    """Seal one file: read ``plan.size`` bytes, write the FLOE ciphertext and the digest list.

    A file key encrypts one file, once: the caller derives it for a fresh vid. ``rng`` gives random bytes to any thread.
    Raises ``IntegrityError`` when the source is shorter or longer than planned, or its modification time moved while it
    was read; ``UnavailableError`` when it cannot be read or a sink is full. What was written until then is to be thrown
    away.
    """
    with Encryptor(file_key, plan.aad, Params(plan.segment), rng) as encryptor:
        file = SealingFile(plan, source, encryptor, digest_key, ciphertext, digests)
        _run(plan.count, min(plan.segment, plan.size), lambda i: (file, i), lambda _i, size: progress(size), threads)
        return file.finish()


def seal_version(
    files: Sequence[FileToSeal],
    *,
    vid: bytes,
    version_key: SecretBytes,
    segment: int,
    writer: Callable[[str], AbstractContextManager[Sink]],
    rng: Callable[[int], bytes],
    progress: Progress = ignore_progress,
    finished: Finished = ignore_finished,
    threads: int = LANES,
    ends: int = AT_ONCE,
    give_up: Callable[[], None] = lambda: None,
) -> tuple[File, ...]:
    """Seal all files of a version through ``writer`` (``Store.writer``); return them as the content lists them.

    ``vid`` is fresh, ``version_key`` the K derived with it. Writers are entered and written by one thread at a time,
    and left by another, those of ``ends`` files at once (0: where the end waits for nothing, by the same thread).
    ``give_up`` is called, from any thread, when all is in vain: writers that wait may then raise ``GivenUpError``. The
    manifest is the caller's to sign and write; without it nothing of the version is visible, whatever this leaves
    behind when it raises. Raises as ``seal_file`` for the first file that fails, and ``FormatError`` for a path that no
    content may have.
    """
    ordered = sorted(files, key=lambda file: file.path)
    if len({check_path(file.path) for file in ordered}) != len(ordered):
        raise ValueError("two files with one path")
    plans = [FilePlan(vid, index, file.size, segment, file.path) for index, file in enumerate(ordered)]
    with Finishing(threads=ends, give_up=give_up) as finishing:

        def begin(file: QueuedFile) -> None:
            file.begin(version_key, writer, rng)

        version = Queue(ordered, plans, begin, finishing, progress, finished)
        longest = max((min(plan.segment, plan.size) for plan in plans), default=0)
        count, size = sum(plan.count for plan in plans), sum(plan.size for plan in plans)
        lanes = threads if size >= count * _WORTH else 1
        _run(count, longest, version.take, version.given, lanes, aside=True, interrupted=give_up)
    return version.listed()


def _run(
    count: int,
    longest: int,
    take: _Take,
    given: _Given,
    threads: int,
    *,
    aside: bool = False,
    interrupted: Callable[[], None] = lambda: None,
) -> None:
    """Pass ``count`` segments of at most ``longest`` bytes through lanes with buffers of their own."""
    if threads < 1:
        raise ValueError("at least one thread")
    with BufferPool(longest) as plain, BufferPool(longest + OVERHEAD) as stored, ExitStack() as stack:
        lanes = [
            _Lane(take, given, stack.enter_context(plain.take()), stack.enter_context(stored.take()))
            for _ in range(max(1, min(threads, count)))
        ]
        run_lanes(count, lanes, aside=aside, interrupted=interrupted)


@dataclass(slots=True)
class _Lane:
    """One thread's part: its two buffers, and the segment it is at."""

    next: _Take
    given: _Given
    plain: memoryview
    stored: memoryview
    file: SealingFile = field(init=False)
    i: int = 0
    digest: bytes = b""

    def take(self, n: int, /) -> None:
        self.file, self.i = self.next(n)
        self.file.read(self.i, self.plain)

    def work(self, _n: int, /) -> None:
        self.digest = self.file.encrypt(self.i, self.plain, self.stored)

    @property
    def ordered(self) -> tuple[Step, Step]:
        return self._tally, self._give

    def _tally(self, _n: int, /) -> None:
        self.file.tally(self.i, self.stored)

    def _give(self, _n: int, /) -> None:
        self.given(self.i, self.file.write(self.i, self.stored, self.digest))
