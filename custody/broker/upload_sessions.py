"""Uploads under way, in the broker's memory: who may write which blobs, of which sizes, until when."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from custody.broker.blobs import BlobUpload
from custody.errors import DeniedError, NotFoundError, UnavailableError
from custody.segments.layout import FilePlan

__all__ = ["MAX_BLOBS_OPEN", "Upload", "UploadLimits", "Uploads"]

MAX_BLOBS_OPEN: Final = 64
"""Blobs of one upload that are under way at once."""

_OF_ONE: Final = 4
_OF_ALL: Final = 64

_IDLE: Final = 3600
"""Seconds without a word after which an upload gives way to another of the same sealer. A sealer at work is heard of at
least every quarter of an hour, also where its bytes pass the broker by: signed requests hold no longer.
"""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Stored bytes of one upload, and seconds it may take."""

    size: int = 16 << 40
    seconds: int = 24 * 3600


@dataclass(slots=True)
class Upload:
    """One upload. ``lock`` is held where it ends; ``coming`` are blobs under way and ``done`` those that are whole, by
    file index and whether it is the digest list. ``heard`` is when its sealer last asked for something (seconds since
    1970). One that is ``registered`` is kept for a sealer who missed the answer.
    """

    id: str
    identity: str
    version: str
    vid: bytes
    plans: Sequence[FilePlan]
    part_size: int
    expires: int
    heard: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    coming: dict[tuple[int, bool], BlobUpload] = field(default_factory=dict)
    done: set[tuple[int, bool]] = field(default_factory=set)
    over: bool = False
    registered: bool = False

    @property
    def complete(self) -> bool:
        """Whether all blobs are whole."""
        return len(self.done) == 2 * len(self.plans)

    def same(self, other: "Upload") -> bool:
        """Tell whether the same sealer asked for the same: version, vid, segment and sizes."""
        return (self.vid, self.identity, self.version) == (other.vid, other.identity, other.version) and (
            self.plans == other.plans
        )


class Uploads:
    """The uploads of one broker. Methods may be called from any thread."""

    def __init__(self, limits: UploadLimits | None = None) -> None:
        self.limits = limits or UploadLimits()
        self._tidying = threading.Lock()
        self._tidied = False
        self._lock = threading.Lock()
        self._uploads: dict[str, Upload] = {}

    @contextmanager
    def tidying(self) -> Iterator[bool]:
        """Tell whether this is the first time in the broker's life; when the block raises, the next time is too."""
        with self._tidying:
            yield not self._tidied
            self._tidied = True

    def add(self, upload: Upload) -> Upload:
        """Keep a new one, and return it; or the one that is the ``same``, and keep that alone.

        ``DeniedError`` when its vid is in use otherwise, ``UnavailableError`` when there are too many.
        """
        with self._lock:
            others = list(self._uploads.values())
            for other in others:
                if other.same(upload):
                    return other
                if other.vid == upload.vid:
                    raise DeniedError("this vid is in use")
            going = [other.identity for other in others if not other.registered]
            if len(going) >= _OF_ALL or going.count(upload.identity) >= _OF_ONE:
                raise UnavailableError("too many uploads are under way", hint="finish one, or try again later")
            self._uploads[upload.id] = upload
            return upload

    def idlest(self, identity: str, now: int) -> Upload | None:
        """Return that one of a sealer of which nothing was heard for the longest time; ``None`` where none is idle."""
        with self._lock:
            idle = [one for one in self._uploads.values() if one.identity == identity and now - one.heard >= _IDLE]
        return min((one for one in idle if not one.registered), key=lambda one: one.heard, default=None)

    def get(self, upload: str, identity: str, now: int) -> Upload:
        """Return an upload to its owner, who was heard of now. ``NotFoundError`` for anybody else, ``DeniedError`` when
        it is over.
        """
        with self._lock:
            found = self._uploads.get(upload)
        if found is None or found.identity != identity:
            raise NotFoundError("there is no such upload", hint="the broker may have restarted: seal again")
        if found.over or now >= found.expires:
            raise DeniedError("the upload is over", hint="seal again")
        found.heard = max(found.heard, now)
        return found

    def remove(self, upload: Upload) -> None:
        """Forget an upload."""
        with self._lock:
            self._uploads.pop(upload.id, None)

    def overdue(self, now: int) -> Sequence[Upload]:
        """Return those whose time is over."""
        with self._lock:
            return [upload for upload in self._uploads.values() if now >= upload.expires]
