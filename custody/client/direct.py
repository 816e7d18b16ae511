"""A file of a session in direct mode: ciphertext from the store itself, opened in this process.

The same face as ``reading.VerifiedFile``, and the same promise: whoever reads gets the sealer's bytes or none. The
store is trusted with nothing, and neither is the broker's word on where a file lies: the digest list must be the one
the signed content names, and each segment is checked before it counts.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Final

from custody.client.live import Live
from custody.client.places import Places
from custody.errors import FormatError, IntegrityError
from custody.segments.decrypt import SegmentDecryptor
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile, SegmentChecker, read_digest_list
from custody.segments.streams import Progress, StillWanted, ignore_progress, still_wanted

__all__ = ["FETCH", "DirectFile"]

_LOCAL: Final = 2
_REMOTE: Final = 8
"""Segments under way at once: with a file there is one for each core; with a store, some wait for the network."""

FETCH: Final = 16 << 20
"""Bytes of one GET at most: an answer that is long pays for the way to the store, and it takes no memory here."""
_STRIDE: Final = 8 << 20
"""Bytes of a file that a lane opens before it takes others: where two work on one huge page, both make it."""


class DirectFile:
    """One file of a direct session. Reads may come from any thread, and none counts: the file is paid for whole."""

    def __init__(self, live: Live, plan: FilePlan, wanted: StillWanted = still_wanted) -> None:
        """``wanted`` is for what is done here, not for later reads."""
        self.plan = plan
        self._closing = ExitStack()
        with ExitStack() as stack:
            places = Places(live, plan, wanted)
            self._threads = _LOCAL if places.local else _REMOTE
            digests = stack.enter_context(places.digests())
            ciphertext = stack.enter_context(places.ciphertext())
            expected = live.content.files[plan.index].digests
            digest_list = read_digest_list(plan, digests)
            self._checker = SegmentChecker(plan, live.digest_key(plan.index), digest_list, expected)
            fetch = _STRIDE if places.local else FETCH
            self._decryptor = stack.enter_context(
                closing(SegmentDecryptor(plan, live.file_key(plan.index), ciphertext, fetch=fetch))
            )
            self._file = stack.enter_context(OpenFile(self._decryptor, self._checker))
            places.settle()
            self._closing = stack.pop_all()

    def read_into(
        self,
        offset: int,
        out: memoryview,
        progress: Progress = ignore_progress,
        wanted: StillWanted = still_wanted,
    ) -> None:
        """Fill ``out`` from byte ``offset`` of the file. When this raises, ``out`` is all zeros.

        ``FormatError`` for a range outside the file; what ``wanted`` raises ends the waiting for a store.
        """
        if offset < 0 or offset + len(out) > self.plan.size:
            raise FormatError(f"{self.plan.path}: bytes {offset} to {offset + len(out)} asked, it has {self.plan.size}")
        self._file.read_into(offset, out, progress=progress, threads=self._threads, wanted=wanted)
        self._decryptor.trim()  # a session has many files, and reads them one after the other

    def pass_on(
        self,
        first: int,
        give: Callable[[int, memoryview], None],
        progress: Progress = ignore_progress,
        wanted: StillWanted = still_wanted,
    ) -> None:
        """Open and check every segment from ``first`` on; ``give`` gets each once, in no order, in several threads."""
        segments = range(first, self.plan.count)
        self._file.pass_on(segments, give, progress=progress, threads=self._threads, wanted=wanted)
        self._decryptor.trim()

    def holds(self, i: int, plaintext: memoryview) -> bool:
        """Tell whether ``plaintext`` is segment ``i``; wipes it where it is not."""
        try:
            self._checker.check(i, plaintext)
        except IntegrityError:
            return False
        return True

    def close(self) -> None:
        """Wipe the keys derived here and the buffers, and give up the store's blobs."""
        self._closing.close()
