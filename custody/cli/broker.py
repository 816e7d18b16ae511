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
