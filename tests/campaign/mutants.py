"""Programs that are broken on purpose: a campaign that does not notice them proves nothing."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final

from custody.adapters.store_local import LocalStore
from custody.entries.receipt import Receipt
from custody.publishing.publisher import Publisher
from custody.publishing.release import Releaser
from custody.tlog.proof import Proof
from custody.tlog.witness_protocol import LogState
from custody.witness.state import CheckpointStore, Slot
from tests.doubles.disk_layer import LayeredOs

__all__ = ["MUTANTS", "apply"]


def apply(name: str) -> None:
    """Break the program in this process, for good."""
    MUTANTS[name]()


def _replace(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def _answer_before_the_quorum() -> None:
    """Receipts are made from the signed checkpoint, and nobody waits for witnesses."""

    def wait(publisher: Publisher, index: int, timeout: float) -> Receipt:
        del timeout
        head = publisher._head
        assert head is not None
        proof = Proof(index, tuple(head.history.inclusion_proof(index)), head.note)
        return Receipt(publisher._journal.rows(index, 1)[0].entry, proof.encode())

    _replace(Publisher, "wait", wait)


def _answer_before_the_publication() -> None:
    """The cosigned checkpoint is shown to who waits, and written at the next round only."""
    publish = Releaser.publish

    def later(releaser: Any, *publication: Any) -> bytes:
        earlier, releaser.later = getattr(releaser, "later", None), publication
        if earlier is not None:
            publish(releaser, *earlier)
        note: bytes = publication[1]
        return note

    _replace(Releaser, "publish", later)


def _publish_before_the_tiles() -> None:
    """The log store is not asked to make anything durable: the checkpoint may reach the disk and the tiles not."""
    call = LayeredOs.__getattr__

    def careless(layered: LayeredOs, name: str) -> Any:
        return (lambda _: None) if name == "fsync" else call(layered, name)

    _replace(LayeredOs, "__getattr__", careless)


def _commit_without_sync() -> None:
    """The ledger says that it has committed when the kernel knows."""

    class Careless(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            return super().execute(sql.replace("synchronous=FULL", "synchronous=OFF"), *parameters)

    connect = sqlite3.connect
    _replace(sqlite3, "connect", lambda *values, **options: connect(*values, **options, factory=Careless))


def _sync_again() -> None:
    """After an fsync that failed the store just tries again."""
    _replace(LocalStore, "_require_writable", lambda _: None)


def _forget_what_was_cosigned() -> None:
    """A witness answers first and stores never."""

    def replace(slot: Slot, _note: bytes, checkpoint: Any, time: int) -> None:
        slot.state, slot.time = LogState(checkpoint.size, checkpoint.root), time

    _replace(Slot, "replace", replace)
    _replace(CheckpointStore, "persist", lambda *_: None)


MUTANTS: Final[Mapping[str, Callable[[], None]]] = {
    "answer before the quorum": _answer_before_the_quorum,
    "answer before the publication": _answer_before_the_publication,
    "publish before the tiles": _publish_before_the_tiles,
    "commit without sync": _commit_without_sync,
    "sync again": _sync_again,
    "forget what was cosigned": _forget_what_was_cosigned,
}
"""What is broken, by name."""
