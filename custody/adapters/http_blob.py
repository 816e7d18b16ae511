"""A blob read by ranges through presigned GETs: by a broker from S3, and by a job in direct mode.

What answers count, and what is tried again: ``http_stretch``. Here are the URLs: they end, and are asked for anew.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from custody.adapters.http_pool import HttpPool, Target
from custody.adapters.http_stretch import Stretch, Way
from custody.adapters.surroundings import Around
from custody.errors import IntegrityError
from custody.ports import Pinned, Presigned
from custody.segments.streams import Forward, StillWanted, still_wanted, waited_for

__all__ = ["PATIENCE", "HttpBlob"]

PATIENCE: Final = 60.0
"""Seconds that a request is tried again for, and a second more for every ``SLOWEST`` bytes."""

_RENEW: Final = 60  # seconds before its end at which a URL is renewed: no request under way is cut off


class HttpBlob:
    """``BlobReader`` over a pinned blob. ``sign`` returns a fresh presigned GET, waiting only as long as it is wanted;
    it is asked again as URLs end.

    ``patience`` is seconds. ``wanted`` raises when none of its reads is to go on. Whoever gives the pool closes it.
    """

    def __init__(
        self,
        blob: Pinned,
        sign: Callable[[StillWanted], Presigned],
        pool: HttpPool,
        around: Around,
        *,
        patience: float = PATIENCE,
        wanted: StillWanted = still_wanted,
    ) -> None:
        self._blob = blob
        self._wanted = wanted
        self._sign = sign
        self._way = Way(blob, self._current, pool, around, patience)
        self._clock = around.clock
        self._lock = threading.Lock()
        self._signed: tuple[Presigned, Target, int] | None = None
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes of the pinned version."""
        return self._blob.size

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """See ``BlobReader.read_into``. ``ConfigError`` when the store refuses a URL that was just made."""
        with self.stretch(offset, len(buffer)) as fill:
            fill(buffer)

    @contextmanager
    def stretch(self, offset: int, size: int, wanted: StillWanted = still_wanted, /) -> Iterator[Forward]:
        """See ``LongReader.stretch``. Raises as ``read_into``."""
        if offset < 0:
            raise ValueError("a negative offset")
        self._require_open()
        if offset + size > self.size:
            raise IntegrityError(f"store: {self._blob.key} ends at byte {self.size}")

        def anybody() -> None:
            self._require_open()
            self._wanted()
            wanted()

        stretch = Stretch(self._way, offset, size, anybody)
        try:
            yield stretch.fill
        finally:
            stretch.close()

    def close(self) -> None:
        """See ``BlobReader.close``. Reads that wait for the store end within a second or two, with ``ValueError``."""
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the blob has been closed")

    def _current(self, refused: Presigned | None, wanted: StillWanted) -> tuple[Presigned, Target]:
        """Return a URL that holds for a while yet, and not the refused one."""
        with waited_for(self._lock, wanted):
            now = self._clock()
            if self._signed is None or self._signed[0] is refused or now >= self._signed[2]:
                signed = self._sign(wanted)
                margin = min(_RENEW, max(0, signed.expires - now) // 3)
                self._signed = (signed, Target.of_signed(signed), signed.expires - margin)
            return self._signed[:2]
