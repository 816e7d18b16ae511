"""Where the blobs of a file lie, for a job that reads them itself: in a directory shared with the broker, or at URLs.

The broker names the directory only; the names in it follow from the signed content (custody.segments.layout). So a
lying one can make a job read the wrong blob, which is refused, but not just any file. Of a URL it may choose the host;
what the host answers is read as ciphertext, and told to nobody.

URLs end, within a quarter of an hour. Another one is asked for before that, or when the store refuses one. Whoever asks
after the lease was stopped is told so.
"""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Final, Literal

from custody.adapters.http_blob import HttpBlob
from custody.adapters.local_files import LocalBlob, explained
from custody.client.live import Live
from custody.errors import ConfigError, IntegrityError, NotFoundError
from custody.ports import BlobReader, Pinned, Presigned
from custody.segments.layout import FilePlan
from custody.segments.streams import StillWanted, still_wanted, waited_for

__all__ = ["Places"]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO that lies there must not wait for its other end."""

_LEAST: Final = 15.0
"""Seconds that the store has for an answer, however impatient the caller is."""

_Which = Literal["ciphertext", "digests"]


class Places:
    """The two blobs of one file of a direct session.

    ``wanted`` may end the waiting until ``settle`` is called: the file is opened for somebody, and kept for others.
    """

    def __init__(self, live: Live, plan: FilePlan, wanted: StillWanted) -> None:
        self._live = live
        self._plan = plan
        self._wanted = wanted
        self._place = live.locate(plan.index, wanted)
        self._lock = threading.Lock()
        self._fresh: set[str] = {"ciphertext", "digests"}
        """URLs of ``_place`` that nobody has used yet."""

    def settle(self) -> None:
        """From now on only the end of the session, and who reads, end the waiting."""
        self._wanted = still_wanted

    @property
    def local(self) -> bool:
        """Whether the blobs are files here."""
        return bool(self._place.folder)

    def ciphertext(self) -> AbstractContextManager[BlobReader]:
        """Open the ciphertext for the length of a block."""
        return self._open("ciphertext", self._plan.ciphertext_key, self._plan.stored_size)

    def digests(self) -> AbstractContextManager[BlobReader]:
        """Open the digest list for the length of a block."""
        return self._open("digests", self._plan.digests_key, self._plan.digests_size)

    def _open(self, which: _Which, key: str, size: int) -> AbstractContextManager[BlobReader]:
        if self.local:
            return closing(_local(self._place.folder, key))
        # The size is the content's. Each answer must state it.
        blob = Pinned(key, size, "")
        live = self._live
        patience = max(_LEAST, live.patience)
        sign = self._signing(which)
        return closing(HttpBlob(blob, sign, live.pool, live.around, patience=patience, wanted=self._still_wanted))

    def _still_wanted(self) -> None:
        self._live.require_open()
        self._wanted()

    def _signing(self, which: _Which) -> Callable[[StillWanted], Presigned]:
        def sign(wanted: StillWanted) -> Presigned:
            with waited_for(self._lock, wanted):
                if which not in self._fresh:
                    self._place = self._live.locate(self._plan.index, wanted)
                    self._fresh = {"ciphertext", "digests"}
                self._fresh.discard(which)
                signed = self._place.ciphertext if which == "ciphertext" else self._place.digests
            if signed is None:
                raise IntegrityError(f"{self._plan.path}: the broker names URLs first, and then a folder")
            return signed

        return sign


def _local(folder: str, key: str) -> LocalBlob:
    if not folder.startswith("/") or "\0" in folder:
        raise IntegrityError("the broker names a folder that is no absolute path")
    with explained(key):
        try:
            return LocalBlob(os.open(Path(folder) / key, _READ), key)
        except FileNotFoundError:
            if Path(folder).is_dir():
                raise NotFoundError(f"store: there is no {key}") from None
    raise ConfigError(f"{folder}: no such directory", hint="direct mode needs the store mounted where the job runs")
