"""A session as the broker knows it, and how it is kept: opened, opened again when it was lost, closed.

A session dies with the broker's process. Then another one of the same lease is opened, for the bytes that are still to
come; with the receipts and the checks of the first. What a job was told to be content with is not raised by that: the
ceilings of later sessions count what the earlier ones delivered.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from custody.adapters.backoff import Backoff
from custody.adapters.http_pool import HttpPool
from custody.adapters.surroundings import Surroundings
from custody.client.identity import Identity
from custody.client.link import Link
from custody.client.opening import Opened, verify_open
from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.documents.actor import Workload, actor_name
from custody.documents.content import Content
from custody.documents.dsse import Envelope, sign
from custody.documents.request import ranges_of
from custody.documents.session import OpenSession
from custody.documents.terms import Terms
from custody.entries.receipt import Receipt
from custody.errors import (
    ConfigError,
    ConflictError,
    CustodyError,
    DeniedError,
    IntegrityError,
    UnavailableError,
)
from custody.values import U64, Time
from custody.wire.messages import PlaceReply
from custody.wire.pieces import Piece

__all__ = ["Live", "Note", "SessionReceipt", "Start", "Trouble", "ignore_note"]

_NONCE: Final = 32
_POLL: Final = 25
_REOPENINGS: Final = 3
"""Sessions opened in a row without a segment arriving: more would help nobody."""


@dataclass(frozen=True, slots=True)
class Start:
    """What to open: the lease's terms and id, file indexes, and the most plaintext bytes to be served in all."""

    terms: Terms
    lease: str
    files: frozenset[int]
    ceiling: int


@dataclass(frozen=True, slots=True)
class SessionReceipt:
    """Evidence of one session: the signed open document, the intent's receipt, and the outcome's where there is one."""

    session: str
    envelope: Envelope
    intent: Receipt
    outcome: Receipt | None = None


Note = Callable[[str], None]
"""Told, in one line, of an interruption that is being mended."""


def ignore_note(text: str) -> None:
    """Tell nobody."""
    del text


class Trouble:
    """How often one piece of work was interrupted; a fresh one for each segment, so that progress starts it anew."""

    def __init__(self, backoff: Callable[[], Backoff]) -> None:
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
        self._identity = identity
        self._patience = patience
        self.pool: Final = HttpPool()
        """Connections to the store, in direct mode."""
        self.hurry: Final = threading.Event()
        """Set while something has failed and the rest is to end: what breaks then is not tried again."""
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._delivered = 0
        self._closed = False
        self._ended = False
        self._generation = 0
        self._past: list[SessionReceipt] = []
        self._opened = self._open(start.ceiling, self._backoff())
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

    def trouble(self) -> Trouble:
        """Begin to count interruptions of one piece of work."""
        return Trouble(self._backoff)

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

    def require_patience(self) -> None:
        """Raise ``UnavailableError`` while ``hurry`` is set, for whoever would wait."""
        if self.hurry.is_set():
            raise UnavailableError("given up, since something else has failed")

    @property
    def patience(self) -> float:
        """Seconds for which something that fails is tried again; they end with the lease."""
        return max(0.0, min(self._patience, int(self.start.terms.not_after) - self._link.now()))

    @property
    def direct(self) -> bool:
        """Whether the job reads the store itself."""
        return self.start.terms.mode == "direct"

    @property
    def generation(self) -> int:
        """How many sessions were lost so far. Take it before work that may have to be recovered."""
        return self._generation

    def digest_list(self, file: int) -> bytes:
        """Fetch the digest list of a file; not checked against the content yet."""
        trouble = self.trouble()
        while True:
            generation = self.generation
            try:
                with self._link.borrow() as calls:
                    return calls.read_digests(self._opened.session, file)
            except (UnavailableError, DeniedError) as error:
                self.recover(error, generation, trouble)

    def locate(self, file: int) -> PlaceReply:
        """Ask where a file lies, in direct mode. A session that was lost is opened again, and counts again."""
        trouble = self.trouble()
        while True:
            generation = self.generation
            try:
                with self._link.borrow() as calls:
                    return calls.locate(self._opened.session, file)
            except (UnavailableError, DeniedError) as error:
                self.recover(error, generation, trouble)

    def stream(self, file: int, first: int, count: int) -> Generator[Piece, None, None]:
        """Yield the pieces of ``count`` segments from ``first`` on, of the current session. Close it to end early."""
        with self._lock:
            self._require_open()
            session = self._opened.session
        size = count * int(self.content.segment)
        with self._link.borrow() as calls:
            yield from calls.read_within(session, file, first, count, size)

    def delivered(self, size: int) -> None:
        """Count plaintext that has arrived and was checked."""
        with self._counting:
            self._delivered += size

    def recover(self, error: CustodyError, generation: int, trouble: Trouble, need: int = 1) -> None:
        """Return when the work that ``error`` interrupted may be tried again; raise when it may not.

        A broken connection is waited for; the link makes a new one. A session that the broker no longer knows, or that
        has no bytes left because some were sent and lost, is opened again, unless another thread has done so or less
        than ``need`` bytes would be left in it.
        """
        if isinstance(error, UnavailableError):
            self._note(f"interrupted: {error.message}; trying again")
            if self._closed or self.hurry.is_set() or not self._link.rest(trouble.backoff):
                raise error
            return
        with self._lock:
            self._require_open()
            if generation != self._generation:
                return
            trouble.reopenings += 1
            left = self.start.ceiling - self._delivered
            if trouble.reopenings > _REOPENINGS or left < need:
                raise error
            self._note(f"the session ended: {error.message}; opening another")
            self._end()
            self._opened = self._open(left, trouble.backoff)
            self._ended = False
            self._generation += 1
            self._opened.close()

    def close(self) -> None:
        """End the session at the broker, if it answers, and wipe the keys. Reads under way fail."""
        with self._lock:
            if self._closed:
                return
            self._end()
            self._closed = True
            self._keys.close()
            self.pool.close()

    def _end(self) -> None:
        """Tell the broker that the current session is over, so that only what was served counts; keep its receipts."""
        if self._ended:
            return
        self._ended = True
        outcome: Receipt | None = None
        session = self._opened.session
        with suppress(CustodyError):  # it may be gone already; then its whole ceiling counts
            receipt = self._link.call(lambda calls: calls.close_session(session), patience=0)
            self._link.verify(lambda trust: _require_outcome(trust.check(receipt).entry.session, session))
            outcome = receipt
        self._past.append(SessionReceipt(session, self._opened.envelope, self._opened.receipt, outcome))

    def _backoff(self) -> Backoff:
        """Patience ends with the lease."""
        return self._link.backoff(self.patience)

    def _open(self, ceiling: int, backoff: Backoff) -> Opened:
        """Open a session, however long the broker is away or waits for shares, within the backoff's time."""
        while True:
            try:
                return self._attempt(ceiling)
            except UnavailableError as error:
                self._note(f"not opened yet: {error.message}; trying again")
                if not self._link.rest(backoff):
                    raise
            except DeniedError as error:
                ceiling = self._reconsider(error, ceiling, backoff)

    def _attempt(self, ceiling: int) -> Opened:
        """Sign a new open document and send it once. One whose answer was lost is ended, for nobody will use it."""
        with ExitStack() as stack:
            seed: SecretBytes | None = None
            if self.direct:
                rng = self._link.around.rng
                seed = stack.enter_context(SecretBytes.take_bytes(rng(hpke.SEED_SIZE)))
            return self._ask(self._sign(ceiling, seed), seed)

    def _ask(self, envelope: Envelope, seed: SecretBytes | None) -> Opened:
        terms, lease = self.start.terms, self.start.lease
        try:
            reply = self._link.call(lambda calls: calls.open_session(envelope), patience=0)
            return self._link.verify(lambda trust: verify_open(trust, terms, lease, envelope, reply, seed=seed))
        except DeniedError:
            raise  # it was not opened
        except ConflictError as error:
            raise UnavailableError(error.message, hint=error.hint) from error
        except CustodyError:
            with suppress(CustodyError):
                self._link.call(lambda calls: calls.close_session(envelope.digest), patience=0)
            raise

    def _sign(self, ceiling: int, seed: SecretBytes | None) -> Envelope:
        credential = self._identity.credential()
        beneficiary = self.start.terms.beneficiary
        if not isinstance(credential.actor, Workload) or credential.actor.spiffe != beneficiary:
            who = actor_name(credential.actor)
            raise ConfigError(f"the lease is for {beneficiary}, but this is {who}", hint="run it where that job runs")
        document = OpenSession(
            deployment=self._link.settings.deployment,
            lease=self.start.lease,
            files=ranges_of(self.start.files),
            bytes=U64(ceiling),
            nonce=self._link.around.rng(_NONCE).hex(),
            xwing=None if seed is None else hpke.public_key(seed),
            workload=credential.actor,
            issued=Time(self._link.now()),
        )
        return sign(document, [credential.signer])

    def _reconsider(self, error: DeniedError, ceiling: int, backoff: Backoff) -> int:
        """Return the ceiling to try again with, once trying again makes sense; raise ``error`` when it does not.

        It does while the lease is granted and not open: before its time, or while custodians send their shares. The
        phase is the broker's word; believed wrongly, it costs time only.
        """
        terms, link = self.start.terms, self._link
        view = link.call(lambda calls: calls.get_request(terms.request))
        left = int(terms.bytes) - view.bytes_spent
        if view.phase == "open" and 0 < left < ceiling and not self.direct:
            return left  # a session that was lost counts its whole ceiling
        patient = backoff.deadline - link.around.monotonic()
        early = int(terms.not_before) - link.now()
        if view.phase != "granted" or patient <= 0 or early > patient:
            raise error
        self._note(f"not opened yet: {error.message}; waiting")
        if early > 0:
            link.around.sleep(early)
            return ceiling
        wait = max(0, min(_POLL, int(patient)))
        seen = len(view.receipts)
        link.call(lambda calls: calls.get_request(terms.request, seen=seen, wait_seconds=wait), patience=patient)
        if not link.rest(backoff):
            raise error
        return min(ceiling, left) if left > 0 else ceiling

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the session was closed")


def _require_outcome(stated: str | None, session: str) -> None:
    if stated != session:
        raise IntegrityError("the receipt is of another session's outcome")
