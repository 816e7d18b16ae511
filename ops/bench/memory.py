"""How much memory a job takes beyond the buffer that it asked for: watched from outside, while it loads a model."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from custody.documents.request import Mode
from ops.bench.deployment import Deployment
from ops.bench.jobs import Task, answer, work
from ops.bench.model import Model
from ops.bench.rows import Contender, Part, Row, Target, measure, returned

__all__ = ["LARGE", "rows"]

LARGE: Final = (4 << 30, 16 << 30)
"""Bytes of the models that are opened only when it is asked for: they need as much memory and disk."""

_MODES: Final[Sequence[tuple[Mode, str]]] = (("direct", "direct"), ("stream", "streamed"))
_LIMIT: Final = Target(300, 150, of="value", below=True)
_TITLE: Final = "most RssAnon beyond the buffer"
_UNIT: Final = "MiB"
_POLL: Final = 0.005  # seconds
_MIB: Final = 1 << 20
_ROOM: Final = 2 << 30


def rows(deployment: Deployment, model: Model, work_in: Path, *, large: bool) -> Sequence[Row]:
    """Load the model, and if asked larger ones, of zeros, once each."""
    found = list(_measured(deployment, model))
    for size in LARGE:
        if missing := _missing(size, large=large):
            names = [_name(mode, size) for _, mode in _MODES]
            found += [Row(_TITLE, _UNIT, name, ours=True, target=_LIMIT, missing=missing) for name in names]
            continue
        with _larger(deployment, work_in, size) as other:
            found += _measured(deployment, other)
    return found


def _measured(deployment: Deployment, model: Model) -> Sequence[Row]:
    contenders = []
    with deployment.job() as job:
        for mode, name in _MODES:
            task = Task(deployment.job_home, deployment.lease(job, mode).id, model.name, ceiling=None)
            run = _Peak(task, model.size)
            contenders.append(Contender(_name(name, model.size), run, target=_LIMIT))
    return measure(Part(_TITLE, _UNIT, returned, contenders, ours=len(contenders), compared=False, again=False), 1)


def _name(mode: str, size: int) -> str:
    return f"custody, {mode}, {size / (1 << 30):.2g} GiB"


def _missing(size: int, *, large: bool) -> str:
    """Say why a model of this size is not opened, if it is not."""
    if not large:
        return "only with --large"
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) << 10
    return "" if free > size + _ROOM else f"{(size + _ROOM) >> 30} GiB of memory are needed"


@contextmanager
def _larger(deployment: Deployment, work_in: Path, size: int) -> Iterator[Model]:
    """Have a larger version in the store for the length of a block."""
    before, path = deployment.version, work_in / f"zeros-{size >> 20}.bin"
    with path.open("wb") as file:
        file.truncate(size)
    try:
        deployment.seal(path, f"demo/zeros@{size >> 20}")
        yield Model(path, size, tensor=0)
    finally:
        path.unlink()
        deployment.version = before


@dataclass(frozen=True)
class _Peak:
    """Runs a job in a fresh interpreter and returns its most private memory, in MiB, less the buffer.

    Fresh, and not forked: memory that is shared with a parent would count as well.
    """

    task: Task
    size: int

    def __call__(self) -> float:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=work, args=(self.task, there))
        process.start()
        there.close()
        most = 0
        with here:
            answer(here)
            here.send((0, self.size))
            while not here.poll(_POLL):
                most = max(most, _rss_anon(process.pid or 0))
            answer(here)
            most = max(most, _rss_anon(process.pid or 0))
        process.join()
        return (most - self.size) / _MIB


def _rss_anon(process: int) -> int:
    """Bytes of private memory that a process has now."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0
