"""Where the blobs of a file lie, for a job that reads them itself: in a directory it shares with the broker.

The broker names the directory only; the names in it follow from the signed content (custody.segments.layout). So a
lying one can make a job read the wrong blob, which is refused, but not just any file.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from custody.adapters.local_files import LocalBlob, explained
from custody.client.live import Live
from custody.errors import ConfigError, IntegrityError, NotFoundError
from custody.segments.layout import FilePlan
from custody.segments.streams import Reader

__all__ = ["Places"]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO that lies there must not wait for its other end."""


class Places:
    """The two blobs of one file of a direct session."""

    def __init__(self, live: Live, plan: FilePlan) -> None:
        self._plan = plan
        self._place = live.locate(plan.index)

    @contextmanager
    def ciphertext(self) -> Iterator[Reader]:
        """Open the ciphertext for the length of a block."""
        with closing(_local(self._place.folder, self._plan.ciphertext_key)) as blob:
            yield blob

    @contextmanager
    def digests(self) -> Iterator[Reader]:
        """Open the digest list for the length of a block."""
        with closing(_local(self._place.folder, self._plan.digests_key)) as blob:
            yield blob


def _local(folder: str, key: str) -> LocalBlob:
    if not folder.startswith("/") or "\0" in folder:
        raise IntegrityError("the broker names a folder that is no absolute path")
    with explained(key):
        try:
            return LocalBlob(os.open(Path(folder) / key, _READ), key)
        except FileNotFoundError:
            if Path(folder).is_dir():
                raise NotFoundError(f"store: there is no {key}") from None
    raise ConfigError(f"{folder}: no such directory", hint="direct mode needs the store mounted where the job runs")
