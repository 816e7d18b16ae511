"""``custody log watch``: follows a live log and wakes somebody up."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from custody.app.arguments import seconds
from custody.app.auditing import Audit, open_log
from custody.app.telling import Command, Teller, Webhook
from custody.app.watching import Watch
from custody.audit.patterns.thresholds import Thresholds
from custody.cli.log.asking import require_ok
from custody.cli.log.group import DIRECTORY, FILE, log
from custody.cli.output import Output
from custody.cli.profile import genesis_option, home_of
from custody.cli.registry import place
from custody.errors import NotFoundError, UnavailableError

__all__ = ["watch"]

_USUAL = Thresholds()


@log.command()
@click.argument("source", type=DIRECTORY, required=False)
@click.option("--broker", is_flag=True, help="Follow the log at the broker that custody.toml names.")
@click.option("--run", "line", metavar="COMMAND", help="Run this for each alert, which is JSON on its standard input.")
@click.option("--webhook", metavar="URL", help="Post each alert there as JSON: https, or http to this machine.")
@click.option("--state", type=FILE, metavar="FILE", help="Memory, so that nothing is missed or told twice.")
@click.option("--every", default="30s", show_default=True, metavar="SPAN", help="How often to look.")
@click.option("--once", is_flag=True, help="Look once, and end: with exit code 11 where the audit has found something.")
@click.option(
    "--denials",
    type=click.IntRange(min=0),
    default=_USUAL.denials,
    show_default=True,
    help="Denials in a row of one requester.",
)
@click.option("--haste", default=f"{_USUAL.haste}s", show_default=True, metavar="SPAN", help="An approval sooner.")
@click.option(
    "--volume",
    type=click.IntRange(min=0),
    default=_USUAL.volume,
    show_default=True,
    help="Times the bytes an identity usually reads.",
)
@click.option(
    "--sessions",
    type=click.IntRange(min=0),
    default=_USUAL.sessions,
    show_default=True,
    help="Sessions before anything is usual.",
)
@click.option(
    "--floor",
    type=click.IntRange(min=0),
    default=_USUAL.floor,
    show_default=True,
    metavar="BYTES",
    help="Fewer bytes are never many.",
)
@click.option(
    "--strangers",
    type=click.IntRange(min=0),
    default=_USUAL.strangers,
    show_default=True,
    help="Strangers refused in a minute.",
)
@genesis_option
@click.pass_context
def watch(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    source: Path | None,
    broker: bool,
    line: str | None,
    webhook: str | None,
    state: Path | None,
    every: str,
    once: bool,
    denials: int,
    haste: str,
    volume: int,
    sessions: int,
    floor: int,
    strangers: int,
    genesis: str | None,
) -> None:
    """Follow a log from checkpoint to checkpoint, audit each increment, and tell what somebody should look at.

    Told are the findings of the audit, and patterns: requests denied in a row; an identity, a broker build or a trust
    root that was never there before; bytes far above habit; witness trouble; an approval within seconds. 0 switches a
    number off. What was in the log before the first run is learned from, not told.

    COMMAND is split into words once and started without a shell. What could not be told is told again later.

    Examples:
      custody log watch /srv/custody/log --state watch.state --run '/usr/local/bin/wake-somebody --team security'
      custody log watch --broker --state watch.state --webhook https://hooks.example.org/custody --every 10s
      custody log watch /srv/custody/log --state watch.state --once --output json
    """
    output, home = place(ctx).out, home_of(ctx)
    if (source is None) != broker:
        raise click.UsageError("give the directory of a log, or --broker")
    limits = Thresholds(denials, seconds(haste, "--haste"), volume, sessions, floor, strangers)
    tellers: list[Teller] = [Command(line)] if line is not None else []
    tellers += [Webhook(webhook)] if webhook is not None else []
    pause = max(1, seconds(every, "--every"))
    with open_log(source, home) as opened, _memory(state) as memory:
        watching = Watch(opened, Audit(home, genesis, directory=source), limits, tellers, memory)
        while True:
            try:
                report = watching.round(shown=lambda alert: _show(output, alert))
            except (NotFoundError, UnavailableError) as error:
                if once:
                    raise
                output.warn(f"{error.message}; trying again in {pause} seconds")
            else:
                if report is not None:
                    output.note(f"{report.size} entries, {report.found or 'no'} findings")
                if once and report is not None:
                    require_ok(report)
                    return
            time.sleep(pause)


@contextmanager
def _memory(state: Path | None) -> Iterator[Path]:
    """Without a file of its own a watch remembers as long as it runs."""
    if state is not None:
        yield state
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "state"


def _show(output: Output, alert: dict[str, Any]) -> None:
    where = f"entry {alert['entry']}: " if alert["entry"] is not None else ""
    output.line(f"{alert['time'] or '':<20}  {alert['code']:<18}  {where}{alert['text']}")
    output.result(alert)
