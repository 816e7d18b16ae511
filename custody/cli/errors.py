"""The one place where a command ends: one line that says what was wrong, a hint, and the exit code.

::

    custody: <what was wrong, and where>
      hint: <what to do>

Exit codes are those of ``custody.errors``; 2 is a mistake in the command itself, 1 something nobody foresaw. The
traceback is shown only with ``CUSTODY_DEBUG=1``, since it may hold what an error message was careful not to say.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final

import click

from custody.cli.output import visible
from custody.errors import ConfigError, CustodyError, InterruptedByUser

__all__ = ["EXIT_CODES", "run"]

_USAGE: Final = 2
_UNEXPECTED: Final = 1
_CLOSED_PIPE: Final = 141  # as if SIGPIPE had ended it

EXIT_CODES: Final = (
    (0, "done"),
    (1, "something nobody foresaw: CUSTODY_DEBUG=1 shows where"),
    (2, "the command itself is wrong: unknown option, missing argument"),
    (10, "bytes or fields that are not what they must be"),
    (11, "a commitment, segment, signature or proof does not verify; rollback; fork"),
    (12, "a rule says no: wrong passphrase, quorum, policy, lease, lockdown"),
    (13, "not found"),
    (14, "exists already"),
    (15, "something needed does not answer or is full: try again"),
    (16, "the installation is wrong: a setting, a file's mode, a missing pin"),
    (130, "interrupted (Ctrl-C, SIGTERM)"),
)


def run(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; whatever it raises is said in one line on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        command()
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, click.Abort):
        return _say(InterruptedByUser("interrupted"))
    except CustodyError as error:
        return _say(error)
    except BrokenPipeError:
        # Whoever read stdout has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    except OSError as error:
        from custody.adapters.small_files import explain

        return _say(explain(error))
    except ModuleNotFoundError as error:
        return _missing(error)
    except Exception as error:  # noqa: BLE001 - the last resort
        return _unexpected(error)
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM unwind like Ctrl-C, so that secrets are wiped and temporary files go."""
    del number, frame
    raise KeyboardInterrupt


def _say(error: CustodyError) -> int:
    _line(error.message, error.hint)
    _debug(error)
    return error.exit_code


def _usage(error: click.ClickException) -> int:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    _line(error.format_message(), hint)
    return _USAGE


def _missing(error: ModuleNotFoundError) -> int:
    extras = {
        "sqlalchemy": "broker",
        "alembic": "broker",
        "cedarpy": "broker",
        "grpc_health": "broker",
        "urllib3": "broker",
        "psycopg": "postgres",
        "starlette": "witness",
        "uvicorn": "witness",
        "prometheus_client": "broker",
    }
    extra = extras.get((error.name or "").partition(".")[0])
    if extra is None:
        return _say(ConfigError(f"{error.name} is not installed", hint="install custody with all it depends on"))
    return _say(ConfigError(f"{error.name} is not installed", hint=f"install custody[{extra}]"))


def _unexpected(error: Exception) -> int:
    _line(
        f"unexpected {type(error).__name__}: {error}",
        "" if _debugging() else "this is a bug; CUSTODY_DEBUG=1 shows where",
    )
    _debug(error)
    return _UNEXPECTED


def _line(message: str, hint: str) -> None:
    text = f"custody: {visible(' '.join(message.split()))}\n"
    if hint:
        text += f"  hint: {visible(' '.join(hint.split()))}\n"
    try:
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode())
        sys.stderr.flush()
    except OSError:
        pass  # nobody listens; the exit code still says it


def _debug(error: BaseException) -> None:
    if _debugging():
        sys.stderr.write("".join(traceback.format_exception(error)))


def _debugging() -> bool:
    return os.environ.get("CUSTODY_DEBUG") == "1"
