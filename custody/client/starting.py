"""Beginning a session of a lease: the open document is signed, sent, and sent anew for as long as that makes sense."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from custody.adapters.backoff import Backoff
from custody.client.identity import Identity
from custody.client.link import Link
from custody.client.opening import Opened, verify_open
from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.documents.actor import Workload, actor_name
from custody.documents.dsse import Envelope, sign
from custody.documents.request import ranges_of
from custody.documents.session import OpenSession
from custody.documents.terms import Terms
from custody.errors import ConfigError, ConflictError, CustodyError, DeniedError, UnavailableError
from custody.segments.streams import StillWanted
from custody.values import U64, Time

__all__ = ["POLL", "SHORT_POLL", "Note", "Start", "Starter", "ignore_note"]

POLL: Final = 25
"""Seconds that one call waits for shares, where the user's own thread waits and can be interrupted."""
SHORT_POLL: Final = 2
"""The same in a thread of ours, which must notice soon that nobody waits any more."""

_NONCE: Final = 32
_PARTING: Final = 5.0
"""Seconds for which a broker is told of a session that nobody will use."""


@dataclass(frozen=True, slots=True)
class Start:
    """What to open: the lease's terms and id, file indexes, and the most plaintext bytes to be served in all."""

    terms: Terms
    lease: str
    files: frozenset[int]
    ceiling: int

    @property
    def direct(self) -> bool:
        """Whether the job reads the store itself."""
        return self.terms.mode == "direct"


Note = Callable[[str], None]
"""Told, in one line, of an interruption that is being mended."""


def ignore_note(text: str) -> None:
    """Tell nobody."""
    del text


class Starter:
    """Opens sessions of one lease, one after the other."""

    def __init__(self, link: Link, identity: Identity, start: Start, note: Note) -> None:
        self._link = link
        self._identity = identity
        self._start = start
        self._note = note

    def open(self, ceiling: int, backoff: Backoff, wanted: StillWanted, poll: int) -> Opened:
        """Open a session of at most ``ceiling`` bytes, however long the broker is away or waits for shares, within the
        backoff's time; ``poll`` is for how many seconds one call may wait.
        """
        while True:
            try:
                return self._attempt(ceiling)
            except UnavailableError as error:
                self._note(f"not opened yet: {error.message}; trying again")
                if not self._link.rest(backoff, wanted):
                    raise
            except DeniedError as error:
                ceiling = self._reconsider(error, ceiling, backoff, wanted, poll)

    def abandon(self, session: str) -> None:
        """End a session that nobody will use, if the broker answers soon: otherwise it counts its whole ceiling."""
        with suppress(CustodyError):
            self._link.call(lambda calls: calls.close_session(session, deadline=_PARTING), patience=0)

    def _attempt(self, ceiling: int) -> Opened:
        """Sign a new open document and send it once. One whose answer was lost is ended, for nobody will use it."""
        with ExitStack() as stack:
            seed: SecretBytes | None = None
            if self._start.direct:
                rng = self._link.around.rng
                seed = stack.enter_context(SecretBytes.take_bytes(rng(hpke.SEED_SIZE)))
            return self._ask(self._sign(ceiling, seed), seed)

    def _ask(self, envelope: Envelope, seed: SecretBytes | None) -> Opened:
        terms, lease = self._start.terms, self._start.lease
        try:
            reply = self._link.call(lambda calls: calls.open_session(envelope), patience=0)
            return self._link.verify(lambda trust: verify_open(trust, terms, lease, envelope, reply, seed=seed))
        except DeniedError:
            raise  # it was not opened
        except ConflictError as error:
            raise UnavailableError(error.message, hint=error.hint) from error
        except BaseException:  # Ctrl-C as well: the broker may have opened it
            self.abandon(envelope.digest)
            raise

    def _sign(self, ceiling: int, seed: SecretBytes | None) -> Envelope:
        credential = self._identity.credential()
        beneficiary = self._start.terms.beneficiary
        if not isinstance(credential.actor, Workload) or credential.actor.spiffe != beneficiary:
            who = actor_name(credential.actor)
            raise ConfigError(f"the lease is for {beneficiary}, but this is {who}", hint="run it where that job runs")
        document = OpenSession(
            deployment=self._link.settings.deployment,
            lease=self._start.lease,
            files=ranges_of(self._start.files),
            bytes=U64(ceiling),
            nonce=self._link.around.rng(_NONCE).hex(),
            xwing=None if seed is None else hpke.public_key(seed),
            workload=credential.actor,
            issued=Time(self._link.now()),
        )
        return sign(document, [credential.signer])

    def _reconsider(self, error: DeniedError, ceiling: int, backoff: Backoff, wanted: StillWanted, poll: int) -> int:
        """Return the ceiling to try again with, once trying again makes sense; raise ``error`` when it does not.

        It does while the lease is granted and not open: before its time, or while custodians send their shares. The
        phase is the broker's word; believed wrongly, it costs time only.
        """
        terms, link = self._start.terms, self._link
        view = link.call(lambda calls: calls.get_request(terms.request), wanted=wanted)
        left = int(terms.bytes) - view.bytes_spent
        if view.phase == "open" and 0 < left < ceiling and not self._start.direct:
            return left  # a session that was lost counts its whole ceiling
        patient = backoff.deadline - link.around.monotonic()
        early = int(terms.not_before) - link.now()
        if view.phase != "granted" or patient <= 0 or early > patient:
            raise error
        self._note(f"not opened yet: {error.message}; waiting")
        if early > 0:
            link.wait(early, wanted)
            return ceiling
        wait = max(0, min(poll, int(patient)))
        seen = len(view.receipts)
        link.call(
            lambda calls: calls.get_request(terms.request, seen=seen, wait_seconds=wait),
            patience=patient,
            wanted=wanted,
        )
        if not link.rest(backoff, wanted):
            raise error
        return min(ceiling, left) if left > 0 else ceiling
