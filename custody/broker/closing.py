"""Ending sessions and leases: keys are wiped first, then it is logged."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from custody.broker.context import Context
from custody.broker.sessions import Session
from custody.entries.entry import served_of
from custody.errors import CustodyError
from custody.rules.state import State
from custody.rules.stopping import overdue

__all__ = ["close_overdue", "end_session", "wipe", "wipe_all", "wipe_keys"]

_TOGETHER: Final = 64
"""Sessions whose ends are logged in one commit: a fleet's lease has thousands, and who stops it waits for that."""


def end_session(context: Context, session: Session, outcome: str, reason: str | None) -> int | None:
    """End a session: nothing more is served, its keys are wiped, what it was served is logged.

    Returns the index of its outcome's entry, also when somebody else was faster. There is none, and ``None`` is
    returned, when the lease was closed or lost before what the session was served could be logged.
    """
    _log_ends(context, [session], outcome, reason)
    context.sessions.remove(session.digest)
    return session.outcome


def _log_ends(context: Context, sessions: Sequence[Session], outcome: str, reason: str | None) -> None:
    """Log what sessions were served, in one commit, unless that is logged."""
    served = {session.digest: session.end() for session in sessions}
    ledger = context.ledger

    def log(state: State) -> None:
        for session in sessions:
            if session.digest in state.requests[session.request].sessions:
                session.outcome = ledger.append(
                    "session-outcome",
                    request=session.request,
                    terms=session.lease,
                    session=session.digest,
                    outcome=outcome,
                    reason=reason,
                    served=served_of({file: n for file, n in served[session.digest].items() if n}, session.ranges),
                    parent=session.entry,
                )

    try:
        ledger.together(log)
    except BaseException:
        for session in sessions:  # what was to be committed was not, unless somebody else has logged it since
            if _open(context, session):
                session.outcome = None
        raise


def _open(context: Context, session: Session) -> bool:
    """Whether the log has no outcome of a session, as far as can be known now."""
    with suppress(CustodyError), context.ledger.reading() as state:
        return session.digest in state.requests[session.request].sessions
    return True


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


def wipe_all(context: Context) -> None:
    """Wipe every key and end every session. Waits for nothing; whoever waits for a store, for a session, is let go."""
    for session in context.sessions.all():
        session.end()
    context.vault.wipe()


def wipe(context: Context, request: str, lease: str) -> None:
    """Wipe what is held for a request and its lease; then log what was served, as far as that is possible now."""
    wipe_keys(context, request, lease)
    sessions = context.sessions.of_lease(lease)
    # Where the log is down, none of the others is tried, for each would wait. The sessions are over all the same;
    # without an outcome they count their whole ceiling.
    with suppress(CustodyError):
        for begin in range(0, len(sessions), _TOGETHER):
            _log_ends(context, sessions[begin : begin + _TOGETHER], "aborted", "stopped")
    for session in sessions:
        context.sessions.remove(session.digest)
