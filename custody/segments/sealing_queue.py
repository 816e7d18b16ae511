"""The files of a version on their way through sealing: begun one after the other, ended in the background."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Final, NamedTuple

from custody.crypto.floe import Encryptor, Params
from custody.crypto.schedule import digest_key as derive_digest_key
from custody.crypto.schedule import file_key as derive_file_key
from custody.crypto.secret import SecretBytes
from custody.documents.content import File
from custody.segments.finishing import Finishing
from custody.segments.layout import FilePlan
from custody.segments.sealing_file import SealedFile, SealingFile
from custody.segments.streams import Finished, Progress, Sink, Source, explained
from custody.values import U64

__all__ = ["FileToSeal", "Queue", "QueuedFile"]

# Bytes of a file that a store's writer holds: four parts of 8 MiB on their way and the one being filled. Only a blob of
# 8 GB and more may have larger parts, and then holds more.
_HELD: Final = 40 << 20


class FileToSeal(NamedTuple):
    """A file of the version to be: its path there, how to open it, its size in bytes."""

    path: str
    open: Callable[[], AbstractContextManager[Source]]
    size: int


class QueuedFile:
    """A file of a version from its first segment to its end. Its keys are wiped when its last segment is written."""

    def __init__(self, file: FileToSeal, plan: FilePlan, end: Callable[["QueuedFile", SealedFile], None]) -> None:
        self.order = plan.index
        self.weight = min(_HELD, plan.stored_size)
        self.plan = plan
        self._file = file
        self._end = end
        self._reading = ExitStack()
        self._writing = ExitStack()
        self.sealing: SealingFile

    def begin(
        self,
        version_key: SecretBytes,
        writer: Callable[[str], AbstractContextManager[Sink]],
        rng: Callable[[int], bytes],
    ) -> None:
        """Open source and sinks, and derive the keys."""
        plan, enter = self.plan, self._reading.enter_context
        with explained(plan.path, "cannot be read"):
            source = enter(self._file.open())
        with derive_file_key(version_key, plan.index) as key:
            encryptor = enter(Encryptor(key, plan.aad, Params(plan.segment), rng))
        digest_key = enter(derive_digest_key(version_key, plan.index))
        sinks = [self._writing.enter_context(writer(key)) for key in (plan.ciphertext_key, plan.digests_key)]
        self.sealing = SealingFile(plan, source, encryptor, digest_key, *sinks)

    def wipe(self) -> None:
        """Close the source and wipe the keys."""
        self._reading.close()

    def end(self) -> None:
        """See ``UnderWay.end``. Only behind this have the writers made both blobs durable."""
        with self._writing:  # also when the last write fails: nobody else ends or abandons the writers any more
            sealed = self.sealing.finish()
        self._end(self, sealed)

    def abandon(self, error: BaseException) -> None:
        """See ``UnderWay.abandon``."""
        with self._reading:
            self._writing.__exit__(type(error), error, error.__traceback__)


class Queue:
    """The files of a version, one after the other: ``take`` and ``given`` are called in the order of segments."""

    def __init__(  # noqa: PLR0917 - one caller
        self,
        files: Sequence[FileToSeal],
        plans: Sequence[FilePlan],
        begin: Callable[[QueuedFile], None],
        finishing: Finishing,
        progress: Progress,
        finished: Finished,
    ) -> None:
        self._coming = iter(zip(files, plans, strict=True))
        self._begin = begin
        self._finishing = finishing
        self._progress = progress
        self._finished = finished
        self._telling = threading.Lock()
        self._listed: dict[int, File] = {}
        self._next = 0  # segment of the file that is being read
        # Those of which something is still to be written; the last is being read. Fifty thousand are not kept.
        self._under_way: deque[QueuedFile] = deque()
        self._reading: QueuedFile | None = None

    def take(self, _n: int) -> tuple[SealingFile, int]:
        """Say whose segment comes next, and which of that file it is."""
        file = self._reading
        if file is None or self._next == file.plan.count:
            file = QueuedFile(*next(self._coming), self._ended)
            self._finishing.admit(file)
            self._begin(file)
            self._reading, self._next = file, 0
            self._under_way.append(file)
        self._finishing.check()
        self._next += 1
        return file.sealing, self._next - 1

    def given(self, i: int, size: int) -> None:
        """Be told what has been written: which segment of the file that is being written, bytes of its plaintext."""
        file = self._under_way[0]
        with self._telling:
            self._progress(size)
        if i == file.plan.count - 1:
            self._under_way.popleft()
            file.wipe()
            self._finishing.submit(file)

    def listed(self) -> tuple[File, ...]:
        """Return the files as the content lists them."""
        return tuple(self._listed[index] for index in range(len(self._listed)))

    def _ended(self, file: QueuedFile, sealed: SealedFile) -> None:
        plan = file.plan
        with self._telling:
            self._listed[plan.index] = File(
                path=plan.path, size=U64(plan.size), ciphertext=sealed.ciphertext, digests=sealed.digests
            )
            self._finished(plan.path)
