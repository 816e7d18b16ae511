"""The trust roots the log holds, and hellos that ask which is in force."""

import re
from collections.abc import Sequence
from typing import Final

from custody.broker.context import Context, Peer, known_peer
from custody.documents.dsse import Envelope
from custody.documents.hello import Hello
from custody.entries.receipt import Receipt
from custody.errors import NotFoundError
from custody.rules.signers import verify_actor

__all__ = ["adopt_root", "hello", "log_object", "roots"]

_MAX_OBJECT: Final = 256 * (2 + 65_535)  # bytes of a full entry bundle
_LOG_PATH: Final = re.compile(
    r"\A(?:checkpoint|checkpoints/[0-9]{1,20}|documents/[0-9a-f]{64}"
    r"|tile/(?:entries|[0-9]{1,2})/(?:x[0-9]{3}/){0,6}[0-9]{3}(?:\.p/[0-9]{1,3})?)\Z"
)


def roots(context: Context, peer: Peer) -> Sequence[tuple[Envelope, Receipt]]:
    """Return every root from genesis on with the receipt of its entry."""
    ledger = context.ledger
    with ledger.reading() as state:
        known_peer(state, peer)
        places = list(zip(state.root_envelopes, state.root_entries, strict=True))
    return [
        (ledger.envelope(digest), ledger.receipt(int(entry.index), context.receipt_timeout)) for digest, entry in places
    ]


def adopt_root(context: Context, envelope: Envelope) -> int:
    """Log a root that follows the one in force (or genesis, in an empty log). Returns the index of its entry."""
    ledger = context.ledger
    with ledger.reading() as state:
        parent = state.root_entries[-1] if state.root_entries else None
    return ledger.append("root", documents={"root": envelope}, parent=parent)


def hello(context: Context, peer: Peer, envelope: Envelope) -> Receipt:
    """Log a tool's nonce; the witnessed entry names the root in force."""
    ledger = context.ledger
    document = envelope.document(Hello)
    with ledger.reading() as state:
        known_peer(state, peer)
        actor = verify_actor(envelope, document.actor, state.root, ledger.clock())
    # Not inside the block: so it shares its commit with others. The rules judge it once more, as of then.
    index = ledger.append("hello", actor=actor, documents={"hello": envelope})
    return ledger.receipt(index, context.receipt_timeout)


def log_object(context: Context, peer: Peer, path: str) -> bytes:
    """Return an object of the log by its path. Raises ``NotFoundError``; a path that is none of the log's is one."""
    with context.ledger.reading() as state:
        known_peer(state, peer)
    if not _LOG_PATH.match(path):
        raise NotFoundError("there is no such object in the log")
    return context.log.get(path, _MAX_OBJECT)
