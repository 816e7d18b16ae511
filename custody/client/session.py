"""A session: the files of a lease, readable. Everything it returns was checked against the sealer's digests first."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from custody.client import tensors
from custody.client.direct import DirectFile
from custody.client.download import Fetched, Wanted, download, prepare
from custody.client.frameworks import Framework
from custody.client.live import Live, SessionReceipt
from custody.client.reading import Kept, VerifiedFile
from custody.crypto.sodium import wipe
from custody.documents.content import Content
from custody.errors import NotFoundError
from custody.segments.layout import FilePlan
from custody.segments.open import SegmentChecker
from custody.segments.shelf import Shelf
from custody.segments.streams import Progress, StillWanted, ignore_progress, still_wanted

__all__ = ["FileInfo", "Session"]

_WALK: Final = 1 << 30
_KEPT: Final = 64 << 20
"""Bytes of checked segments kept in memory, because a range began or ended inside them."""

_FILES: Final = 16
"""Files that stay open while nobody reads them: a version may have more than a process may have descriptors."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file of the session: its path in the version, its size in bytes."""

    path: str
    size: int


class Session:
    """An open session. Close it, or use it as a context manager, so that only what was served counts.

    Reads may come from any thread. A broken connection, and a session lost with the broker's process, are mended for
    as long as the lease's ``open`` was told to be patient.
    """

    def __init__(self, live: Live, after: Callable[[], object] | None = None) -> None:
        self._live = live
        self._after = after
        self._kept = Kept(_KEPT)
        self._files = Shelf[VerifiedFile | DirectFile](_FILES)
        content = live.content
        self._indexes = {content.files[index].path: index for index in sorted(live.start.files)}
        self.files: Final = tuple(FileInfo(path, int(content.files[i].size)) for path, i in self._indexes.items())

    @property
    def content(self) -> Content:
        """What the sealer says of the version."""
        return self._live.content

    @property
    def receipts(self) -> list[SessionReceipt]:
        """Evidence of this session, and of those before it that were lost."""
        return self._live.receipts

    def size(self, path: str) -> int:
        """Return the size of a file in bytes. ``NotFoundError`` for one that is not in the session."""
        return int(self.content.files[self._index(path)].size)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return ``length`` bytes (``None``: to the end) of a file. For large ranges use ``readinto``."""
        if length is None:
            length = max(0, self.size(path) - offset)
        data = bytearray(length)
        self.readinto(path, data, offset)
        return bytes(data)

    def readinto(
        self,
        path: str,
        buffer: bytearray | memoryview,
        offset: int = 0,
        *,
        progress: Progress = ignore_progress,
        wanted: StillWanted = still_wanted,
    ) -> int:
        """Fill ``buffer`` from byte ``offset`` of a file and return its length.

        Whole segments arrive in place. ``wanted`` is called now and then while the broker or the store is waited for;
        what it raises ends the waiting. When this raises, the buffer is all zeros: ``IntegrityError`` names the segment
        that is not the sealer's; ``DeniedError`` says that the lease is over, revoked or used up; ``UnavailableError``
        that the broker stayed away; ``FormatError`` that the range lies outside the file.
        """
        out = memoryview(buffer).cast("B")
        try:
            index = self._index(path)
            with self._files.lend(index, partial(self._opened, index, wanted), wanted) as file:
                file.read_into(offset, out, progress, wanted)
        except BaseException:  # whatever lay in the buffer before
            wipe(out)
            raise
        return len(out)

    def load_tensors(
        self,
        path: str,
        names: tensors.Names | None = None,
        *,
        framework: Framework = "torch",
        progress: Progress = ignore_progress,
    ) -> dict[str, Any]:
        """Load tensors of a safetensors file, in the order of the file: views of one buffer, which lives as long.

        ``names`` chooses tensors, or rows of them: ``{"embed": slice(0, 1000), "head": None}``; only the segments that
        hold them are fetched. ``FormatError`` for a header that breaks a rule of ``custody.client.tensor_header``,
        ``NotFoundError`` for a name that the file does not have; otherwise raises as ``readinto``, all wiped.
        """
        return tensors.load(self, path, names, framework, progress)

    def walk_tensors(
        self,
        path: str,
        names: tensors.Names | None = None,
        *,
        framework: Framework = "torch",
        memory: int = _WALK,
        progress: Progress = ignore_progress,
    ) -> Iterator[tuple[str, Any]]:
        """Yield names and tensors in the order of the file, for those who copy them on, in bounded memory.

        **A tensor is valid until the next is asked for**: then its memory is used again, and in the end it is wiped.
        ``memory`` is bytes, for two buffers of which one is filled while the other is used; each has room for at least
        the largest tensor. The rest as ``load_tensors``.
        """
        return tensors.walk(self, path, names, framework, memory, progress)

    def download(
        self,
        out: Path | str,
        *,
        progress: Progress = ignore_progress,
        present: Progress | None = None,
        fetched: Fetched | None = None,
    ) -> None:
        """Put every file below the directory ``out``, which is made. See ``custody.client.download``.

        ``progress`` is told of every byte that is fetched, ``present`` (without it ``progress`` too) of every byte that
        was there already; ``fetched`` of every file that is in its place. All are told by one thread at a time.
        """
        folder = Path(out)
        prepare(folder, [(file.path, file.size) for file in self.files])
        download(
            [Wanted(file.path, file.size, partial(self._opened, self._index(file.path))) for file in self.files],
            folder,
            progress=progress,
            present=present or progress,
            fetched=fetched or _ignore_fetched,
        )

    def close(self) -> None:
        """End the session: the broker logs what was served, keys and kept plaintext are wiped here."""
        with ExitStack() as stack:  # each of them, also when the user interrupts the broker's answer
            stack.callback(self._files.close)
            stack.callback(self._kept.close)
            self._live.close()
        after, self._after = self._after, None
        if after is not None:
            after()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _index(self, path: str) -> int:
        index = self._indexes.get(path)
        if index is None:
            raise NotFoundError(f"the session has no file {path[:100]!a}")
        return index

    def _opened(self, index: int, wanted: StillWanted) -> VerifiedFile | DirectFile:
        """Open a file: its digest list is fetched and compared with the content."""
        plan = FilePlan.of(self.content, index)
        if self._live.direct:
            return DirectFile(self._live, plan, wanted)
        digests = self._live.digest_list(index, plan.digests_size, wanted)
        expected = self.content.files[index].digests
        checker = SegmentChecker(plan, self._live.digest_key(index), digests, expected)
        return VerifiedFile(self._live, plan, checker, self._kept)


def _ignore_fetched(_path: str, _there: int, /) -> None:
    """Tell nobody."""
