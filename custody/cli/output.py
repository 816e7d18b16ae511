r"""What a command says: results on stdout, everything else on stderr.

A result is data first. For people it is shown as fields and tables; with ``--output json`` it is one line of JSON on
stdout: keys sorted, no white space, ASCII only, so that a value can neither redraw a screen nor end a line.

No value is ever read as markup. What a terminal would not show as it is (control, bidi, zero-width and private
characters) is written as ``\\u{202E}``. Colours only on a terminal, and never with NO_COLOR (no-color.org).
"""

import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO

from custody.cli.progress import Meter, drawn

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "Rows", "visible"]

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_GAP: Final = "  "

Rows = Sequence[tuple[str, str]]


def visible(text: object) -> str:
    r"""Return ``text`` with each character that does not show, or moves the cursor, as ``\\u{...}``."""
    value = str(text)
    if value.isascii() and value.isprintable():
        return value
    return "".join(
        f"\\u{{{ord(letter):04X}}}" if unicodedata.category(letter) in _INVISIBLE else letter for letter in value
    )


class Output:
    """Where one command writes. ``as_json`` is ``--output json``."""

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json: Final = as_json
        self._out: Final = out or sys.stdout
        self._err: Final = err or sys.stderr
        self._console: Console | None = None  # that of the meter being drawn

    def result(self, data: Mapping[str, Any]) -> None:
        """With ``--output json``, print the result; otherwise nothing, since fields and tables have said it."""
        if self.as_json:
            self._out.write(json.dumps(data, sort_keys=True, separators=(",", ":")) + "\n")
            self._out.flush()

    def line(self, text: str) -> None:
        """Say one line of the result to people."""
        if not self.as_json:
            self._write(self._out, visible(text))

    def fields(self, rows: Rows, title: str = "") -> None:
        """Show labels and values to people, one a line."""
        if self.as_json:
            return
        self._fields(self._out, rows, title)

    def show(self, rows: Rows, title: str = "") -> None:
        """Show labels and values on stderr: what a person is asked to confirm, whatever stdout is for."""
        self._fields(self._err, rows, title)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table to people: the first row bold on a terminal, no line ever cut off."""
        if self.as_json:
            return
        cells = [[visible(cell) for cell in row] for row in rows]
        widths = [max(len(row[place]) for row in [list(columns), *cells]) for place in range(len(columns))]
        self._write(self._out, _join(columns, widths), "bold")
        for row in cells:
            self._write(self._out, _join(row, widths))

    def note(self, text: str) -> None:
        """Say something on stderr that is not the result."""
        self._write(self._err, visible(text))

    def warn(self, text: str) -> None:
        """Say on stderr what must not be missed."""
        self._write(self._err, f"warning: {visible(text)}", "yellow")

    def change(self, sign: str, label: str, value: str) -> None:
        """Show one line of a comparison on stderr: green for ``+``, red for ``-``."""
        self._write(self._err, f"{sign} {visible(label)}: {visible(value)}", "green" if sign == "+" else "red")

    @contextmanager
    def progress(self, what: str, total: int, files: int = 0) -> Iterator[Meter]:
        """Show on a terminal how far ``total`` bytes and ``files`` are, how fast, and how long it will take."""
        meter = Meter(total, files, time.monotonic)
        if not self._err.isatty() or os.environ.get("TERM") == "dumb":
            yield meter
            return
        with drawn(meter, visible(what), self._err) as console:
            self._console = console
            try:
                yield meter
            finally:
                self._console = None

    def _fields(self, stream: TextIO, rows: Rows, title: str) -> None:
        if title:
            self._write(stream, visible(title), "bold")
        width = max((len(visible(label)) for label, _ in rows), default=0)
        indent = _GAP if title else ""
        for label, value in rows:
            self._write(stream, f"{indent}{visible(label).ljust(width)}{_GAP}{visible(value)}".rstrip())

    def _write(self, stream: TextIO, text: str, style: str = "") -> None:
        """Write one line, escaped already; styled where colours are wanted. A meter that is drawn stays below it."""
        if self._console is not None and stream is self._err:
            self._console.print(text, style=style, soft_wrap=True)
            return
        if style and _colours(stream):
            from rich.console import Console
            from rich.text import Text

            Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=True).print(Text(text, style))
            return
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
