"""How far a command is: what the commands that move weights show on a terminal, all in the same words.

::

    sealing frontier/llm@2026-11  ━━━━━━━━━━━━━━━━━━━━━━━━━╺━━━━━━━━━━━━━━  62 %
      86.8 of 140.0 GiB  1.1 GiB/s  49 seconds left  101 of 163 files

The rate is that of the last ``WINDOW`` seconds, and the time left follows from it: so neither a burst into the page
cache nor a store that has stopped to answer is believed for long. Bytes that were there before count as done and not as
fast. Nothing is shown where nobody looks (a pipe, a journal, TERM=dumb).
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["WINDOW", "Meter", "drawn"]

WINDOW: Final = 20.0
"""Seconds over which the rate is taken."""

_SETTLING: Final = 1.0  # seconds before a rate is told
_SAMPLE: Final = 0.5
_COARSE: Final = 120  # seconds from which time left is told in steps
_STEP: Final = 10
_A_SECOND: Final = 5


class Meter:
    """Counts bytes and files, by one thread at a time; read by another. ``monotonic`` gives seconds."""

    def __init__(self, total: int, files: int, monotonic: Callable[[], float]) -> None:
        self.total: Final = total
        self.files: Final = files
        self.done = 0
        self.files_done = 0
        self._moved = 0
        self._monotonic = monotonic
        self._samples: deque[tuple[float, int]] = deque([(monotonic(), 0)])

    def __call__(self, done: int, /) -> None:
        """Add bytes that have just been done."""
        self.done += done
        self._moved += done

    def there(self, done: int, /) -> None:
        """Add bytes that were done before."""
        self.done += done

    def file(self, _path: str, /) -> None:
        """Add a file that is done."""
        self.files_done += 1

    def rate(self) -> float | None:
        """Bytes a second over the last while; None when it is too early to tell."""
        now, moved = self._monotonic(), self._moved
        if now - self._samples[-1][0] >= _SAMPLE:
            self._samples.append((now, moved))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
        since, before = self._samples[0]
        return (moved - before) / (now - since) if now - since >= _SETTLING else None

    def status(self) -> str:
        """Say how far, how fast, how long still, and how many files."""
        parts = [_of(self.done, self.total)]
        rate = self.rate()
        if self.done >= self.total:
            parts = [_short(self.total), "waiting until all of it is safe"]
        elif rate is None:
            parts.append("…")
        elif rate < 1:
            parts.append(f"nothing has moved for {WINDOW:.0f} seconds")
        else:
            parts += [f"{_short(int(rate))}/s", f"{_left((self.total - self.done) / rate)} left"]
        if self.files > 1:
            parts.append(f"{self.files_done} of {self.files} files")
        return "  ".join(parts)


@contextmanager
def drawn(meter: Meter, what: str, stream: TextIO) -> "Iterator[Console]":
    """Draw a meter on a terminal for the length of a block; then it is gone. Yields what to print lines with."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    with Live(
        get_renderable=lambda: _picture(meter, what),
        console=console,
        refresh_per_second=_A_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield console


def _picture(meter: Meter, what: str) -> "Table":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    share = meter.done / meter.total if meter.total else 1.0
    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", max_width=48)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(Text(what), ProgressBar(total=1.0, completed=share), f"{int(100 * share)} %")
    whole = Table.grid()
    whole.add_row(Group(line, Text(f"  {meter.status()}", no_wrap=True, overflow="ellipsis")))
    return whole


def _short(size: int) -> str:
    from custody.documents.show import size_text

    return size_text(size).partition(" (")[0]


def _of(done: int, total: int) -> str:
    """Write the unit once where both have it: ``86.8 of 140.0 GiB``."""
    before, whole = _short(done), _short(total)
    number, _, unit = before.partition(" ")
    return f"{number if not done or whole.endswith(f' {unit}') else before} of {whole}"


def _left(seconds: float) -> str:
    from custody.custodian.shown import span

    whole = int(seconds) + 1
    return span(whole if whole < _COARSE else -(-whole // _STEP) * _STEP)
