"""Many jobs at once, each a process with a connection and a session of its own, streaming from one broker."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from custody.app.sealing import SEGMENT
from custody.client import Custody
from custody.errors import UnavailableError
from custody.segments.buffers import huge_buffer
from ops.bench.deployment import Deployment
from ops.bench.model import Model
from ops.bench.rows import Contender, Part, Row, Target, measure, rate

__all__ = ["Task", "answer", "rows", "work"]

_CROWD: Final = (64, 16, 4, 1)
_ONE_JOB: Final = Target(0.9, 1.2)


@dataclass(frozen=True)
class Task:
    """What a job's process needs to know: its home, its lease, the file, and how many bytes a session may serve."""

    home: Path
    lease: str
    file: str
    ceiling: int | None


def work(task: Task, orders: "Connection[Any, Any]") -> None:
    """Be a job: open a session, say so, and read what is ordered, an offset and a length, into memory of its own.

    It is fresh the first time that so much is ordered.
    """
    memory = huge_buffer(0)
    with ExitStack() as stack:
        custody = stack.enter_context(Custody.connect(task.home, remember=False))
        session = stack.enter_context(custody.lease(task.lease).open(bytes=task.ceiling))
        session.read(task.file, 0, 1)  # the connection and the file's list of digests are there then
        orders.send("ready")
        with suppress(EOFError):
            while True:
                offset, length = orders.recv()
                if len(memory) < length:
                    memory = huge_buffer(length)
                session.readinto(task.file, memory[:length], offset)
                orders.send(length)


def answer(orders: "Connection[Any, Any]") -> None:
    """Wait for what a job says."""
    try:
        orders.recv()
    except EOFError:
        raise UnavailableError("a job ended early; what it said of that stands above") from None


@dataclass
class _Job:
    process: BaseProcess
    orders: "Connection[Any, Any]"


def rows(deployment: Deployment, model: Model, runs: int) -> Sequence[Row]:
    """Stream to many at once, each a part of the file, all together the same number of bytes.

    Each has read as much before, for what is asked is what the broker serves. The first time, each process gets the
    memory for its messages from the system, some 10 MiB, and 64 of them together spend more on that than on reading.
    """
    piece = _CROWD[0] * min(SEGMENT, model.size // _CROWD[0])  # whole segments for each: none is fetched twice
    size = model.size // piece * piece
    with deployment.job() as job:
        lease = deployment.lease(job).id
    task = Task(deployment.job_home, lease, model.name, ceiling=4 * (runs + 1) * model.size)
    with _crowd(task, _CROWD[0]) as jobs:

        def read(count: int) -> None:
            each = size // count
            for index, one in enumerate(jobs[:count]):
                one.orders.send((index * each, each))
            for one in jobs[:count]:
                answer(one.orders)

        def contender(count: int, **more: Any) -> Contender:
            name = f"custody, streamed to {count} job{'s' if count > 1 else ''}"
            processes = [deployment.broker, *(one.process.pid or 0 for one in jobs)]
            return Contender(name, lambda: read(count), size=size, processes=processes, **more)

        contenders = [contender(count) for count in _CROWD[:-1]] + [contender(1, target=_ONE_JOB)]
        return measure(Part("jobs at once", "GB/s", rate, contenders, ours=len(contenders)), runs)


@contextmanager
def _crowd(task: Task, count: int) -> Iterator[Sequence[_Job]]:
    """Have so many jobs, with open sessions, for the length of a block."""
    # Forked from a server that has imported what they need and done nothing yet: starting 64 interpreters takes long.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    jobs = []
    try:
        for _ in range(count):
            here, there = multiprocessing.Pipe()
            process = context.Process(target=work, args=(task, there))
            process.start()
            there.close()
            jobs.append(_Job(process, here))
        for one in jobs:
            answer(one.orders)
        yield jobs
    finally:
        for one in jobs:
            one.orders.close()
        for one in jobs:
            one.process.join(30)
            one.process.kill()
