"""How a log goes on where its predecessor ended: the same tree, under another name and key.

::

    predecessor   … N entries, the last of them says that the log ends      final checkpoint, size N, old log and quorum
    successor     entry N: the trust root that names it and that checkpoint  first checkpoint, size N + 1 or more

The tree, its tiles and the kept checkpoints stay; only ``checkpoint`` is the successor's from here on. The one moment
that counts is the swap in the ledger, from the final checkpoint to the successor's first.
"""

from custody.errors import IntegrityError, NotFoundError
from custody.ports import Journal, Store
from custody.publishing.batch import BatchWriter, Head
from custody.publishing.history import History, refuse_older_ledger
from custody.publishing.recovery import PUBLISHED, documents_under, rows_under
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note

__all__ = ["succeed"]


def succeed(journal: Journal, store: Store, batch: BatchWriter, final: bytes) -> None:
    """Sign the successor's first checkpoint, unless that was done before. It is published like any other.

    ``batch`` signs with the successor's key; ``final`` is the predecessor's final checkpoint, verified. Raises
    ``ConfigError`` or ``IntegrityError`` where ledger, log store and that checkpoint do not belong together.
    """
    last, signed = _checkpoint(final), journal.checkpoint()
    if signed is None or _checkpoint(signed) != last:
        return  # it was signed already; whether all is as it should be is for ``recover`` to judge
    tree = rows_under(journal, last)
    try:
        history = History(store, last)
    except (IntegrityError, NotFoundError) as error:
        raise IntegrityError(
            f"the log store does not hold the log that ended: {error.message}",
            hint="the successor goes on in its predecessor's log store, or in a copy of all of it",
        ) from error
    _make_room(store, last)
    batch.restore(tree, documents_under(journal, last.size))
    batch.grow(Head(signed, history), journal.size())


def _make_room(store: Store, last: Checkpoint) -> None:
    """Take the final checkpoint away from where the newest one is shown; it stays under ``checkpoints/``."""
    try:
        shown = _checkpoint(store.get(PUBLISHED))
    except NotFoundError:
        return
    if shown != last:
        raise refuse_older_ledger(shown.size, last.size, "the log store")
    store.delete(PUBLISHED)


def _checkpoint(note: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note).text)
