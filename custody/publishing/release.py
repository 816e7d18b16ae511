"""From a signed checkpoint to a published one: a quorum of cosignatures, then two durable writes.

`checkpoints/<size>` keeps the first published form for ever; `checkpoint` is replaced. Between the two a crash leaves a
checkpoint that is kept but not yet shown: the next attempt finds it, and shows that one.
"""

from collections.abc import Callable, Collection, Sequence

from custody.errors import ConfigError, ConflictError, CustodyError, IntegrityError
from custody.ports import Store
from custody.publishing.batch import Head
from custody.publishing.recovery import PUBLISHED
from custody.publishing.witnesses import MonitoredWitness, Submission, WitnessPanel
from custody.tlog.note import Note, VKey
from custody.tlog.policy import Policy

__all__ = ["Policies", "Releaser", "checkpoint_key"]

Policies = Callable[[int, int], Sequence[Policy]]
"""``policies(old, new)``: what a checkpoint of size ``new`` must all satisfy when one of size ``old`` was published
before it: the witness policy of the root in force, and the former one too where a change of root lies between."""


def checkpoint_key(size: int) -> str:
    """Return where the published checkpoint of a size lies for ever."""
    return f"checkpoints/{size}"


class Releaser:
    """Gets a checkpoint cosigned and makes it visible. ``log_key`` is the log's own key."""

    def __init__(
        self,
        store: Store,
        panel: WitnessPanel,
        policies: Policies,
        witnesses: Callable[[], Sequence[MonitoredWitness]],
        log_key: VKey,
    ) -> None:
        self._store = store
        self._panel = panel
        self._policies = policies
        self._witnesses = witnesses
        self._log_key = log_key

    def cosign(self, head: Head, old: int) -> bytes:
        """Return the note with a quorum of cosignatures, ``old`` being the size published before.

        Raises ``UnavailableError`` naming the witnesses that are missing, ``IntegrityError`` or ``ConfigError`` where
        one proves that the ledger is not what it was.
        """
        policies = self._in_force(old, head.size)
        keys: dict[str, set[VKey]] = {}
        for policy in policies:
            for witness in policy.counted():
                keys.setdefault(witness.name, set()).add(witness.vkey)

        def enough(cosigned: Collection[VKey]) -> bool:
            return all(
                policy.satisfied_by([witness.name for witness in policy.witnesses if witness.vkey in cosigned])
                for policy in policies
            )

        submission = Submission(head.note, head.history, (self._log_key,), keys, enough)
        note = head.note + b"".join(self._panel.collect(self._witnesses(), submission))
        for policy in policies:
            policy.check(note)
        return note

    def publish(self, head: Head, note: bytes, old: int) -> bytes:
        """Make a cosigned note visible, durably; return the one that is. Raises as the store does."""
        key = checkpoint_key(head.size)
        try:
            self._store.put_new(key, note)
        except ConflictError as error:
            kept = self._store.get(key)
            if Note.parse(kept).text != head.history.checkpoint.encode():
                raise IntegrityError(f"fork: the log store holds another checkpoint under {key}") from error
            if self.accepted(kept, old, head.size):
                note = kept
        self._store.put(PUBLISHED, note)
        return note

    def accepted(self, note: bytes, old: int, size: int) -> bool:
        """Tell whether a note that was published once still meets what is asked of it now."""
        try:
            for policy in self._in_force(old, size):
                policy.check(note)
        except (CustodyError, ValueError):
            return False
        return True

    def _in_force(self, old: int, size: int) -> Sequence[Policy]:
        policies = self._policies(old, size)
        if not policies:
            raise ConfigError(f"no witness policy is in force for size {size}")
        return policies
