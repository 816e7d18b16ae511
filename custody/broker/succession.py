"""From a log that has ended to its successor: deployment, ledger and leases stay, the log's name and key change."""

from collections.abc import Sequence

from custody.broker.context import Context
from custody.broker.trust import adopt_root
from custody.documents.dsse import Envelope
from custody.errors import ConfigError

__all__ = ["enter_successor"]


def enter_successor(context: Context, roots: Sequence[Envelope]) -> None:
    """Where the log has ended, log the trust root that names its successor, and go on there. Otherwise do nothing.

    May be repeated after a crash. Raises ``ConfigError`` where ``roots``, from genesis on, do not say what follows.
    """
    ledger = context.ledger
    with ledger.reading() as state:
        ended, epoch = state.ended, len(state.roots)
    if ended:
        if len(roots) <= epoch:
            raise ConfigError(
                "this log has ended, and no trust root is configured that names its successor",
                hint="add it at the end of roots, and the successor's key under [log]",
            )
        adopt_root(context, roots[epoch])
    with ledger.reading() as state:
        log = state.root.log if state.roots else None
    if log is not None and log.predecessor is not None:
        ledger.publisher.succeed(log.vkey, log.predecessor)
