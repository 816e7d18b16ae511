"""Timing things fairly: all of a part's contenders in turn, again and again, so that a noisy minute hits each."""

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from custody.segments.buffers import huge_buffer

__all__ = ["Contender", "Part", "Row", "Target", "beside", "measure", "processor_seconds", "rate", "returned", "took"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must be, and what is aimed at.

    Of a ``ratio``, ours to a peer's, at least so much, or less than that; of a ``value`` of ours, less than that.
    """

    must: float
    aim: float
    of: Literal["ratio", "value"] = "ratio"
    below: bool = False

    def met(self, figure: float) -> bool:
        """Tell whether a figure is what it must be."""
        return figure < self.must if self.below else figure >= self.must


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do it. Where ``run`` is ``None``, ``missing`` says why.

    ``before`` and ``after`` are not timed. ``size`` is bytes, of rates. ``processes`` work for it besides this one.
    ``target`` is of its own value for ours, and otherwise of what ours is to it.
    """

    name: str
    run: Callable[[], object] | None
    missing: str = ""
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    size: int = 0
    processes: Sequence[int] = ()
    target: Target | None = None


Figure = Callable[[Contender, float, object], float]
"""From a contender, the seconds its run took, and what it returned."""


@dataclass(frozen=True, slots=True)
class Part:
    """Contenders for the same work; the first is ours, and so are those that ``ours`` counts further.

    The first is compared with each, unless ``compared`` is false. Each run follows an untimed one of its own, unless
    ``again`` is false.
    """

    title: str
    unit: str
    figure: Figure
    contenders: Sequence[Contender]
    ours: int = 1
    compared: bool = True
    again: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender did: the value of every run, and seconds of processor for each GB, or for each run.

    ``ratio`` is what our median is to this one. ``met`` is ``None`` where there is no target, or nothing was measured.
    """

    part: str
    unit: str
    name: str
    ours: bool
    values: Sequence[float] = ()
    processor: Sequence[float] = ()
    ratio: float | None = None
    target: Target | None = None
    missing: str = ""

    @property
    def median(self) -> float:
        """In the unit."""
        return statistics.median(self.values) if self.values else 0.0

    @property
    def met(self) -> bool | None:
        """Whether the target is met."""
        figure = self.median if self.target and self.target.of == "value" else self.ratio
        return self.target.met(figure) if self.target and self.values and figure is not None else None


def rate(contender: Contender, seconds: float, _result: object) -> float:
    """GB/s."""
    return contender.size / seconds / 1e9


def took(_contender: Contender, seconds: float, _result: object) -> float:
    """Milliseconds."""
    return 1000 * seconds


def returned(_contender: Contender, _seconds: float, result: object) -> float:
    """What the run returned: it measured by itself."""
    if not isinstance(result, float | int):
        raise TypeError(result)
    return float(result)


def beside(name: str, make: Callable[[], Contender], target: Target | None = None) -> Contender:
    """Make a peer ready; one that is not installed, or fails to be, stays in the table and says why."""
    try:
        return make()
    except ImportError as error:
        return Contender(name, None, missing=f"not installed: {error.name or error}", target=target)
    except Exception as error:  # noqa: BLE001 - somebody else's library; ours must be measured all the same
        return Contender(name, None, missing=f"failed: {_line(error)}", target=target)


def measure(part: Part, runs: int) -> list[Row]:
    """Run each contender ``runs`` times, in turn.

    What a contender returns is kept until its time is taken: giving memory back is not part of loading. A peer that
    fails is left out from then on.
    """
    values: list[list[float]] = [[] for _ in part.contenders]
    processor: list[list[float]] = [[] for _ in part.contenders]
    failed: dict[int, str] = {}
    order = list(enumerate(part.contenders))
    for turn in range(runs):
        # There and back: what one leaves behind, such as memory in small pieces, is not always the same one's burden.
        for index, contender in order if turn % 2 == 0 else reversed(order):
            if contender.run is None or index in failed:
                continue
            try:
                value, spent = _once(part, contender, contender.run)
            except Exception as error:
                if index < part.ours:
                    raise
                failed[index] = f"failed: {_line(error)}"
                continue
            values[index].append(value)
            processor[index].append(spent)
    rows = []
    for index, contender in enumerate(part.contenders):
        missing = failed.get(index, contender.missing)
        measured = () if missing else values[index]
        mine, theirs = (statistics.median(some) if some else 0.0 for some in (values[0], measured))
        ratio = mine / theirs if index and theirs and part.compared else None
        own = index < part.ours
        target = contender.target
        row = Row(part.title, part.unit, contender.name, own, measured, processor[index], ratio, target, missing)
        rows.append(row)
    return rows


def processor_seconds(process: int) -> float:
    """Return the processor time that a process and its children that are gone have used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


_TICKS: Final = os.sysconf("SC_CLK_TCK")
_libc: Final = ctypes.CDLL(None)


def _once(part: Part, contender: Contender, run: Callable[[], object]) -> tuple[float, float]:
    """Return value and processor time of one run."""
    if part.again:
        contender.before()
        try:
            run()
        finally:
            contender.after()
    contender.before()
    try:
        gc.collect()
        _libc.malloc_trim(0)  # what the C library keeps of the last run would be used again: no fresh memory
        _have_memory(contender.size)
        used, start = _spent(contender), time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        spent = _spent(contender) - used
        value = part.figure(contender, seconds, result)
        del result
    finally:
        contender.after()
    return value, spent / (contender.size / 1e9) if contender.size else spent


def _have_memory(size: int) -> None:
    """Use so much memory and give it back, with some to spare. What nobody has used for two seconds a virtual machine
    may have given to its host, and who gets it next waits ten times as long for it.
    """
    memory = huge_buffer(size + size // 4)
    ctypes.memset((ctypes.c_char * len(memory)).from_buffer(memory), 1, len(memory))


def _spent(contender: Contender) -> float:
    children = os.times()
    own = time.process_time() + children.children_user + children.children_system
    return own + sum(map(processor_seconds, contender.processes))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
