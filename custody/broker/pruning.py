"""Entries that have been in the published log for long leave the database, a little at a time.

Nobody waits for it and nothing depends on it, so it has a thread of its own: a slow store must not hold up what wipes
keys. What a live request stands on stays, with all that came after it: a stop must not need the log's store.
"""

import threading
from collections.abc import Callable
from typing import Final

from custody.broker.ledger import Ledger
from custody.errors import CustodyError
from custody.ports import Journal, Store
from custody.publishing.pruning import prune_piece
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note

__all__ = ["Pruner"]

_DAY: Final = 24 * 60 * 60
_FIRST: Final = 60.0  # seconds after the start: what was left undone comes first
_NEXT: Final = 1.0  # seconds between two pieces
_GOODBYE: Final = 5.0  # seconds that the end of the broker waits; a piece that is cut off has changed nothing
_LATER: Final = 3600.0  # seconds, where nothing was old enough, or something went wrong


class Pruner:
    """Prunes what is older than ``days``; ``trouble`` is told what went wrong."""

    def __init__(
        self, ledger: Ledger, journal: Journal, log: Store, days: int, *, trouble: Callable[[CustodyError], None]
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._log = log
        self._age = days * _DAY
        self._trouble = trouble
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pruner", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the piece under way; a store that hangs does not hold us up."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_GOODBYE)

    def prune(self) -> int:
        """Prune a piece; return how many entries went. Raises ``IntegrityError`` where the log's store lacks some."""
        published = self._ledger.publisher.published
        if not published.size:
            return 0
        with self._ledger.reading() as state:
            needed = min((int(found.entry.index) for found in state.live.values()), default=state.size)
        checkpoint = Checkpoint.parse(Note.parse(published.checkpoint).text)
        before = self._ledger.clock() - self._age
        return prune_piece(self._journal, self._log, checkpoint, below=needed, before=before)

    def _run(self) -> None:
        pause = _FIRST
        while not self._stop.wait(pause):
            try:
                pause = _NEXT if self.prune() else _LATER
            except CustodyError as error:
                self._trouble(error)
                pause = _LATER
