"""Starting the broker's helpers: exec'd Python with nothing of this process in it but what is passed."""

import subprocess
import sys
from collections.abc import Sequence

from custody.errors import UnavailableError

__all__ = ["descriptors", "spawn"]


def spawn(module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> "subprocess.Popen[bytes]":
    """Start a module with pipes for standard input and output. Raises ``UnavailableError``."""
    try:
        # -I: no user site, no PYTHON* variables; the environment is empty for the same reason.
        return subprocess.Popen(  # noqa: S603 - our own module, and numbers that we made
            [sys.executable, "-I", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={},
            pass_fds=pass_fds,
        )
    except OSError as error:
        message = f"the opener process cannot be started: {error.strerror}"
        raise UnavailableError(message, hint="the broker's host is out of processes, files or memory") from None


def descriptors(process: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Return the descriptors of a helper's standard input and output. ``ValueError`` where they are closed."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError
    return process.stdin.fileno(), process.stdout.fileno()
