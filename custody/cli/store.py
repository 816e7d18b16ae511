"""``custody store``: what can be done with ciphertext by whoever holds no key."""

from contextlib import AbstractContextManager

import click

from custody.cli.profile import home_of, store_url
from custody.cli.progress import Meter
from custody.cli.registry import group, place
from custody.documents.show import size_text

__all__ = ["store"]


@group()
def store() -> None:
    """Keep a second copy of what is sealed. No key is needed for it, and none is seen.

    Examples:
      custody store copy --from file:/srv/store --to s3://models-copy?region=eu-west-1
    """


@store.command()
@click.option("--from", "source", metavar="URL", help="The store to copy.  [default: profile]")
@click.option("--to", "target", required=True, metavar="URL", help="Where the copy goes; another account, best.")
@click.pass_context
def copy(context: click.Context, source: str | None, target: str) -> None:
    """Copy every version that the other store lacks, and check each byte of it there.

    Nothing is deleted or replaced at either end. An interrupted copy is not visible; start it again. Run it with
    credentials that the broker does not have: who can delete the store must not be able to delete its copy.

    Exit codes: 11 a blob in either store is not the one that was sealed; 14 the copy has another manifest; 15 a store
    does not answer.

    Examples:
      custody store copy --from file:/srv/store --to file:/mnt/copy
      custody store copy --to 's3://models-copy?region=eu-west-1&profile=copier'
    """
    from custody.adapters.store import open_store
    from custody.adapters.surroundings import Surroundings
    from custody.app.copying import Copied, copy_versions

    output, home, around = place(context).out, home_of(context), Surroundings.real()
    copied: list[Copied] = []

    def done(one: Copied) -> None:
        copied.append(one)
        if not one.was_there:
            output.line(f"{one.version}  {size_text(one.size)}")

    def meters(version: str, size: int) -> AbstractContextManager[Meter]:
        return output.progress(f"copying and checking {version}", size)

    here, there = (open_store(store_url(url, home), around) for url in (source, target))
    copy_versions(here, there, done, meters)
    fresh = [one for one in copied if not one.was_there]
    output.note(f"copied {len(fresh)} of {len(copied)} versions; the others were there")
    output.result({"copied": [one.version for one in fresh], "there": len(copied) - len(fresh)})
