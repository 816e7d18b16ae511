"""``custody log report``: the log as one page for people who look rather than read."""

from pathlib import Path

import click

from custody.app.auditing import Audit, open_log
from custody.app.report_page import write_page
from custody.audit.page.data import MOST
from custody.cli.log.asking import require_ok
from custody.cli.log.group import DIRECTORY, FILE, log
from custody.cli.profile import genesis_option, home_of
from custody.cli.registry import place
from custody.documents.show import size_text

__all__ = ["report"]


@log.command()
@click.argument("source", type=DIRECTORY, required=False)
@click.option("--broker", is_flag=True, help="Read the log from the broker that custody.toml names.")
@click.option("--html", "file", required=True, type=FILE, metavar="FILE", help="The page; it must not exist.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--last",
    type=click.IntRange(1, MOST),
    default=MOST,
    show_default=True,
    metavar="N",
    help="How many entries the page holds: the newest, and those that they build on.",
)
@click.option("--state", type=FILE, metavar="FILE", help="Memory of earlier audits, as for custody log verify.")
@genesis_option
@click.pass_context
def report(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    source: Path | None,
    broker: bool,
    file: Path,
    force: bool,
    last: int,
    state: Path | None,
    genesis: str | None,
) -> None:
    """Verify a log and write one page that shows it: leases, sessions, bytes, custodians, findings, every entry.

    The page needs no network and no server. Opened in a browser it verifies what it holds by itself: checkpoint,
    cosignatures, proofs, trust roots, signatures of persons and brokers, and marks what it did not verify. It names
    persons, jobs and reasons: pass it on as you would the log.

    Examples:
      custody log report /srv/custody/log --html access.html
      custody log report --broker --html access.html --last 2000 --force
    """
    output, home = place(ctx).out, home_of(ctx)
    if (source is None) != broker:
        raise click.UsageError("give the directory of a log, or --broker")
    with open_log(source, home) as opened:
        how = Audit(home, genesis, None, state, source)
        done, size = write_page(opened, how, file, most=last, replace=force)
    output.fields(
        [("page", str(file)), ("size", size_text(size)), ("entries", f"{min(last, done.size)} of {done.size}")]
    )
    output.result({"bytes": size, "findings": done.found, "page": str(file), "size": done.size, "verified": done.ok})
    require_ok(done)
