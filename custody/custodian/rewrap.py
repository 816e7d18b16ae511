"""Starts the process in which a share is in the clear for a moment, and takes what it wrapped. See ``rewrap_child``."""

import struct
import subprocess
import sys
import threading
from typing import Final

import msgspec

from custody.crypto.secret import SecretBytes
from custody.custodian.rewrap_child import MAX_FRAME, Answer, Job, read_exactly, write_all
from custody.errors import CustodyError, FormatError, IntegrityError, UnavailableError

__all__ = ["rewrap_aside"]

_TIMEOUT: Final = 30.0  # seconds; opening and sealing take milliseconds, starting Python a few hundred
_LENGTH: Final = struct.Struct(">I")
_ERRORS: Final[dict[str, type[CustodyError]]] = {kind.__name__: kind for kind in (FormatError, IntegrityError)}


def rewrap_aside(job: Job, seed: SecretBytes) -> tuple[bytes, ...]:
    """Do ``rewrap_child.rewrap`` in a process of its own.

    Raises what that raises, and ``UnavailableError`` where the process dies.
    """
    # -I: no user site, no PYTHON* variables; the environment is empty for the same reason.
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "custody.custodian.rewrap_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={},
    )
    timer = threading.Timer(_TIMEOUT, process.kill)  # its reader then sees the end of the pipe
    timer.daemon = True
    timer.start()
    try:
        answer = _exchange(process, msgspec.json.encode(job), seed)
    except (OSError, FormatError, msgspec.MsgspecError):
        raise UnavailableError(
            "the process that re-wraps your share ended without an answer",
            hint="is custody installed in this Python, and is there memory?",
        ) from None
    finally:
        timer.cancel()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.kill()
        process.wait()
    if answer.error:
        raise _ERRORS.get(answer.error, IntegrityError)(answer.message)
    if len(answer.wrapped) != len(job.targets):
        raise IntegrityError("the process that re-wraps your share answered something else")
    return answer.wrapped


def _exchange(process: "subprocess.Popen[bytes]", job: bytes, seed: SecretBytes) -> Answer:
    if process.stdin is None or process.stdout is None:
        raise AssertionError
    write_all(process.stdin.fileno(), _LENGTH.pack(len(job)) + job)
    write_all(process.stdin.fileno(), seed.view)
    (length,) = _LENGTH.unpack(read_exactly(process.stdout.fileno(), _LENGTH.size))
    if length > MAX_FRAME:
        raise FormatError("an absurd answer")
    return msgspec.json.decode(read_exactly(process.stdout.fileno(), length), type=Answer)
