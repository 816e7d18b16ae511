"""Stopping: at once, whatever the log and the database do.

Order: the signature and the right to stop are checked; the request is shut, so that nothing opens it any more; the keys
are wiped and running streams end; a tombstone of the signed stop is fsynced to a local folder, which the next start
honours; then it is logged. Until the caller holds the receipt the stop is effective here but NOT CONFIRMED: tools send
it again, and the broker itself tries to log it until that succeeds.
"""

import os
import threading
from pathlib import Path

from custody.broker.closing import close_overdue, wipe, wipe_keys
from custody.broker.context import Context
from custody.documents.dsse import Envelope
from custody.documents.stop import Stop
from custody.errors import ConflictError, CustodyError, FormatError, IntegrityError, UnavailableError
from custody.rules.facts import find_lease, find_request
from custody.rules.signers import verify_actor
from custody.rules.state import RequestState, State
from custody.rules.stopping import may_stop

__all__ = ["drop_tombstones", "honour_tombstones", "log_stops", "stop"]

_REASON = {"withdraw": "withdrawn", "return": "returned", "revoke": "revoked"}


def stop(context: Context, envelope: Envelope) -> int:
    """Stop a request or lease now; return the index of the entry that says so, not published yet.

    The same envelope again returns the same index. Raises ``UnavailableError`` when it took effect but could not be
    logged yet: the caller must send it again.
    """
    ledger = context.ledger
    document = envelope.document(Stop)
    state = ledger.glance()
    if document.deployment != state.deployment:
        message = f"the stop is of deployment {document.deployment}"
        raise IntegrityError(message)
    found = _target(state, document)
    party = verify_actor(envelope, document.actor, state.root, ledger.clock())
    may_stop(state, found, document, party.id)
    closed = found.phase == "closed"  # looked at first: the stop that closes it is in use before that
    known = envelope.digest in state.used
    if closed and not known:
        message = f"it is closed already: {found.reason}"
        raise ConflictError(message)
    if not known:
        context.shut.add(found.digest)
        context.unlogged[envelope.digest] = envelope
        wipe_keys(context, found.digest, found.granted)
        _bury(context.stops, envelope)
        wipe(context, found.digest, found.granted)
    return _settle(context, envelope)


def log_stops(context: Context) -> None:
    """Log the stops that took effect and could not be logged then. Raises ``UnavailableError`` when they still cannot.

    One that the rules refuse by now (a certificate has ended) stays in effect; its tombstone sees to the next start.
    """
    for digest, envelope in list(context.unlogged.items()):
        try:
            _settle(context, envelope)
        except UnavailableError:
            raise
        except CustodyError:
            context.unlogged.pop(digest, None)


def honour_tombstones(context: Context) -> None:
    """At start: log the stops that took effect but were never logged. Raises ``UnavailableError`` if that fails again,
    ``IntegrityError`` for a file that holds no stop: a broker which cannot honour a stop does not serve.

    A stop that was good when it took effect and is not by now (its certificate has ended, its device is gone from the
    trust root) cannot be logged. Its request stays shut all the same, for as long as the tombstone lies there.
    """
    for path in context.stops.glob("*.tmp"):
        path.unlink()  # of a stop that was not written down in time, and so not acknowledged
    for path in sorted(context.stops.glob("*.stop")):
        try:
            envelope = Envelope.parse(path.read_bytes())
            document = envelope.document(Stop)
        except FormatError as error:
            message = f"{path}: not a stop: {error.message}"
            raise IntegrityError(
                message, hint="find out what was stopped, and stop it again; then remove the file"
            ) from None
        try:
            _settle(context, envelope)
        except UnavailableError:
            raise
        except CustodyError:
            with context.ledger.reading() as state:
                request = state.leases.get(document.target, document.target)
                found = state.requests.get(request)
                closed = found is not None and found.phase == "closed"
            if closed:
                path.unlink()  # the tombstone has done its work
            else:
                context.shut.add(request)


def _settle(context: Context, envelope: Envelope) -> int:
    """Log a stop that took effect, unless it is logged; close what it stopped; return its index.

    Its tombstone lies there until the entry is published: a ledger made again from the log knows no later one.
    """
    document = envelope.document(Stop)
    with context.ledger.reading() as state:
        found = _target(state, document)
        if envelope.digest in state.used:
            index = _index_of(context, found.digest, envelope)
        else:
            index = _log(context, envelope, document)
    close_overdue(context, found.digest)
    context.unlogged.pop(envelope.digest, None)
    context.shut.discard(found.digest)
    if _tombstone(context.stops, envelope).exists():
        context.unpublished[envelope.digest] = index
    return index


def drop_tombstones(context: Context) -> None:
    """Remove the tombstones of stops that are published."""
    size = context.ledger.publisher.published.size
    for digest, index in list(context.unpublished.items()):
        if index < size:
            (context.stops / f"{digest}.stop").unlink(missing_ok=True)
            context.unpublished.pop(digest, None)


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
    path = _tombstone(folder, envelope)
    draft = path.with_suffix(f".{threading.get_ident()}.tmp")  # the same stop may come twice at once
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


def _tombstone(folder: Path, envelope: Envelope) -> Path:
    return folder / f"{envelope.digest}.stop"


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
