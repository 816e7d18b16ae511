"""The figures as people read them: a table of 100 columns, bars, and a table for the README."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from ops.bench.rows import Row, Target

__all__ = ["bars", "markdown", "table", "verdict"]

_BAR = 50


def table(rows: Sequence[Row]) -> str:
    """Write median, least and most of the runs, processor seconds, and what our median is to each peer's."""
    lines = []
    for (part, unit), some in _parts(rows):
        head = f"{part}{f', {unit}' if unit else ''}"
        lines.append(f"{head:38}{'median':>8}{'least':>8}{'most':>8}{'cpu s':>7}{'ours is':>8}  must be (aim)")
        for row in some:
            if not row.values:
                lines.append(f"  {row.name:36}  {row.missing[:37]:37}  {_judged(row)}".rstrip())
                continue
            spread = "".join(f"{number(value):>8}" for value in (row.median, min(row.values), max(row.values)))
            processor = number(sorted(row.processor)[len(row.processor) // 2])
            ratio = "" if row.ratio is None else f"{number(row.ratio)}x"
            lines.append(f"  {row.name:36}{spread}{processor:>7}{ratio:>8}  {_judged(row)}".rstrip())
        lines.append("")
    return "\n".join(lines)


def bars(rows: Sequence[Row]) -> str:
    """Draw the medians, each part to a scale of its own: ``#`` is ours."""
    lines = []
    for (part, unit), some in _parts([row for row in rows if row.values]):
        shown = list(some)
        if len(shown) == 1:
            continue
        most = max(row.median for row in shown) or 1.0
        lines.append(f"{part}, {unit}")
        for row in shown:
            bar = ("#" if row.ours else "-") * round(_BAR * row.median / most)
            lines.append(f"  {row.name:36} {bar} {number(row.median)}")
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Write the table as Markdown has tables."""
    lines = ["| | median | least to most | cpu s | ours is | must be (aim) |", "|---|--:|--:|--:|--:|---|"]
    for (part, unit), some in _parts(rows):
        lines.append(f"| **{part}**, {unit} | | | | | |")
        for row in some:
            if not row.values:
                lines.append(f"| {row.name} | {row.missing} | | | | {_judged(row)} |")
                continue
            name = f"**{row.name}**" if row.ours else row.name
            spread = f"{number(min(row.values))} to {number(max(row.values))}"
            processor = number(sorted(row.processor)[len(row.processor) // 2])
            ratio = "" if row.ratio is None else f"{number(row.ratio)} x"
            lines.append(f"| {name} | {number(row.median)} | {spread} | {processor} | {ratio} | {_judged(row)} |")
    return "\n".join(lines)


def verdict(rows: Sequence[Row]) -> str:
    """Count the targets: met, not met, and not measured."""
    asked = [row for row in rows if row.target]
    missed = [f"{row.part} / {row.name}" for row in asked if row.met is False]
    unknown = sum(row.met is None for row in asked)
    counted = f"{sum(row.met is True for row in asked)} of {len(asked)} targets are met"
    return f"{counted}{f', {unknown} are not measured (?)' if unknown else ''}." + "".join(
        f"\nNot met: {name}." for name in missed
    )


def number(value: float) -> str:
    """Write a number as exactly as it deserves."""
    size = abs(value)
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"  # noqa: PLR2004 - digits


def _parts(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], Iterator[Row]]]:
    return groupby(rows, lambda row: (row.part, row.unit))


def _judged(row: Row) -> str:
    if row.target is None:
        return ""
    met = {True: "met", False: "NOT MET", None: "?"}[row.met]
    return f"{_said(row.target)} {met}"


def _said(target: Target) -> str:
    return f"{'<' if target.below else '>='} {target.must:g} ({target.aim:g})"
