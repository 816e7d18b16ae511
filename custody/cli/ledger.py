"""``custody ledger``: make a broker's database again."""

import time
from pathlib import Path
from typing import Final

import click

from custody.cli.output import Output
from custody.cli.registry import group, place

__all__ = ["ledger"]

_EVERY: Final = 5.0  # seconds between two lines of progress


@group()
def ledger() -> None:
    """Make a broker's ledger again: its database holds nothing that the published log does not.

    Examples:
      custody ledger rebuild --config DIR/broker/broker.toml --from DIR/log
    """


@ledger.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The TOML file.")
@click.option(
    "--from",
    "log",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="LOG",
    help="Directory of the published log, or of a copy.",
)
@click.pass_context
def rebuild(context: click.Context, config: Path, log: Path) -> None:
    """Make the ledger that the configuration names from the published log and its documents.

    For a database that was lost, damaged, or restored from an older backup. Stop the broker first, and move what is
    left of the old ledger away: one that holds entries is never written over. Revocations, spent bytes, leases and
    roots are all in the log. What is lost are the shares at hand: custodians send them again with custody release.

    First the whole log is verified, as by custody log verify, from the genesis that the configuration pins. Then the
    witnesses are asked: if one has cosigned more of this log than LOG holds, LOG is an older copy and is refused. Tiles
    that were written and never published are moved out of the log store, to log-unpublished-SIZE beside the
    configuration; stops among them stay in effect. An interrupted run leaves no ledger (SQLite), or one that only the
    next run uses (PostgreSQL).

    Exit codes: 11 the log does not verify, is an older copy, or is forked; 13 there is no log; 14 the ledger is not
    empty; 15 a witness, the disk or the database does not answer; 16 the configuration is wrong, or the broker runs.

    Examples:
      custody ledger rebuild --config DIR/broker/broker.toml --from DIR/log
      custody ledger rebuild --config broker.toml --from /mnt/second-copy/log --output json
    """
    from custody.app.broker_config import load
    from custody.app.rebuilding import rebuild as make

    output = place(context).out
    done = make(load(config), config.resolve().parent, log, _Lines(output))
    for reason in done.silent:
        output.warn(f"{reason}; the broker starts when a quorum of witnesses confirms this ledger")
    rows = [
        ("ledger", done.ledger),
        ("entries", str(done.signed)),
        ("tree root", done.root.hex()),
        ("trust root", f"epoch {done.epoch}"),
    ]
    if done.signed > done.published:
        rows.append(("published", f"{done.published}; the broker will publish the rest when it starts"))
    if done.set_aside is not None:
        rows.append(("set aside", f"tiles that were never published, in {done.set_aside}"))
    if done.stops:
        rows.append(("stops", f"{done.stops} were never published; the broker will log them when it starts"))
    output.fields(rows, "The ledger is made")
    output.result(
        {
            "entries": done.signed,
            "epoch": done.epoch,
            "ledger": done.ledger,
            "published": done.published,
            "root": done.root.hex(),
            "set_aside": str(done.set_aside) if done.set_aside else None,
            "silent": list(done.silent),
            "stops": done.stops,
        }
    )


class _Lines:
    """Progress in lines, for terminals and journals alike: the end of each part, and one every few seconds."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Say it, if it is time to."""
        if done == total or time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            self._output.note(f"{what} {done} of {total} entries")
