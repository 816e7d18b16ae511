"""A session as the broker knows it, and how it is kept: opened, opened again when it was lost, closed.

A session dies with the broker's process. Then another one of the same lease is opened, for the bytes that are still to
come; with the receipts and the checks of the first. What a job was told to be content with is not raised by that: the
ceilings of later sessions count what the earlier ones delivered.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from custody.adapters.backoff import Backoff
from custody.adapters.http_pool import HttpPool
from custody.adapters.surroundings import Surroundings
from custody.client.identity import Identity
from custody.client.link import Link
from custody.client.opening import Opened
from custody.client.starting import POLL, SHORT_POLL, Note, Start, Starter, ignore_note
from custody.crypto.secret import SecretBytes
from custody.documents.content import Content
from custody.documents.dsse import Envelope
from custody.entries.receipt import Receipt
from custody.errors import (
    CustodyError,
    DeniedError,
    IntegrityError,
    UnavailableError,
)
from custody.segments.streams import StillWanted, still_wanted, waited_for
from custody.wire.messages import PlaceReply
from custody.wire.pieces import Piece

__all__ = ["Live", "SessionReceipt", "Trouble"]

_REOPENINGS: Final = 3
"""Sessions opened in a row without a segment arriving: more would help nobody."""


@dataclass(frozen=True, slots=True)
class SessionReceipt:
    """Evidence of one session: the signed open document, the intent's receipt, and the outcome's where there is one."""

    session: str
    envelope: Envelope
    intent: Receipt
    outcome: Receipt | None = None


class Trouble:
    """How often one piece of work was interrupted; a fresh one for each segment, so that progress starts it anew.

    ``wanted`` raises when nobody waits for the work any more.
    """

    def __init__(self, backoff: Callable[[], Backoff], wanted: StillWanted) -> None:
        self.wanted: Final = wanted
        self._make = backoff
        self._backoff: Backoff | None = None
        self.reopenings = 0

    @property
    def backoff(self) -> Backoff:
        """The pauses, beginning with the first interruption."""
        if self._backoff is None:
            self._backoff = self._make()
        return self._backoff


class Live:
    """The current session of a lease. Safe for use by many threads; whoever notices that it is lost opens the next."""

    def __init__(self, link: Link, identity: Identity, start: Start, patience: float, note: Note = ignore_note) -> None:
        self.start = start
        self._note = note
        self._link = link
        self._starter = Starter(link, identity, start, note)
        self._patience = patience
        self.pool: Final = HttpPool()
        """Connections to the store, in direct mode."""
        self._reopening = threading.Lock()  # held for as long as it takes, and waited for by those who give up in time
        self._lock = threading.Lock()  # never held while anything is waited for
        self._delivered = 0
        self._closed = False
        self._ended = False
        self._generation = 0
        self._past: list[SessionReceipt] = []
        self._opened = self._starter.open(start.ceiling, self._backoff(), still_wanted, POLL)
        self._keys = self._opened  # the first session's serve for all: they belong to the version

    @property
    def content(self) -> Content:
        """What is opened, verified."""
        return self._opened.content

    @property
    def receipts(self) -> list[SessionReceipt]:
        """Evidence of every session so far, the current one last."""
        with self._lock:
            past = list(self._past)
            if not self._ended:
                past.append(SessionReceipt(self._opened.session, self._opened.envelope, self._opened.receipt))
            return past

    def trouble(self, wanted: StillWanted = still_wanted) -> Trouble:
        """Begin to count interruptions of one piece of work, which ends early when it is not ``wanted`` any more."""

        def still() -> None:
            self.require_open()
            wanted()

        return Trouble(self._backoff, still)

    def digest_key(self, file: int) -> SecretBytes:
        """The key of a file's segment digests; it stays ours to close."""
        return self._keys.digest_keys[file]

    def file_key(self, file: int) -> SecretBytes:
        """The key of a file, in direct mode; it stays ours to close."""
        return self._keys.file_keys[file]

    @property
    def around(self) -> Surroundings:
        """Clocks and entropy."""
        return self._link.around

    @property
    def patience(self) -> float:
        """Seconds for which something that fails is tried again; they end with the lease."""
        return max(0.0, min(self._patience, int(self.start.terms.not_after) - self._link.now()))

    @property
    def direct(self) -> bool:
        """Whether the job reads the store itself."""
        return self.start.direct

    @property
    def generation(self) -> int:
        """How many sessions were lost so far. Take it before work that may have to be recovered."""
        return self._generation

    def digest_list(self, file: int, size: int, wanted: StillWanted = still_wanted) -> bytes:
        """Fetch the digest list of a file, at most ``size`` bytes; not checked against the content yet."""
        trouble = self.trouble(wanted)
        while True:
            generation = self.generation
            try:
                with self._link.borrow() as calls:
                    return calls.read_digests(self._opened.session, file, size)
            except (UnavailableError, DeniedError) as error:
                self.recover(error, generation, trouble)

    def locate(self, file: int, wanted: StillWanted = still_wanted) -> PlaceReply:
        """Ask where a file lies, in direct mode. A session that was lost is opened again, and counts again."""
        trouble = self.trouble(wanted)
        while True:
            generation = self.generation
            try:
                with self._link.borrow() as calls:
                    return calls.locate(self._opened.session, file)
            except (UnavailableError, DeniedError) as error:
                self.recover(error, generation, trouble)

    def stream(self, file: int, first: int, count: int) -> Generator[Piece, None, None]:
        """Yield the pieces of ``count`` segments from ``first`` on, of the current session. Close it to end early."""
        self.require_open()
        session = self._opened.session
        size = count * int(self.content.segment)
        with self._link.borrow() as calls:
            yield from calls.read_within(session, file, first, count, size)

    def delivered(self, size: int) -> None:
        """Count plaintext that has arrived and was checked."""
        with self._lock:
            self._delivered += size

    def recover(self, error: CustodyError, generation: int, trouble: Trouble, need: int = 1) -> None:
        """Return when the work that ``error`` interrupted may be tried again; raise when it may not, or is not wanted.

        A broken connection is waited for; the link makes a new one. A session that the broker no longer knows, or that
        has no bytes left because some were sent and lost, is opened again, unless another thread has done so or less
        than ``need`` bytes would be left in it.
        """
        if isinstance(error, UnavailableError):
            self._note(f"interrupted: {error.message}; trying again")
            if not self._link.rest(trouble.backoff, trouble.wanted):
                raise error
            return
        with waited_for(self._reopening, trouble.wanted):
            trouble.wanted()
            if generation != self._generation:
                return
            trouble.reopenings += 1
            left = self.start.ceiling - self._delivered
            if trouble.reopenings > _REOPENINGS or left < need:
                raise error
            self._note(f"the session ended: {error.message}; opening another")
            self._end()
            self._go_on(self._starter.open(left, trouble.backoff, trouble.wanted, SHORT_POLL))

    def _go_on(self, opened: Opened) -> None:
        """Go on with another session, unless all was closed while it was opened."""
        opened.close()  # the first one's keys serve for all
        with self._lock:
            if not self._closed:
                self._opened = opened
                self._ended = False
                self._generation += 1
                return
        self._starter.abandon(opened.session)
        self.require_open()

    def close(self) -> None:
        """End the session at the broker, if it answers, and wipe the keys. Reads under way fail, and whoever waits to
        go on gives up.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._end()
        finally:
            self._keys.close()
            self.pool.close()

    def _end(self) -> None:
        """Tell the broker that the current session is over, so that only what was served counts; keep its receipts."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            place, opened = len(self._past), self._opened
            self._past.append(SessionReceipt(opened.session, opened.envelope, opened.receipt))
        with suppress(CustodyError):  # it may be gone already; then its whole ceiling counts
            outcome = self._link.call(lambda calls: calls.close_session(opened.session), patience=0)
            self._link.verify(lambda trust: _require_outcome(trust.check(outcome).entry.session, opened.session))
            self._past[place] = SessionReceipt(opened.session, opened.envelope, opened.receipt, outcome)

    def _backoff(self) -> Backoff:
        """Patience ends with the lease."""
        return self._link.backoff(self.patience)

    def require_open(self) -> None:
        """Raise ``ValueError`` once the session was closed."""
        if self._closed:
            raise ValueError("the session was closed")


def _require_outcome(stated: str | None, session: str) -> None:
    if stated != session:
        raise IntegrityError("the receipt is of another session's outcome")
