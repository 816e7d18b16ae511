"""Stopping: at once, whatever the log and the database do.

Order: the signature and the right to stop are checked; a tombstone of the signed stop is fsynced to a local folder,
which the next start honours; the keys are wiped and running streams end; then it is logged. Until the caller holds the
receipt the stop is effective here but NOT CONFIRMED, and tools send it again.
"""

import os
from pathlib import Path

from custody.broker.closing import close_overdue, wipe
from custody.broker.context import Context
from custody.documents.dsse import Envelope
from custody.documents.stop import Stop
from custody.entries.receipt import Receipt
from custody.errors import ConflictError, FormatError, UnavailableError
from custody.rules.facts import find_lease, find_request
from custody.rules.signers import verify_actor
from custody.rules.state import RequestState, State
from custody.rules.stopping import may_stop

__all__ = ["honour_tombstones", "stop"]

_REASON = {"withdraw": "withdrawn", "return": "returned", "revoke": "revoked"}


def stop(context: Context, envelope: Envelope) -> Receipt:
    """Stop a request or lease now and return the receipt of the stop.

    The same envelope again returns the same receipt. Raises ``UnavailableError`` when it took effect but could not be
    logged yet: the caller must send it again.
    """
    ledger = context.ledger
    document = envelope.document(Stop)
    with ledger.reading() as state:
        found = _target(state, document)
        party = verify_actor(envelope, document.actor, state.root, ledger.clock())
        may_stop(state, found, document, party.id)
        if envelope.digest in state.used:
            return ledger.receipt(_index_of(context, found.digest, envelope), context.receipt_timeout)
        if found.phase == "closed":
            message = f"it is closed already: {found.reason}"
            raise ConflictError(message)
        request, lease = found.digest, found.granted
    try:
        tombstone = _bury(context.stops, envelope)
    finally:
        wipe(context, request, lease)  # even when the disk is full: stopping never waits
    index = _log(context, envelope, document)
    close_overdue(context, request)
    tombstone.unlink(missing_ok=True)
    return ledger.receipt(index, context.receipt_timeout)


def honour_tombstones(context: Context) -> None:
    """At start: log the stops that took effect but were never logged. Raises ``UnavailableError`` if that fails again,
    so that a broker which cannot honour a stop does not serve.
    """
    for path in sorted(context.stops.glob("*.stop")):
        envelope = Envelope.parse(path.read_bytes())
        try:
            _log(context, envelope, envelope.document(Stop))
        except UnavailableError:
            raise
        except ConflictError:
            pass  # logged before the crash, or closed since: the tombstone has done its work
        path.unlink()


def _log(context: Context, envelope: Envelope, document: Stop) -> int:
    ledger = context.ledger
    with ledger.reading() as state:
        found = _target(state, document)
        return ledger.append(
            "stop",
            actor=verify_actor(envelope, document.actor, state.root, ledger.clock()),
            documents={"stop": envelope},
            reason=_REASON[document.action],
            request=found.digest,
            terms=None if document.action == "withdraw" else document.target,
            parent=found.entry,
        )


def _bury(folder: Path, envelope: Envelope) -> Path:
    """Write the tombstone durably. Raises ``UnavailableError``: a restart would not know of the stop then."""
    path = folder / f"{envelope.digest}.stop"
    draft = path.with_suffix(".tmp")
    try:
        with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(envelope.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        message = f"the stop could not be written down: {error.strerror}"
        raise UnavailableError(message, hint="the keys are wiped; send it again until it is confirmed") from None
    return path


def _target(state: State, document: Stop) -> RequestState:
    if document.action == "withdraw":
        return find_request(state, document.target)
    return find_lease(state, document.target)


def _index_of(context: Context, request: str, envelope: Envelope) -> int:
    wanted = envelope.envelope_digest
    for index in context.ledger.entries_of(request):
        entry = context.ledger.entry(index)
        if any(item.envelope == wanted for item in entry.documents):
            return index
    message = "the stop was used, but its entry is not at hand"
    raise FormatError(message)
