"""Whoever waits between attempts asks every second whether it is still worth it."""

import pytest

from custody.adapters.backoff import wait
from custody.errors import UnavailableError


@pytest.mark.parametrize("after", [0, 1, 3, 9])
def test_a_wait_that_is_not_wanted_any_more_ends_within_a_second(after: int) -> None:
    slept: list[float] = []

    def wanted() -> None:
        if sum(slept) >= after:
            raise UnavailableError("not wanted")

    with pytest.raises(UnavailableError, match="not wanted"):
        wait(9, slept.append, wanted)
    assert slept == [1] * after


@pytest.mark.parametrize("seconds", [0, 0.25, 1, 2.5])
def test_a_wait_that_is_wanted_takes_its_time_and_is_asked_for_at_its_end_too(seconds: float) -> None:
    slept: list[float] = []
    asked: list[float] = []
    wait(seconds, slept.append, lambda: asked.append(sum(slept)))
    assert sum(slept) == seconds
    assert asked[-1] == seconds
    assert max(slept, default=0) <= 1
