"""Ending sessions and leases: keys are wiped first, then it is logged."""

from custody.broker.context import Context
from custody.broker.sessions import Session
from custody.entries.entry import served_of
from custody.errors import CustodyError
from custody.rules.state import State
from custody.rules.stopping import overdue

__all__ = ["close_overdue", "end_session", "wipe", "wipe_keys"]


def end_session(context: Context, session: Session, outcome: str, reason: str | None) -> int | None:
    """End a session: nothing more is served, its keys are wiped, what it was served is logged.

    Returns the index of its outcome's entry, also when somebody else was faster. There is none, and ``None`` is
    returned, when the lease was closed or lost before what the session was served could be logged.
    """
    served = session.end()
    ledger = context.ledger

    mine = False

    def log(state: State) -> None:
        nonlocal mine
        if session.digest in state.requests[session.request].sessions:
            session.outcome = ledger.append(
                "session-outcome",
                request=session.request,
                terms=session.lease,
                session=session.digest,
                outcome=outcome,
                reason=reason,
                served=served_of({file: count for file, count in served.items() if count}, session.ranges),
                parent=session.entry,
            )
            mine = True

    try:
        ledger.together(log)
    except BaseException:
        if mine:  # it was to be committed, and was not
            session.outcome = None
        raise
    context.sessions.remove(session.digest)
    return session.outcome


def close_overdue(context: Context, only: str | None = None) -> int:
    """Close every request that is over now (or just ``only``), end its sessions, wipe its keys; return how many."""
    ledger = context.ledger
    with ledger.reading() as state:
        wanted = [state.requests[only]] if only else list(state.live.values())
        due = [(found.digest, found.granted) for found in wanted if overdue(state, found, ledger.clock())]
    for request, lease in due:
        wipe_keys(
            context, request, lease
        )  # of all of them first: what is over is over, also when nothing can be logged
    for request, lease in due:
        wipe(context, request, lease)
        with ledger.reading() as state:
            found = state.requests[request]
            reason = overdue(state, found, ledger.clock())
            if reason:
                ledger.append("close", request=request, terms=found.granted or None, reason=reason, parent=found.entry)
        ledger.forget_shares(request)
    return len(due)


def wipe_keys(context: Context, request: str, lease: str) -> None:
    """Wipe the keys of a request and its lease, and end its sessions. Waits for nothing: no disk, no database."""
    context.vault.drop_seed(request)
    if lease:
        for session in context.sessions.of_lease(lease):
            session.end()
        context.vault.drop_lease(lease)


def wipe(context: Context, request: str, lease: str) -> None:
    """Wipe what is held for a request and its lease; then log what was served, as far as that is possible now."""
    wipe_keys(context, request, lease)
    logging = True
    for session in context.sessions.of_lease(lease):
        try:
            if logging:
                end_session(context, session, "aborted", "stopped")
        except CustodyError:
            # The log is down: none of the others is tried, for each would wait. The sessions are over all the same;
            # without an outcome they count their whole ceiling.
            logging = False
        context.sessions.remove(session.digest)
