"""``custody witness``: run a witness."""

import time
from pathlib import Path

import click

from custody.cli.registry import Group

__all__ = ["serve", "witness"]


@click.group(cls=Group)
def witness() -> None:
    """Run a witness: it cosigns checkpoints of a log, and only ever forward (c2sp.org/tlog-witness).

    A witness run by the operator of the log proves nothing against that operator: ask another team.

    Examples:
      custody witness serve --key DIR/witness/witness.key --state DIR/witness/state --log DIR/keys/log.vkey
    """


@witness.command()
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Its key file, mode 0600.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), required=True, help="Its memory.")
@click.option(
    "--log", "logs", type=click.Path(path_type=Path, dir_okay=False), multiple=True, required=True,
    help="File with the vkey of a log to follow; repeat.",
)  # fmt: skip
@click.option("--listen", default="127.0.0.1:7401", show_default=True, metavar="HOST:PORT", help="Port 0: any free.")
def serve(key: Path, state: Path, logs: tuple[Path, ...], listen: str) -> None:
    """Run the witness until SIGTERM. Prints one line when it is ready.

    Examples:
      custody witness serve --key witness.key --state /var/lib/custody-witness --log log.vkey --listen 0.0.0.0:7401
    """
    from custody.adapters import small_files
    from custody.witness.serve import WitnessConfig
    from custody.witness.serve import serve as run

    small_files.make_directory(state, 0o700)
    keys = tuple(small_files.read(path, 4096).decode("utf-8", "replace").strip() for path in logs)
    run(WitnessConfig(listen, state, key, keys), lambda: int(time.time()), time.monotonic)
