"""Plaintext of one file, checked before anybody sees it.

::

    the calling thread:   fetch 0 | fetch 1 | fetch 2 | ...
    a helper thread:                check 0 | check 1 | ...        then written, where it goes to a file

Whole segments are fetched straight into the caller's buffer. A range that begins or ends inside a segment fetches that
segment aside, and keeps it a while: the next range often begins where this one ended, and a byte that is sent twice
counts twice in the lease.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from typing import Final

from custody.client.feed import Feed
from custody.client.live import Live
from custody.crypto.sodium import wipe
from custody.errors import CustodyError, FormatError, IntegrityError
from custody.segments.buffers import BufferPool
from custody.segments.lanes import helping
from custody.segments.layout import FilePlan
from custody.segments.open import SegmentChecker
from custody.segments.streams import Progress, StillWanted, ignore_progress, still_wanted

__all__ = ["Kept", "VerifiedFile"]

_AHEAD: Final = 3
"""Segments fetched ahead of the check."""


class Kept:
    """Checked segments that were needed in part only, the most recent ones; wiped when they go. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._closed = False
        self._lock = threading.Lock()
        self._segments: OrderedDict[tuple[int, int], bytearray] = OrderedDict()

    def copy(self, file: int, segment: int, skip: int, out: memoryview) -> bool:
        """Copy from a segment that is kept; tell whether it was."""
        with self._lock:
            found = self._segments.get((file, segment))
            if found is None:
                return False
            self._segments.move_to_end((file, segment))
            out[:] = memoryview(found)[skip : skip + len(out)]
            return True

    def put(self, file: int, segment: int, data: bytearray) -> None:
        """Keep a checked segment; takes it over. After ``close`` it is wiped."""
        with self._lock:
            if self._closed:
                wipe(data)
                return
            old = self._segments.pop((file, segment), None)
            if old is not None:
                self._forget(old)
            self._segments[file, segment] = data
            self._size += len(data)
            while self._size > self._most and len(self._segments) > 1:
                self._forget(self._segments.popitem(last=False)[1])

    def close(self) -> None:
        """Wipe everything."""
        with self._lock:
            self._closed = True
            while self._segments:
                self._forget(self._segments.popitem()[1])

    def _forget(self, data: bytearray) -> None:
        wipe(data)
        self._size -= len(data)


class VerifiedFile:
    """One file of a session. Reads may come from any thread."""

    def __init__(self, live: Live, plan: FilePlan, checker: SegmentChecker, kept: Kept) -> None:
        self.plan = plan
        self._live = live
        self._checker = checker
        self._kept = kept
        self._spare = BufferPool(min(plan.segment, plan.size))

    def read_into(
        self,
        offset: int,
        out: memoryview,
        progress: Progress = ignore_progress,
        wanted: StillWanted = still_wanted,
    ) -> None:
        """Fill ``out`` from byte ``offset`` of the file. When this raises, ``out`` is all zeros.

        ``FormatError`` for a range outside the file; what ``wanted`` raises ends the waiting for the broker.
        """
        if offset < 0 or offset + len(out) > self.plan.size:
            raise FormatError(f"{self.plan.path}: bytes {offset} to {offset + len(out)} asked, it has {self.plan.size}")
        try:
            self._read(offset, out, progress, wanted)
        except BaseException:
            wipe(out)
            raise

    def pass_on(
        self,
        first: int,
        give: Callable[[int, memoryview], None],
        progress: Progress = ignore_progress,
        wanted: StillWanted = still_wanted,
    ) -> None:
        """Fetch and check every segment from ``first`` on; ``give`` gets each once, in order, in a helper thread."""

        def work(i: int, buffer: memoryview) -> None:
            self._checker.check(i, buffer)
            give(i, buffer)
            progress(len(buffer))

        segments = range(first, self.plan.count)
        with ExitStack() as stack:
            buffers = [stack.enter_context(self._spare.take()) for _ in range(min(_AHEAD, max(1, len(segments))))]
            count = len(buffers)
            self._pump(segments, lambda i: buffers[i % count][: self.plan.locate(i).length], work, count, wanted)

    def holds(self, i: int, plaintext: memoryview) -> bool:
        """Tell whether ``plaintext`` is segment ``i``; wipes it where it is not."""
        try:
            self._checker.check(i, plaintext)
        except IntegrityError:
            return False
        return True

    def close(self) -> None:
        """Wipe the spare buffers."""
        self._spare.close()

    def _read(self, offset: int, out: memoryview, progress: Progress, wanted: StillWanted) -> None:
        segments = self.plan.covering(offset, len(out))
        whole = [i for i in segments if self._inside(i, offset, out)]
        first, last = (whole[0], whole[-1] + 1) if whole else (segments.stop, segments.stop)
        for i in range(segments.start, min(first, segments.stop)):
            self._part(i, offset, out, progress, wanted)

        def work(i: int, buffer: memoryview) -> None:
            self._checker.check(i, buffer)
            progress(len(buffer))

        if whole:
            self._pump(range(first, last), lambda i: self._target(i, offset, out), work, _AHEAD, wanted)
            for i in range(last, segments.stop):
                self._part(i, offset, out, progress, wanted)

    def _pump(
        self,
        segments: range,
        buffer: Callable[[int], memoryview],
        work: Callable[[int, memoryview], None],
        ahead: int,
        wanted: StillWanted,
    ) -> None:
        """Fetch here, work in a helper thread, at most ``ahead`` segments apart. Ends with no work under way."""
        pending: deque[Future[int]] = deque()

        def done(i: int, target: memoryview, fetched: int) -> int:
            work(i, target)
            return fetched

        feeding = closing(Feed(self._live, self.plan, segments, wanted))
        with helping("custody-check") as helper, feeding as feed:
            try:
                for i in segments:
                    if len(pending) == ahead:
                        self._live.delivered(pending.popleft().result())
                    target = buffer(i)
                    if self._kept.copy(self.plan.index, i, 0, target):
                        pending.append(helper.submit(done, i, target, 0))
                    else:
                        feed.fetch(i, target)
                        pending.append(helper.submit(done, i, target, len(target)))
                while pending:
                    self._live.delivered(pending.popleft().result())
            except BaseException:
                # What has arrived was paid for: it is checked, and counts, whatever ended the rest.
                for future in pending:
                    with suppress(CustodyError):
                        self._live.delivered(future.result())
                raise

    def _part(self, i: int, offset: int, out: memoryview, progress: Progress, wanted: StillWanted) -> None:
        """Fill the part of ``out`` that lies in a segment of which only a part is wanted."""
        where = self.plan.locate(i)
        start = max(0, where.offset - offset)
        end = min(len(out), where.offset + where.length - offset)
        skip = offset + start - where.offset
        if not self._kept.copy(self.plan.index, i, skip, out[start:end]):
            data = bytearray(where.length)
            with closing(Feed(self._live, self.plan, range(i, i + 1), wanted)) as feed:
                feed.fetch(i, memoryview(data))
            self._checker.check(i, memoryview(data))
            self._live.delivered(len(data))
            out[start:end] = memoryview(data)[skip : skip + end - start]
            self._kept.put(self.plan.index, i, data)
        progress(end - start)

    def _inside(self, i: int, offset: int, out: memoryview) -> bool:
        where = self.plan.locate(i)
        return offset <= where.offset and where.offset + where.length <= offset + len(out)

    def _target(self, i: int, offset: int, out: memoryview) -> memoryview:
        where = self.plan.locate(i)
        return out[where.offset - offset : where.offset - offset + where.length]
