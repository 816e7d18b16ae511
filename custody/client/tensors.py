"""Tensors of a safetensors file, straight from a session into the memory where they stay.

``load`` fills one buffer of huge pages, and the tensors are views of it: no byte is copied a second time, and nothing
else of the file's size is held. With names or rows only the segments are fetched that hold them. ``walk`` is for those
who copy tensors on, to a GPU: it goes through the file in order, in two buffers, of which one is filled while the other
is used.

Every byte is checked by the session before it is seen here, the header's bytes as well.
"""

import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from custody.client.frameworks import Framework, View, viewer
from custody.client.tensor_header import LENGTH_SIZE, Header, Tensor, header_length, parse_header
from custody.crypto.sodium import wipe
from custody.documents.content import Content
from custody.errors import NotFoundError, UnavailableError
from custody.segments.buffers import huge_buffer
from custody.segments.lanes import begin_aside
from custody.segments.streams import Progress, StillWanted, still_wanted

__all__ = ["Names", "Readable", "load", "read_header", "walk"]

Names = Collection[str] | Mapping[str, slice | None]
"""Which tensors; a map may say which rows of each (``slice(first, last)`` of the first dimension; ``None``: all)."""

_BEGINNING: Final = 128 << 10
"""Bytes read for the header at first, at most: of a thousand tensors it has about a hundred thousand."""

_ALIGN: Final = 64
"""Bytes. A run of tensors lies in memory as in the file, modulo this: what was aligned there is aligned here."""


class Readable(Protocol):
    """What of a session is used here."""

    @property
    def content(self) -> Content:
        """What the sealer says of the version."""
        ...

    def size(self, path: str, /) -> int:
        """Bytes of a file."""
        ...

    def readinto(
        self, path: str, buffer: memoryview, offset: int, /, *, progress: Progress, wanted: StillWanted = still_wanted
    ) -> int:
        """Fill the buffer from byte ``offset``, all of it checked, or raise and leave zeros."""
        ...


@dataclass(frozen=True, slots=True)
class _Run:
    """Tensors that follow one another in the file without a gap, and where in the buffer their first byte goes."""

    tensors: Sequence[Tensor]
    at: int

    @property
    def start(self) -> int:
        return self.tensors[0].start

    @property
    def size(self) -> int:
        return self.tensors[-1].end - self.start

    def place(self, tensor: Tensor, buffer: memoryview) -> memoryview:
        return buffer[self.at + tensor.start - self.start :][: tensor.size]


def read_header(session: Readable, path: str) -> Header:
    """Read and check the header of a file. ``FormatError`` names the rule that it breaks.

    Most headers lie in what is read first. That is never all of a segment, or of the file: a stream keeps one that is
    wanted in part, and so it is not fetched, and paid for, again.
    """
    size = session.size(path)
    begin = bytearray(max(0, min(_BEGINNING, int(session.content.segment), size) - 1))
    session.readinto(path, memoryview(begin), 0, progress=_nobody)
    end = LENGTH_SIZE + header_length(bytes(begin[:LENGTH_SIZE]), size)
    rest = bytearray(max(0, end - len(begin)))
    if rest:
        session.readinto(path, memoryview(rest), len(begin), progress=_nobody)
    return parse_header(bytes((begin + rest)[LENGTH_SIZE:end]), size)


def load(session: Readable, path: str, names: Names | None, framework: Framework, progress: Progress) -> dict[str, Any]:
    """Load tensors, in the order of the file. See ``Session.load_tensors``."""
    view = viewer(framework)
    header = read_header(session, path)
    runs, size = _layout(_chosen(header, names), header.start)
    buffer = huge_buffer(size)
    return dict(_fill(session, path, runs, buffer, view, progress, still_wanted))


def walk(  # noqa: PLR0917 - as Session.walk_tensors
    session: Readable, path: str, names: Names | None, framework: Framework, memory: int, progress: Progress
) -> Iterator[tuple[str, Any]]:
    """Yield tensors in the order of the file, each valid until the next is asked for. See ``Session.walk_tensors``."""
    view = viewer(framework)
    header = read_header(session, path)
    batches = [_layout(batch, header.start) for batch in _batches(_chosen(header, names), memory // 2)]
    return _walk(session, path, batches, view, progress)


def _walk(
    session: Readable, path: str, batches: Sequence[tuple[list[_Run], int]], view: View, progress: Progress
) -> Generator[tuple[str, Any], None, None]:
    largest = max((size for _, size in batches), default=0)
    buffers = [huge_buffer(largest) for _ in batches[:2]]
    over = threading.Event()

    def wanted() -> None:
        if over.is_set():
            raise UnavailableError("given up: nobody asks for more tensors")

    def told(done: int) -> None:
        wanted()
        progress(done)

    def fill(k: int) -> list[tuple[str, Any]]:
        runs, size = batches[k]
        return _fill(session, path, runs, buffers[k % 2][:size], view, told, wanted)

    def leave(_ended: object = None) -> None:
        for buffer in buffers:
            wipe(buffer)

    ahead: Future[list[tuple[str, Any]]] | None = None
    try:
        for k in range(len(batches)):
            ahead = ahead or begin_aside(partial(fill, k), "custody-ahead")
            ready = ahead.result()
            # The other buffer is free: whoever asked for more is done with what was in it.
            ahead = begin_aside(partial(fill, k + 1), "custody-ahead") if k + 1 < len(batches) else None
            yield from ready
    finally:
        over.set()
        if ahead is None:
            leave()
        else:
            ahead.add_done_callback(leave)  # a thread that still fills one ends soon
        del ahead  # a failure has this frame, which must not have the failure


def _fill(  # noqa: PLR0917 - both ways in
    session: Readable,
    path: str,
    runs: Sequence[_Run],
    buffer: memoryview,
    view: View,
    progress: Progress,
    wanted: StillWanted,
) -> list[tuple[str, Any]]:
    # Views first: a type that the framework lacks is said before anything is fetched.
    views = [(tensor.name, view(tensor, run.place(tensor, buffer))) for run in runs for tensor in run.tensors]
    done: list[_Run] = []
    try:
        for run in runs:
            done.append(run)
            session.readinto(path, buffer[run.at : run.at + run.size], run.start, progress=progress, wanted=wanted)
    except BaseException:
        for run in done:
            wipe(buffer[run.at : run.at + run.size])
        raise
    return views


def _chosen(header: Header, names: Names | None) -> list[Tensor]:
    """Return the tensors that are wanted, in the order of the file."""
    if names is None:
        return list(header.tensors)
    wanted = set(names)
    rows: Mapping[str, slice | None] = names if isinstance(names, Mapping) else {}
    found = []
    for tensor in header.tensors:
        if tensor.name in wanted:
            wanted.discard(tensor.name)
            part = rows.get(tensor.name)
            found.append(tensor if part is None else tensor.rows(part))
    if wanted:
        raise NotFoundError(f"the file has no tensor {min(wanted)[:100]!a}")
    return found


def _layout(tensors: Sequence[Tensor], base: int) -> tuple[list[_Run], int]:
    """Give each run of adjacent tensors its place; return the runs and the bytes of the buffer."""
    runs: list[_Run] = []
    free = 0
    group: list[Tensor] = []
    for tensor in tensors:
        if group and tensor.start != group[-1].end:
            runs.append(_Run(group, at := _aligned(free, group[0].start - base)))
            free = at + group[-1].end - group[0].start
            group = []
        group.append(tensor)
    if group:
        runs.append(_Run(group, at := _aligned(free, group[0].start - base)))
        free = at + group[-1].end - group[0].start
    return runs, free


def _aligned(free: int, like: int) -> int:
    """Return the first place from ``free`` on that is aligned as ``like`` is."""
    return free + (like - free) % _ALIGN


def _batches(tensors: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Cut the list into pieces of at most ``most`` bytes, or one tensor."""
    batch: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if batch and size + tensor.size + _ALIGN > most:
            yield batch
            batch, size = [], 0
        batch.append(tensor)
        size += tensor.size + _ALIGN
    if batch:
        yield batch


def _nobody(_done: int, /) -> None:
    """The header's bytes are nobody's progress."""
