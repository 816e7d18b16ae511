"""The cores that examine a log in a directory for an audit: one process each, beside the one that judges.

A worker gets bundles to examine and sends back what it read. Few tasks are given out ahead, so memory is flat. A small
log is examined by the caller: starting processes would take longer.
"""

import gc
import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from custody.adapters.local_reader import LocalReader
from custody.audit.examine import Bundle, Examine, Examiner, Task, decode_bundles, encode_bundles, inline
from custody.audit.source import Source
from custody.tlog.tiles import MAX_OBJECT

__all__ = ["directory_source", "pooled"]

_ALONE: Final = 4
"""Tasks that the caller does itself: of a thousand entries each, but for the first."""

_AHEAD: Final = 3
"""Tasks for each process that are given out ahead."""

_COLLECT: Final = (100_000, 20, 20)
"""Thresholds of the collector of cycles: here many small things are made, none of them in a cycle."""


def directory_source(reader: LocalReader) -> Source:
    """Return the log in a directory."""
    return Source(lambda path: reader.get(path, MAX_OBJECT), reader.list)


def pooled(directory: Path, source: Source, processes: int | None = None) -> Examine:
    """Return what examines a log in ``directory``, which ``source`` reads, in processes: one for each core, by default.

    With fewer than two everything is examined here.
    """
    workers = len(os.sched_getaffinity(0)) if processes is None else processes

    def examine(tasks: Iterator[Task]) -> Generator[Bundle, None, None]:
        alone = tasks if workers <= 1 else islice(tasks, _ALONE)
        yield from inline(source)(alone)
        first = next(tasks, None)
        if first is not None:
            yield from _together(directory, workers, first, tasks)

    return examine


def _together(directory: Path, workers: int, first: Task, tasks: Iterator[Task]) -> Generator[Bundle, None, None]:
    # Spawned, not forked: the caller may have threads.
    collect = gc.get_threshold()
    gc.set_threshold(*_COLLECT)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_open, initargs=(directory,))
    try:
        given: deque[Future[bytes]] = deque([pool.submit(_examine, first)])
        given += [pool.submit(_examine, task) for task in islice(tasks, _AHEAD * workers - 1)]
        while given:
            yield from decode_bundles(given.popleft().result())
            given += [pool.submit(_examine, task) for task in islice(tasks, 1)]
    finally:
        pool.shutdown(cancel_futures=True)
        gc.set_threshold(*collect)


_examiner: Examiner | None = None  # of a worker: its process has no other


def _open(directory: Path) -> None:
    global _examiner  # noqa: PLW0603 - what an initializer prepares has no other place
    gc.freeze()  # modules and their functions, which stay
    gc.set_threshold(*_COLLECT)
    _examiner = Examiner(directory_source(LocalReader(directory)))


def _examine(task: Task) -> bytes:
    if _examiner is None:
        raise RuntimeError("this process was not prepared")
    return encode_bundles([_examiner.bundle(task, index) for index in range(task.first, task.last)])
