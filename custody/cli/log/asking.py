"""What the questions to a log share: their options, the verification before them, and how they end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from custody.app.arguments import seconds
from custody.app.auditing import Audit, open_log
from custody.app.questions import Known, know
from custody.audit.questions import Window
from custody.audit.report import Report
from custody.cli.log.group import DIRECTORY, FILE
from custody.cli.output import Output
from custody.cli.profile import clock, genesis_option, home_of, roots_option
from custody.cli.registry import place
from custody.errors import FormatError, IntegrityError
from custody.values import Time

__all__ = ["asked_log", "require_ok", "source_options", "warn_of", "window", "window_options"]

_F = TypeVar("_F", bound=Callable[..., Any])


def source_options(function: _F) -> _F:
    """Add --log, --state, --unverified, --root and --genesis; a command passes them on to ``asked_log``."""
    for option in (
        genesis_option,
        roots_option,
        click.option("--unverified", is_flag=True, help="Do not audit the log first: faster, and proves much less."),
        click.option("--state", type=FILE, metavar="FILE", help="Memory of earlier audits, as for custody log verify."),
        click.option(
            "--log", "directory", type=DIRECTORY, metavar="DIR", help="Directory of the log.  [default: the broker]"
        ),
    ):
        function = option(function)
    return function


def window_options(function: _F) -> _F:
    """Add --since and --until."""
    times = "a time such as 2026-11-22T17:00:00Z, a day, or a span back such as 7d."
    until = click.option("--until", metavar="TIME", help=f"Only what was before: {times}")
    return click.option("--since", metavar="TIME", help=f"Only what was at or after: {times}")(until(function))


def window(since: str | None, until: str | None) -> Window:
    """Read --since and --until. ``FormatError`` names the option."""
    found = Window(_moment(since, "--since"), _moment(until, "--until"))
    if found.since is not None and found.until is not None and found.since >= found.until:
        raise FormatError("--until: not after --since")
    return found


@contextmanager
def asked_log(  # noqa: PLR0917 - the options of source_options, in their order
    ctx: click.Context,
    directory: Path | None,
    state: Path | None,
    unverified: bool,
    roots: tuple[Path, ...],
    genesis: str | None,
) -> Iterator[Known]:
    """Open a log and verify it; afterwards end with exit code 11 where the audit has found something."""
    if unverified and state is not None:
        raise click.UsageError("--state is the memory of audits: not with --unverified")
    output, home = place(ctx).out, home_of(ctx)
    with open_log(directory, home) as source:
        how = Audit(home, genesis, None, state, directory)
        known = know(source, how, roots, verify=not unverified)
        warn_of(output, known)
        yield known
    if known.report is not None:
        require_ok(known.report)


def warn_of(output: Output, known: Known) -> None:
    """Say on stderr what stands behind an answer."""
    if known.report is None:
        output.warn("NOT AUDITED: these are the entries of the log, but whether they keep the rules was not verified")
    elif known.report.ok:
        output.note(f"verified: {known.report.size} entries, nothing found; freshness unverified")


def require_ok(report: Report) -> None:
    """Raise ``IntegrityError`` where an audit has found something."""
    if not report.ok:
        number = f"{report.found} finding{'' if report.found == 1 else 's'}"
        raise IntegrityError(
            f"the log is not what it must be: {number}; what is shown may be wrong",
            hint="see what is wrong with: custody log verify",
        )


def _moment(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    for spelling in (text, f"{text}T00:00:00Z"):
        try:
            return int(Time.parse(spelling))
        except ValueError:
            continue
    try:
        return clock() - seconds(text, option)
    except FormatError:
        hint = "write 2026-11-22T17:00:00Z, 2026-11-22, or a span such as 12h or 7d"
        raise FormatError(f"{option}: {text[:40]!a} is not a time", hint=hint) from None
