"""``custody witness``: run a witness."""

import os
import time
from pathlib import Path

import click

from custody.cli.registry import Group

__all__ = ["key", "serve", "witness"]


@click.group(cls=Group)
def witness() -> None:
    """Run a witness: it cosigns checkpoints of logs, and only ever forward (c2sp.org/tlog-witness).

    A witness run by the operator of the log proves nothing against that operator: ask another team. That team makes
    its own key, gives the public line to those who write trust roots, and gets the log's public line from them.

    Examples:
      custody witness key --name witness.example.org/audit witness.key
      custody witness serve --key DIR/witness/witness.key --state DIR/witness/state --log DIR/keys/log.vkey
    """


@witness.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", required=True, metavar="NAME", help="Like a URL without a scheme; never used for another key.")
def key(file: Path, name: str) -> None:
    """Make a witness's key: the secret goes to FILE, mode 0600; the public line (vkey) is printed.

    Examples:
      custody witness key --name witness.example.org/audit /etc/custody-witness/witness.key
    """
    from custody.adapters import small_files
    from custody.witness.serve import generate_key

    secret, public = generate_key(name, os.urandom)
    small_files.create(file, secret.encode(), 0o600)
    click.echo(public, nl=False)


@witness.command()
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Its key file, mode 0600.")
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Its memory: a local directory, never restored from a backup.",
)  # fmt: skip
@click.option(
    "--log", "logs", type=click.Path(path_type=Path, dir_okay=False), multiple=True, required=True,
    help="File with the vkey of a log to follow; repeat. A new one needs a restart.",
)  # fmt: skip
@click.option("--listen", default="127.0.0.1:7401", show_default=True, metavar="HOST:PORT", help="Port 0: any free.")
@click.option("--prefix", default="", metavar="PATH", help="Path before /add-checkpoint, such as /witness.")
@click.option("--rate", type=click.FloatRange(0.1), default=50.0, show_default=True, help="Requests a second and peer.")
@click.option("--burst", type=click.IntRange(1), default=200, show_default=True, help="Requests at once of a peer.")
def serve(*, key: Path, state: Path, logs: tuple[Path, ...], listen: str, prefix: str, rate: float, burst: int) -> None:
    """Run the witness until SIGTERM. Prints one line when it is ready, after one on standard error for each log.

    It speaks HTTP: put a TLS proxy in front. --rate and --burst are for strangers, who share them behind a proxy; a log
    that grows meets no limit. GET /health is 503 once nothing is signed any more, as after a failed fsync: then look at
    the disk and start it again. GET /metrics has the size of each log, and the answers by status.

    Examples:
      custody witness serve --key witness.key --state /var/lib/custody-witness --log log.vkey --listen 0.0.0.0:7401
    """
    from custody.adapters import small_files
    from custody.witness.serve import WitnessConfig
    from custody.witness.serve import serve as run

    small_files.make_directory(state, 0o700)
    keys = tuple(small_files.read(path, 4096).decode("utf-8", "replace").strip() for path in logs)
    run(WitnessConfig(listen, state, key, keys, prefix, rate, burst), lambda: int(time.time()), time.monotonic)
