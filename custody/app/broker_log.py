"""The log as a broker serves it: objects in batches, several batches at once, memory bounded.

An audit says which objects come next; they are fetched together and kept until so much came after them that they are
dropped. Only what never changes is kept: the newest checkpoint is asked for each time. Nothing here is believed.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import takewhile
from types import TracebackType
from typing import Final, Self

from custody.audit.source import Source
from custody.client.link import Link
from custody.errors import DeniedError, FormatError, IntegrityError
from custody.wire.calls import Calls

__all__ = ["BrokerLog"]

_TOGETHER: Final = 64
"""Objects of one call."""

_AT_ONCE: Final = 4
"""Calls under way."""

_MOST: Final = 64 << 20
"""Bytes kept, at most; a thousand sessions with their documents have two million."""

_NEWEST: Final = "checkpoint"
_CHECKPOINTS: Final = "checkpoints/"


class BrokerLog:
    """Reads through ``link``; for one audit at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pool = ThreadPoolExecutor(_AT_ONCE, "log")
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._folders: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def source(self) -> Source:
        """Return it as an audit reads it."""
        return Source(self._fetch, self._names, self._ahead)

    def _fetch(self, path: str) -> bytes:
        data = self._kept.get(path)
        if data is not None:
            self._kept.move_to_end(path)
            return data
        data = self._link.call(lambda calls: calls.get_log_object(path))
        self._keep(path, data)
        return data

    def _names(self, prefix: str) -> Iterator[str]:
        """Yield the paths with a prefix. All but checkpoints are listed once an audit, which begins with those."""
        folder = prefix.partition("/")[0] + "/"
        if folder == _CHECKPOINTS:
            self._folders.clear()
            yield from self._listed(prefix)
            return
        if folder not in self._folders:
            self._folders[folder] = sorted(self._listed(folder))
        paths = self._folders[folder]
        places = range(bisect_left(paths, prefix), len(paths))
        yield from takewhile(lambda path: path.startswith(prefix), map(paths.__getitem__, places))

    def _listed(self, prefix: str) -> Iterator[str]:
        after = ""
        while page := self._link.call(partial(Calls.list_log_objects, prefix=prefix, after=after)):
            for path in page:
                if not path.startswith(prefix) or path <= after:  # a broker that lists the same again, for ever
                    raise FormatError(f"the broker's list of {prefix} is not in order at {path[:100]!a}")
                after = path
                yield path

    def _ahead(self, paths: Sequence[str]) -> None:
        """Fetch several objects. What there is not, ``fetch`` will ask for once more, and say so."""
        wanted = [path for path in dict.fromkeys(paths) if path not in self._kept and path != _NEWEST]
        batches = [wanted[begin : begin + _TOGETHER] for begin in range(0, len(wanted), _TOGETHER)]
        # What a broker refuses of many it refuses alone, to who asks for it.
        with suppress(FormatError, DeniedError, IntegrityError):
            for batch, found in zip(batches, self._pool.map(self._together, batches), strict=True):
                for path, data in zip(batch, found, strict=True):
                    if data is not None:
                        self._keep(path, data)

    def _together(self, paths: Sequence[str]) -> Sequence[bytes | None]:
        found: list[bytes | None] = []
        while len(found) < len(paths):
            found += self._link.call(partial(Calls.get_log_objects, paths=paths[len(found) :]))
        return found

    def _keep(self, path: str, data: bytes) -> None:
        if path == _NEWEST or path in self._kept:
            return
        self._kept[path] = data
        self._size += len(data)
        while self._size > _MOST:
            self._size -= len(self._kept.popitem(last=False)[1])
