"""The group that the commands of ``custody log`` join, and what they share."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import click

from custody.app.auditing import open_log
from custody.audit.source import Source
from custody.cli.profile import home_of
from custody.cli.registry import Folder

__all__ = ["DIRECTORY", "FILE", "log", "opened"]

DIRECTORY: Final = click.Path(path_type=Path, file_okay=False)
FILE: Final = click.Path(path_type=Path, dir_okay=False)


_FILES: Final = {
    "check-receipt": "log.receipts",
    "diff": "log.questions",
    "prove": "log.receipts",
    "report": "log.report",
    "show": "log.show",
    "verify": "log.verify",
    "watch": "log.watch",
    "what": "log.questions",
    "who": "log.questions",
}


@click.group(cls=Folder, files=_FILES)
def log() -> None:
    """Verify and read the transparency log.

    Every step that grants something is in the log before it takes effect. The log is a directory that anybody may
    copy; whoever has a copy and the digest of the genesis trust root can verify all of it, trusting nobody.

    Examples:
      custody log verify /srv/custody/log
      custody log show --log /srv/custody/log --last 50
    """


def opened(ctx: click.Context, directory: Path | None) -> AbstractContextManager[Source]:
    """Open the log in a directory, or without one that of the broker."""
    return open_log(directory, home_of(ctx))
