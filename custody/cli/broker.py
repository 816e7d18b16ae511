"""``custody broker``: configure and run a broker."""

from pathlib import Path

import click

from custody.cli.registry import Group, place

__all__ = ["broker", "configure", "serve"]


@click.group(cls=Group)
def broker() -> None:
    """Configure and run a broker: it rebuilds keys in memory only, for authorized, logged jobs.

    Examples:
      custody broker configure --dir DIR --address 0.0.0.0:7400 --witness witness-1=http://127.0.0.1:7401

      custody broker serve --config DIR/broker/broker.toml
    """


@broker.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Deployment directory, made by custody init.",
)
@click.option("--address", required=True, metavar="HOST:PORT", help="Where it listens; port 0 takes any free one.")
@click.option("--witness", "witnesses", multiple=True, metavar="NAME=URL", help="Where a witness answers; repeat.")
@click.pass_context
def configure(context: click.Context, directory: Path, address: str, witnesses: tuple[str, ...]) -> None:
    """Write broker.toml for a deployment made by custody init, once its genesis trust root is signed.

    Examples:
      custody broker configure --dir DIR --address 127.0.0.1:7400 --witness witness-1=http://127.0.0.1:7401
    """
    from custody.adapters import small_files
    from custody.app.broker_config import template
    from custody.app.roots import read_envelope
    from custody.documents.root import Root
    from custody.errors import ConfigError

    named: dict[str, str] = {}
    for item in witnesses:
        name, equals, url = item.partition("=")
        if not equals or not name or not url.startswith(("http://", "https://")):
            raise ConfigError(f"--witness {item}: not NAME=URL")
        named[name] = url
    envelope = read_envelope(directory / "keys/root.json")
    root = envelope.document(Root)
    text = template(
        deployment=root.deployment,
        genesis=envelope.digest,
        broker=root.brokers[0].id,
        address=address,
        witnesses=named,
    )
    path = directory / "broker/broker.toml"
    small_files.replace(path, text.encode(), 0o600)
    place(context).out.note(f"wrote {path}")


@broker.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The TOML file.")
def serve(config: Path) -> None:
    """Run the broker until SIGTERM. Prints one line when it answers calls; logs JSON lines to standard error.

    It refuses to start when anything contradicts anything: roots, ledger, published log, witnesses, policy.

    Examples:
      custody broker serve --config DIR/broker/broker.toml
    """
    from custody.app.broker import serve as run
    from custody.app.broker_config import load

    def ready(address: str) -> None:
        click.echo(f"broker listening on {address}")

    run(load(config), config.resolve().parent, ready)


@broker.command(name="end-log")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The TOML file.")
@click.option("--successor", metavar="NAME", required=True, help="Name of the next log; the deployment id stays.")
@click.option(
    "--out",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where the successor's key, and what the next trust root needs, are written.",
)
@click.pass_context
def end_log(context: click.Context, config: Path, successor: str, directory: Path) -> None:
    """End the deployment's log, so that another one goes on in its place: with a new name and key, for a new start with
    other witnesses, or because a log key gets old. Entries, versions and leases stay, and so does the log's store.

    The broker must be stopped, and stays so until governance has signed a trust root that names the successor. In the
    ceremony file, [log] gets vkey and predecessor, [trust] gets witness_policy: log.vkey, final.checkpoint and
    witness.policy in --out. Tell every witness the new log (witness serve --log log.vkey) and drop the old one. Then
    add the new root at the end of roots in broker.toml, name log.key under [log], and start the broker.

    There is no way back: nothing but that root can follow. The command may be repeated.

    Exit codes: 11 ledger and log contradict each other; 14 --out has the key of another log; 15 a witness, the disk or
    the database does not answer; 16 the broker runs, or the name was used before.

    Examples:
      custody broker end-log --config DIR/broker/broker.toml --successor custody.example.org/prod-2 --out DIR/successor
    """
    import os

    from custody.app.broker_config import load
    from custody.app.ending import end_log as end

    ended = end(load(config), config.resolve().parent, successor, directory, os.urandom)
    output = place(context).out
    output.fields(
        [
            ("log", f"{ended.final.origin}, ended at size {ended.final.size}"),
            ("tree root", ended.final.root.hex()),
            ("successor", ended.successor),
            ("written", f"{directory}: log.key, log.vkey, witness.policy, final.checkpoint"),
            ("next", "custody root create, with these files in the ceremony file"),
        ],
        "The log has ended",
    )
    output.result(
        {
            "directory": str(directory),
            "log": ended.final.origin,
            "root": ended.final.root.hex(),
            "size": ended.final.size,
            "successor": ended.successor,
        }
    )
