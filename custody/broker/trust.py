"""The trust roots the log holds, hellos that ask which is in force, and who may read what of the log.

The persons of the trust root read all of it: custodians judge by it, and an auditor needs every entry and document. A
workload needs none of it to judge a receipt, which brings its own proof. It may read checkpoints and hash tiles, which
say nothing of what was logged, and the documents of requests that concern it: those that its view names and leaves out.
Entries and all other documents say who uses what, and why; to a workload they are not there.
"""

import re
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Final

from custody.broker.context import Context, Peer, known_peer
from custody.broker.requests import concerns
from custody.documents.actor import Person
from custody.documents.dsse import Envelope
from custody.documents.hello import Hello
from custody.entries.stored import LARGEST
from custody.errors import DeniedError, FormatError, NotFoundError
from custody.rules.signers import verify_actor
from custody.rules.state import State
from custody.tlog.tiles import MAX_OBJECT

__all__ = ["MAX_PATHS", "adopt_root", "hello", "is_brief", "log_names", "log_object", "log_objects", "roots"]

MAX_PATHS: Final = 256
"""Objects that are asked for at once."""

_MAX_TOGETHER: Final = 4 << 20  # bytes of objects in one answer, but for a larger one alone
_MAX_NAMES: Final = 10_000  # in one answer
_DOCUMENTS: Final = "documents/"
_LISTED: Final = ("checkpoints/", _DOCUMENTS, "tile/")
_DOCUMENT: Final = re.compile(r"\Adocuments/([0-9a-f]{64})\Z")
_LOG_PATH: Final = re.compile(
    r"\A(?:checkpoint|checkpoints/[0-9]{1,20}|documents/[0-9a-f]{64}"
    r"|(?:documents|tile/(?:entries|[0-9]{1,2}))/(?:x[0-9]{3}/){0,6}[0-9]{3}(?:\.p/[0-9]{1,3})?)\Z"
)


def roots(context: Context, peer: Peer) -> Sequence[tuple[Envelope, int]]:
    """Return every root from genesis on with the index of its entry."""
    ledger = context.ledger
    with ledger.reading() as state:
        known_peer(state, peer)
        places = list(zip(state.root_envelopes, state.root_entries, strict=True))
    return [(ledger.envelope(digest, int(entry.index)), int(entry.index)) for digest, entry in places]


def adopt_root(context: Context, envelope: Envelope) -> int:
    """Log a root that follows the one in force (or genesis, in an empty log). Returns the index of its entry."""
    ledger = context.ledger
    with ledger.reading() as state:
        parent = state.root_entries[-1] if state.root_entries else None
    return ledger.append("root", documents={"root": envelope}, parent=parent)


def is_brief(envelope: Envelope) -> bool:
    """Tell whether a hello is judged at once: a workload can make its certificates such that it takes long."""
    return isinstance(envelope.document(Hello).actor, Person)


def hello(context: Context, peer: Peer, envelope: Envelope) -> "Future[int]":
    """Log a tool's nonce; the witnessed entry names the root in force. Waits for nothing; the index of the entry comes.

    A glance is enough to see who asks: the rules judge it by the state that it is appended to. What takes long is
    judged here already, so that the ledger's thread need not.
    """
    ledger = context.ledger
    actor = envelope.document(Hello).actor
    glanced = ledger.glance()
    known_peer(glanced, peer)
    judged = None if is_brief(envelope) else verify_actor(envelope, actor, glanced.root, ledger.clock())

    def act(state: State) -> int:
        party = judged or verify_actor(envelope, actor, state.root, ledger.clock())
        return ledger.append("hello", actor=party, documents={"hello": envelope})

    return ledger.submit(act)


def log_object(context: Context, peer: Peer, path: str) -> bytes:
    """Return an object of the log by its path. Raises ``NotFoundError``, also for what the peer may not read."""
    with context.ledger.reading() as state:
        person = known_peer(state, peer)
    if not _LOG_PATH.match(path) or not (person or _open_to(context, peer, path)):
        raise NotFoundError("there is no such object in the log")
    return _read(context, path)


def log_objects(context: Context, peer: Peer, paths: Sequence[str]) -> Sequence[bytes | None]:
    """Return the first of several objects, at least one; ``None`` is one that is not there. For persons.

    Raises ``DeniedError``, ``FormatError`` for no path or too many.
    """
    _require_person(context, peer)
    if not 1 <= len(paths) <= MAX_PATHS:
        raise FormatError(f"{len(paths)} paths; 1 to {MAX_PATHS} are answered at once")
    found: list[bytes | None] = []
    total = 0
    for path in paths:
        try:
            data = _read(context, path) if _LOG_PATH.match(path) else None
        except NotFoundError:
            data = None
        total += len(data or b"")
        if found and total > _MAX_TOGETHER:
            break
        found.append(data)
    return found


def log_names(context: Context, peer: Peer, prefix: str, after: str) -> Sequence[str]:
    """Return the next paths of objects with a prefix, sorted, that come after ``after``. For persons.

    Raises ``DeniedError``, ``FormatError`` for what is not listed.
    """
    _require_person(context, peer)
    if prefix not in _LISTED:
        raise FormatError(f"prefix: {', '.join(_LISTED)} are listed")
    names = (name for name in context.log.list(prefix) if name > after)
    return list(islice(names, _MAX_NAMES))


def _read(context: Context, path: str) -> bytes:
    """Return an object as the log's store has it; what lies in a bundle also by its digest, from the ledger."""
    try:
        return context.log.get(path, MAX_OBJECT)
    except NotFoundError:
        document = _DOCUMENT.match(path)
        data = context.ledger.document(document[1]) if document is not None else b""
        if not 0 < len(data) <= LARGEST:  # the log has lost a large one: it must not be answered for
            raise
        return data


def _require_person(context: Context, peer: Peer) -> None:
    with context.ledger.reading() as state:
        person = known_peer(state, peer)
    if not person:
        raise DeniedError("only persons of the trust root read the whole log")


def _open_to(context: Context, peer: Peer, path: str) -> bool:
    """Tell whether a workload may read an object of the log."""
    if not path.startswith(_DOCUMENTS):
        return not path.startswith("tile/entries/")
    with context.ledger.reading() as state:
        found = state.requests.get(context.ledger.request_of(path.removeprefix(_DOCUMENTS)))
        return found is not None and concerns(state, found, peer)
