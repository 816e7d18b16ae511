"""What a database error means: try again, stop for good, or somebody damaged the file.

The question at every failure is what is now on the disk.

* Busy, full, no connection: nothing was committed. ``UnavailableError``; the next attempt may succeed.
* A commit that failed any other way (a failed fsync, a connection lost while it ran, Ctrl-C): unknown. After a failed
  fsync the kernel may drop the pages and call the next fsync a success, and SQLite would just try again, so nothing
  that this process holds may be believed. ``LedgerStoppedError``: this journal writes no more. The next start reads
  from the disk what is there, and both outcomes are sound: the entry stands, or it does not.
* An I/O error before the commit: nothing was committed, but the disk fails. ``LedgerStoppedError`` as well.
"""

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from custody.errors import CustodyError, IntegrityError, StoppedError, UnavailableError

__all__ = ["LedgerStoppedError", "commit_failed_whole", "explain", "is_disk_failure"]

# SQLite's primary result codes (sqlite.org/rescode.html); the low byte of the extended ones.
_RETRY: Final = {
    sqlite3.SQLITE_BUSY: "is busy: another process writes to it",
    sqlite3.SQLITE_LOCKED: "is busy: another connection writes to it",
    sqlite3.SQLITE_FULL: "is full: no space on its file system",
}
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# PostgreSQL error classes (appendix A of its manual) by which the server says that a transaction did not commit.
_ROLLED_BACK: Final = frozenset({"23", "25", "40", "53", "55"})
_LOCK_TIMEOUT: Final = "55P03"
_DISK_FULL: Final = "53100"
_POSTGRES_DAMAGED: Final = frozenset({"XX001", "XX002"})


class LedgerStoppedError(StoppedError):
    """The ledger accepts no more writes in this process; only a new start helps.

    ``outcome_unknown`` says that the transaction which raised this may have been committed all the same; it is false
    for those that were refused afterwards.
    """

    def __init__(self, message: str, *, outcome_unknown: bool) -> None:
        super().__init__(message, hint="look at the disk or the database, then start the broker again")
        self.outcome_unknown = outcome_unknown


def explain(error: SQLAlchemyError) -> CustodyError:
    """Return the error to raise for one of the database, in one line."""
    if isinstance(error, PoolTimeoutError):
        return UnavailableError("the ledger is busy: all its connections are in use")
    code, state = _sqlite_code(error), _sqlstate(error)
    if code in _DAMAGED or state in _POSTGRES_DAMAGED:
        return IntegrityError(
            f"the ledger's database is damaged: {_line(error)}",
            hint="custody ledger rebuild --help says how it is made again",
        )
    if code in _RETRY:
        return UnavailableError(f"the ledger {_RETRY[code]}")
    if state == _LOCK_TIMEOUT:
        return UnavailableError(f"the ledger {_RETRY[sqlite3.SQLITE_BUSY]}")
    if state == _DISK_FULL:
        return UnavailableError(f"the ledger {_RETRY[sqlite3.SQLITE_FULL]}")
    return UnavailableError(f"the ledger does not answer: {_line(error)}")


def commit_failed_whole(error: SQLAlchemyError) -> bool:
    """Tell whether an error raised by COMMIT proves that nothing was committed.

    SQLITE_FULL is such a proof in WAL mode: the frame that commits is written last. A failed fsync is not.
    """
    state = _sqlstate(error)
    return _sqlite_code(error) in _RETRY or (state is not None and state[:2] in _ROLLED_BACK)


def is_disk_failure(error: SQLAlchemyError) -> bool:
    """Tell whether SQLite met an I/O error that is no lack of space."""
    return _sqlite_code(error) == sqlite3.SQLITE_IOERR


def _sqlite_code(error: SQLAlchemyError) -> int | None:
    original = error.orig if isinstance(error, DBAPIError) else None
    code = getattr(original, "sqlite_errorcode", None)  # absent where the module itself raised
    return code & 0xFF if isinstance(code, int) else None


def _sqlstate(error: SQLAlchemyError) -> str | None:
    original = error.orig if isinstance(error, DBAPIError) else None
    state = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else None


def _line(error: SQLAlchemyError) -> str:
    """Say what the driver said, without statement and parameters, which stand in ``str(error)``."""
    original = error.orig if isinstance(error, DBAPIError) else error
    lines = str(original).splitlines()
    return lines[0].strip()[:200] if lines else type(original).__name__
