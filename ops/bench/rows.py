"""Timing things fairly: all of a row's contenders in turn, again and again, so that a noisy minute hits each."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Row", "chart", "measure", "table"]


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender did: GB/s of every run, and seconds of processor for a GB; empty where it is not installed.

    ``ours`` is set against the rest of its part. On a busy machine the processor's seconds are the figure to believe.
    """

    part: str
    name: str
    ours: bool
    rates: Sequence[float]
    cpu: Sequence[float]

    @property
    def median(self) -> float:
        """GB/s."""
        return statistics.median(self.rates) if self.rates else 0.0


def measure(part: str, contenders: Mapping[str, Callable[[], object] | None], size: int, runs: int) -> list[Row]:
    """Time each contender ``runs`` times, interleaved. The first is ours; ``None`` is one that is not installed.

    What a contender returns is kept until its time is taken: giving memory back is not part of loading.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, do in contenders.items():
            if do is None:
                continue
            gc.collect()
            start, used = time.perf_counter(), time.process_time()
            result = do()
            rates[name].append(size / (time.perf_counter() - start) / 1e9)
            cpu[name].append((time.process_time() - used) / (size / 1e9))
            del result
    return [Row(part, name, index == 0, rates[name], cpu[name]) for index, name in enumerate(contenders)]


def table(rows: Sequence[Row]) -> str:
    """Write the rows as text: GB/s, and how many times as fast as each peer ours is."""
    lines = [f"{'':10}{'':44}{'median':>8}{'least':>8}{'most':>8}{'cpu s/GB':>10}{'ours is':>9}"]
    ours = {row.part: row.median for row in rows if row.ours}
    for row in rows:
        if not row.rates:
            lines.append(f"{row.part:10}{row.name:44}{'not installed':>24}")
            continue
        ratio = "" if row.ours else f"{ours[row.part] / row.median:8.2f}x"
        lines.append(
            f"{row.part:10}{row.name:44}{row.median:8.2f}{min(row.rates):8.2f}{max(row.rates):8.2f}"
            f"{statistics.median(row.cpu):10.2f}{ratio:>9}"
        )
    return "\n".join(lines)


def chart(rows: Sequence[Row]) -> str:
    """Draw the medians as bars."""
    most = max((row.median for row in rows), default=0.0) or 1.0
    return "\n".join(
        f"{row.part:10}{row.name:44}{('#' if row.ours else '-') * round(40 * row.median / most)}"
        for row in rows
        if row.rates
    )
