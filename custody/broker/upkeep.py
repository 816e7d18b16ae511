"""What the broker does by itself: logging stops and refusals, closing what is over, watching the clock."""

import threading
from collections.abc import Callable
from typing import Final

from custody.broker.closing import close_overdue
from custody.broker.context import Context
from custody.broker.grants import ready, try_grant
from custody.broker.refusals import Refusals
from custody.broker.stops import drop_tombstones, log_stops
from custody.entries.entry import Party
from custody.errors import CustodyError
from custody.values import U64

__all__ = ["Upkeep"]

_TICK: Final = 0.5
_MINUTE: Final = 60


class Upkeep:
    """A thread that ticks; ``trouble`` is told what went wrong in a tick."""

    def __init__(
        self,
        context: Context,
        refusals: Refusals,
        *,
        monotonic: Callable[[], float],
        trouble: Callable[[CustodyError], None],
    ) -> None:
        self._context = context
        self._refusals = refusals
        self._monotonic = monotonic
        self._trouble = trouble
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._counted = monotonic()
        self._off = 0

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, once it has logged who was refused until now."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def tick(self) -> None:
        """Do what is due now. Raises ``UnavailableError`` when the journal is down; the next tick tries again."""
        context = self._context
        close_overdue(context)  # first, since it wipes keys
        log_stops(context)
        drop_tombstones(context)
        with context.ledger.reading() as state:
            now = context.ledger.clock()
            waiting = [digest for digest, found in state.live.items() if ready(state, found, now)]
        for request in waiting:
            try_grant(context, request)
        if (off := context.ledger.clock.jump()) != self._off:
            self._off = off
            self._say("clock-jump" if off else "clock-right-again", abs(off))
        self._log_refused()
        if (moment := self._monotonic()) - self._counted >= _MINUTE:
            self._counted = moment
            for reason, count in sorted(self._refusals.counts().items()):
                self._say(reason, count)

    def _log_refused(self) -> None:
        while refused := self._refusals.first():
            actor = Party(id=refused.peer.identity, credential=refused.peer.credential)
            self._context.ledger.append("system", actor=actor, reason=refused.reason)
            self._refusals.done()

    def _say(self, reason: str, count: int) -> None:
        ledger = self._context.ledger
        ledger.append("system", actor=ledger.identity.party, reason=reason, count=U64(count))

    def _run(self) -> None:
        while not self._stop.wait(_TICK):
            self._attempt(self.tick)
        self._attempt(self._log_refused)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except CustodyError as error:
            self._trouble(error)
