"""What a person sees while weights move: honest, and only where somebody looks."""

import io
import re

import pytest

from custody.cli.output import Output
from custody.cli.progress import WINDOW, Meter

GIB = 1 << 30


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_time_left_follows_from_the_rate(clock: Clock) -> None:
    meter = Meter(10 * GIB, 5, clock)
    assert meter.status() == "0 of 10.0 GiB  …  0 of 5 files"
    for _ in range(4):
        clock.now += 1
        meter(GIB)
        meter.rate()
    meter.file("a")
    assert meter.status() == "4.0 of 10.0 GiB  1.0 GiB/s  7 seconds left  1 of 5 files"
    meter(6 * GIB)
    assert meter.status() == "10.0 GiB  waiting until all of it is safe  1 of 5 files"


def test_what_was_there_before_is_done_but_not_fast(clock: Clock) -> None:
    meter = Meter(10 * GIB, 1, clock)
    meter.there(8 * GIB)
    clock.now += 2
    meter(1 << 20)
    assert meter.status() == "8.0 of 10.0 GiB  512.0 KiB/s  1 hour 8 minutes left"


def test_a_burst_and_a_store_that_stopped_are_not_believed_for_long(clock: Clock) -> None:
    meter = Meter(100 * GIB, 1, clock)
    meter(50 * GIB)
    rates = []
    for _ in range(2 * int(WINDOW) + 2):
        clock.now += 0.5
        rates.append(meter.rate())
    assert rates[0] is None
    shown = [rate for rate in rates if rate is not None]
    assert shown == sorted(shown, reverse=True)
    assert shown[-1] == 0
    assert meter.status() == f"50.0 of 100.0 GiB  nothing has moved for {WINDOW:.0f} seconds"
    assert len(meter._samples) < 3 * WINDOW


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return Screen()


def test_a_terminal_shows_two_lines_that_fit_and_are_gone_at_the_end(screen: Screen) -> None:
    output = Output(out=io.StringIO(), err=screen)
    name = "sealing frontier/" + "a-very-long-name-of-a-model" * 3 + "@2026-11"
    with output.progress(name, 3 * GIB, 12) as meter:
        meter(GIB)
        meter.file("a")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "sealing frontier/a-very-long" in shown
    assert "33 %" in shown
    assert "1.0 of 3.0 GiB  …  1 of 12 files" in shown
    assert max(map(len, re.split(r"[\r\n]+", shown))) <= 80
    assert screen.getvalue().endswith("\x1b[2K"), "both lines are wiped"


def test_a_warning_stands_above_the_meter_and_whole(screen: Screen) -> None:
    output = Output(out=io.StringIO(), err=screen)
    with output.progress("fetching small@1", GIB):
        output.warn("the broker does not answer " * 5)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert f"\nwarning: {'the broker does not answer ' * 5}"[1:].rstrip() in shown
    output.note("afterwards")
    assert screen.getvalue().endswith("afterwards\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_where_nobody_looks_nothing_is_shown(monkeypatch: pytest.MonkeyPatch, *, as_json: bool) -> None:
    pipe, dumb = io.StringIO(), Screen()
    for stream in (pipe, dumb):
        monkeypatch.setenv("TERM", "dumb" if stream is dumb else "xterm")
        output = Output(as_json=as_json, out=io.StringIO(), err=stream)
        with output.progress("sealing small@1", 10, 1) as meter:
            meter(10)
            meter.file("a")
        assert stream.getvalue() == ""
        assert (meter.done, meter.files_done) == (10, 1)
