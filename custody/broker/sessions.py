"""Live sessions: what a job may still be served. Bytes are charged here before they leave.

A session lives and dies with the process: without an outcome in the log it counts its whole ceiling, so nothing that
is lost with this memory can be spent twice.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from custody.documents.content import Content
from custody.documents.request import indexes
from custody.documents.session import OpenSession
from custody.entries.entry import Parent
from custody.errors import DeniedError
from custody.ports import BlobReader, Pinned
from custody.segments.decrypt import SegmentDecryptor
from custody.segments.shelf import Shelf

__all__ = ["Ended", "Session", "Sessions", "StoredFile"]

_ENDED: Final = 10_000
"""Sessions remembered after their end, for jobs that end one which was ended for them."""

_KEPT: Final = 16
"""Files of a session that stay open while nobody reads them. Between two runs of segments nobody does, so these are as
many as a session has streams.
"""


class StoredFile:
    """A file that a session reads: its blob, which is closed with it, and the keys derived for it."""

    def __init__(self, blob: BlobReader, decryptor: SegmentDecryptor) -> None:
        self.decryptor = decryptor
        self._blob = blob

    def close(self) -> None:
        """Wipe the keys and give up the blob: reads that are under way end soon."""
        self.decryptor.close()
        self._blob.close()


class Session:
    """One open session: its documents, its open files, and what it was served (plaintext bytes by file)."""

    def __init__(
        self, document: OpenSession, *, digest: str, request: str, content: Content, entry: Parent, not_after: int
    ) -> None:
        self.digest = digest
        self.lease = str(document.lease)
        self.request = request
        self.identity = str(document.workload.spiffe)
        self.content = content
        self.entry = entry
        self.not_after = not_after
        self.ranges = document.files
        self.files = frozenset(indexes(document.files))
        self.xwing = document.xwing
        self.witnessed = False  # until its intent is: the job knows the session's id before, and might use it
        self.outcome: int | None = None  # the index of its entry, once that is in the journal
        self._left = int(document.bytes)
        self._served: Counter[int] = Counter()
        self._files = Shelf[StoredFile](_KEPT)
        self._pinned: dict[str, Pinned] = {}
        self._ended = False
        self._lock = threading.Lock()

    def charge(self, file: int, size: int, now: int) -> None:
        """Take ``size`` bytes from the budget. Raises ``DeniedError`` when the session is over or the budget too small.

        Charged before the bytes leave, and never given back: bytes that were sent twice count twice.
        """
        with self._lock:
            self._require_left(size, now)
            self._left -= size
            self._served[file] += size

    def require_left(self, size: int, now: int) -> None:
        """Raise as ``charge`` would, and take nothing."""
        with self._lock:
            self._require_left(size, now)

    @property
    def direct(self) -> bool:
        """Whether the job gets keys, and reads the store itself."""
        return self.xwing is not None

    def require_live(self, now: int) -> None:
        """Raise ``DeniedError`` when the session is over."""
        with self._lock:
            self._require_live(now)

    def pinned(self, key: str) -> Pinned | None:
        """Return the version of a blob that the session reads, if it was looked at before."""
        with self._lock:
            return self._pinned.get(key)

    def pin(self, blob: Pinned) -> Pinned:
        """Read this version of a blob from now on; the first one pinned wins and is returned."""
        with self._lock:
            return self._pinned.setdefault(blob.key, blob)

    def file(self, file: int, open_file: Callable[[], StoredFile]) -> AbstractContextManager[StoredFile]:
        """Lend a file for the length of a block, opened where it is not open. ``ValueError`` when the session is over;
        closing a file under a read makes that raise it too.
        """
        return self._files.lend(file, open_file)

    def _require_left(self, size: int, now: int) -> None:
        self._require_live(now)
        if size > self._left:
            message = f"byte budget: {size} more asked, {self._left} left in this session"
            raise DeniedError(message, hint="open another session of the lease, or file a new request")

    def _require_live(self, now: int) -> None:
        if self._ended:
            message = "the session is over"
            raise DeniedError(message)
        if now >= self.not_after:
            message = "the lease has ended"
            raise DeniedError(message)

    def end(self) -> Mapping[int, int]:
        """End the session, wipe its keys, close its files, and return what was served by file. A second call returns
        the same.
        """
        with self._lock:
            self._ended = True
            served = dict(self._served)
        self._files.close()
        return served


class Ended(NamedTuple):
    """What is remembered of a session that is over: whose it was, the index of the entry of its outcome, where it has
    one, and whether its intent was witnessed.
    """

    identity: str
    outcome: int | None
    witnessed: bool


class Sessions:
    """All live sessions of this process, by digest; and what is remembered of the last that ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._ended: dict[str, Ended] = {}  # in the order of their ends

    def add(self, session: Session) -> None:
        """Let a session begin."""
        with self._lock:
            self._sessions[session.digest] = session

    def get(self, digest: str, identity: str) -> Session:
        """Return a session to its own job. Raises ``DeniedError`` otherwise, the same for wrong job, no session, and
        one whose intent no witness has seen.
        """
        with self._lock:
            session = self._sessions.get(digest)
        if session is None or session.identity != identity or not session.witnessed:
            message = "there is no such session"
            raise DeniedError(message, hint="open a session of the lease again")
        return session

    def of_lease(self, lease: str) -> list[Session]:
        """Return the live sessions of a lease."""
        with self._lock:
            return [session for session in self._sessions.values() if session.lease == lease]

    def ended(self, digest: str, identity: str) -> Ended | None:
        """Tell of a session of this job that ended a while ago; ``None`` if there is none, or it is long past."""
        with self._lock:
            ended = self._ended.get(digest)
        return ended if ended is not None and ended.identity == identity else None

    def remove(self, digest: str) -> None:
        """Serve a session that has ended no more. What is remembered of it is as it is now."""
        with self._lock:
            session = self._sessions.pop(digest, None)
            if session is None:
                return
            self._ended[digest] = Ended(session.identity, session.outcome, session.witnessed)
            if len(self._ended) > _ENDED:
                del self._ended[next(iter(self._ended))]

    def all(self) -> list[Session]:
        """Return every live session."""
        with self._lock:
            return list(self._sessions.values())
