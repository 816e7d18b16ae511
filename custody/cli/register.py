"""``custody register``: put a sealed version into custody."""

import click

from custody.cli.profile import home_of, store_url
from custody.cli.registry import Command, place

__all__ = ["register"]


@click.command(cls=Command)
@click.argument("version", metavar="NAME@LABEL")
@click.option("--store", metavar="URL", help="Where the ciphertext lies, such as file:/srv/store.  [default: profile]")
@click.pass_context
def register(ctx: click.Context, version: str, store: str | None) -> None:
    """Tell the broker of a version that custody seal has put into its store, and have that logged.

    The broker checks that everything which will be needed to open the version is there. From then on it can be
    requested. A name is used once and never changes; registering the same version again does nothing.

    Examples:
      custody register frontier/llm@2026-11
      custody register small@1 --store file:/srv/store
    """
    from custody.adapters.store import open_store
    from custody.adapters.surroundings import Surroundings
    from custody.app.registering import register as put

    home, output, around = home_of(ctx), place(ctx).out, Surroundings.real()
    done = put(home, open_store(store_url(store, home), around), version, around)
    output.fields(
        [("version", done.version), ("content", done.content), ("entry", f"{done.index}, witnessed")], "In custody"
    )
    output.result({"content": done.content, "entry": done.index, "version": done.version})
