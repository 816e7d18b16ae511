"""The log as a tool reads it through the broker: every byte is authenticated against a checkpoint that was verified.

Two questions need more than receipts. *When* was an entry logged, by the word of witnesses: any published checkpoint
that covers it bounds that from above, and the first one best. And *what else* does the log say of a request: whatever a
view leaves out stands in the log all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from custody.entries.entry import Entry
from custody.entries.receipt import Verified
from custody.errors import IntegrityError, NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import verify_inclusion
from custody.tlog.policy import Policy, quorum_time
from custody.tlog.reader import TileReader

__all__ = ["Logbook", "Witnessed"]

_BUNDLE: Final = 256
_FURTHEST: Final = 4096
"""Entries that one published checkpoint may be ahead of the one before it (a broker's batch)."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A published checkpoint that covers an entry: its size, and the earliest and latest counted cosignature time."""

    size: int
    earliest: int
    latest: int


class Logbook:
    """Reads the log. ``fetch(path)`` returns what is stored, or ``NotFoundError``; ``policy`` judges checkpoints."""

    def __init__(self, fetch: Callable[[str], bytes], policy: Policy) -> None:
        self._fetch = fetch
        self._policy = policy
        self._readers: dict[tuple[int, bytes], TileReader] = {}

    def witnessed(self, logged: Verified) -> Witnessed:
        """Return the first published checkpoint that covers a logged entry, and that may still be judged.

        Where an older policy made the first ones, a later one counts: it only says less. Raises ``IntegrityError`` for
        a checkpoint that does not hold the entry, and where there is none at all.
        """
        size = logged.checkpoint.size
        for candidate in range(logged.index + 1, min(size, logged.index + 1 + _FURTHEST)):
            try:
                note = self._fetch(f"checkpoints/{candidate}")
            except NotFoundError:
                continue
            try:
                checked = self._policy.check(note)
            except IntegrityError:
                continue
            tree = checked.checkpoint
            if tree.size != candidate:
                raise IntegrityError(f"checkpoints/{candidate} is a checkpoint of size {tree.size}")
            proof = self._reader(tree).inclusion_proof(logged.index)
            verify_inclusion(logged.leaf, logged.index, tree.size, proof, tree.root)
            return Witnessed(candidate, *quorum_time(checked.cosigned))
        return Witnessed(size, *quorum_time(logged.cosigned))

    def newest_root(self, checkpoint: Checkpoint) -> str:
        """Return the trust root in force after the last entry under a verified checkpoint.

        It is the one that this entry names; an entry that logs a root still names the one before.
        """
        entry = Entry.parse(self._entry(checkpoint, checkpoint.size - 1))
        return entry.document("root").document if entry.type == "root" else entry.root

    def entries_of(self, request: str, first: int, checkpoint: Checkpoint) -> list[tuple[int, Entry]]:
        """Return every entry of a request from index ``first`` on, up to a verified checkpoint."""
        reader = self._reader(checkpoint)
        needle = request.encode()
        found = []
        for bundle in range(first // _BUNDLE, -(-checkpoint.size // _BUNDLE)):
            for place, data in enumerate(reader.bundle(bundle)):
                index = bundle * _BUNDLE + place
                if index >= first and needle in data:
                    entry = Entry.parse(data)
                    if entry.request == request:
                        found.append((index, entry))
        return found

    def _entry(self, checkpoint: Checkpoint, index: int) -> bytes:
        return self._reader(checkpoint).bundle(index // _BUNDLE)[index % _BUNDLE]

    def _reader(self, checkpoint: Checkpoint) -> TileReader:
        tree = (checkpoint.size, checkpoint.root)
        reader = self._readers.get(tree)
        if reader is None:
            reader = self._readers[tree] = TileReader(self._fetch, checkpoint)
        return reader
