"""Every error Custody raises on purpose.

::

    CustodyError                    1   UNKNOWN
    ├── FormatError                10   INVALID_ARGUMENT     bytes or fields that are not what they must be
    ├── IntegrityError             11   DATA_LOSS            commitment, segment, signature, proof, fork
    ├── DeniedError                12   PERMISSION_DENIED    policy, quorum, lease, budget, lockdown
    ├── StoreError                  -   (one of its children is raised)
    │   ├── NotFoundError          13   NOT_FOUND
    │   ├── ConflictError          14   ALREADY_EXISTS       it exists with other content, or a race was lost
    │   └── UnavailableError       15   UNAVAILABLE          try again: store, ledger, witness or network is down
    │       └── StoppedError     15   UNAVAILABLE          not in this process: after a failed fsync it stays down
    ├── ConfigError                16   FAILED_PRECONDITION  the installation is wrong; a person must mend it
    └── InterruptedByUser         130   CANCELLED

The middle column is the exit code of the CLI, the last the gRPC status. A message is one line that says what was
wrong and where; ``hint`` says what to do. Messages are written for the party that made the mistake: what a stranger
may see is decided where it leaves the process (``custody.wire``), not here. A caller's own mistake in Python (a wrong
argument type, a negative length) stays ``ValueError``.
"""

from typing import ClassVar

__all__ = [
    "ConfigError",
    "ConflictError",
    "CustodyError",
    "DeniedError",
    "FormatError",
    "IntegrityError",
    "InterruptedByUser",
    "NotFoundError",
    "StoppedError",
    "StoreError",
    "UnavailableError",
]


class CustodyError(Exception):
    """Root of all errors raised on purpose. ``hint`` tells the user what to do next; it may be empty."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FormatError(CustodyError):
    """Input that does not follow its format; the message names the field or the byte."""

    exit_code = 10
    status = "INVALID_ARGUMENT"


class IntegrityError(CustodyError):
    """Cryptography says no: a commitment, segment, signature or proof does not verify, or two histories differ."""

    exit_code = 11
    status = "DATA_LOSS"


class DeniedError(CustodyError):
    """A rule says no: policy, quorum, lease, budget or lockdown."""

    exit_code = 12
    status = "PERMISSION_DENIED"


class StoreError(CustodyError):
    """A store or ledger could not do what was asked. Raised only as one of its children."""

    exit_code = 15
    status = "UNAVAILABLE"


class NotFoundError(StoreError):
    """What was asked for does not exist."""

    exit_code = 13
    status = "NOT_FOUND"


class ConflictError(StoreError):
    """It exists already with other content, or another writer was first."""

    exit_code = 14
    status = "ALREADY_EXISTS"


class UnavailableError(StoreError):
    """A part that is needed does not answer, or is full. Trying again later may succeed."""

    exit_code = 15
    status = "UNAVAILABLE"


class StoppedError(UnavailableError):
    """A store or ledger has stopped itself and takes no more writes in this process: only a new start helps.

    After a failed fsync the kernel may drop the pages and call the next one a success. So nothing is tried again; the
    next start reads from the disk what is really there.
    """


class ConfigError(CustodyError):
    """The installation is wrong: a setting, a missing key file, a state that contradicts what was published."""

    exit_code = 16
    status = "FAILED_PRECONDITION"


class InterruptedByUser(CustodyError):
    """Ctrl-C or SIGTERM reached a command that was doing something."""

    exit_code = 130
    status = "CANCELLED"
