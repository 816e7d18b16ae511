"""A clock that jumps neither lengthens a lease nor poisons the log."""

import pytest

from custody.broker.clock import JUMP, SteadyClock
from custody.errors import UnavailableError


class Hands:
    """Wall and monotonic clock, set by hand."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.monotonic = 500.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def clock_of(hands: Hands) -> SteadyClock:
    return SteadyClock(lambda: hands.wall, lambda: hands.monotonic)


def test_it_follows_the_wall_clock_and_small_steps_of_it() -> None:
    hands = Hands()
    clock = clock_of(hands)
    hands.pass_by(10)
    hands.wall += JUMP - 1
    assert clock() == 1_800_000_010 + JUMP - 1
    clock.require_steady()


@pytest.mark.parametrize("off", [-2 * 3600, 2 * 3600, 365 * 86400, -(JUMP + 1)])
def test_a_jump_changes_no_time_and_stops_granting_until_it_is_mended(off: int) -> None:
    hands = Hands()
    clock = clock_of(hands)
    hands.wall += off
    hands.pass_by(60)
    assert clock() == 1_800_000_060
    with pytest.raises(UnavailableError, match="jumped"):
        clock.require_steady()
    hands.wall -= off
    clock.require_steady()
    assert clock() == 1_800_000_060


def test_it_never_goes_back_even_by_a_second() -> None:
    hands = Hands()
    clock = clock_of(hands)
    hands.pass_by(10)
    before = clock()
    hands.wall -= 5
    assert clock() == before


def test_a_wall_clock_that_stops_is_a_jump_too() -> None:
    hands = Hands()
    clock = clock_of(hands)
    hands.monotonic += 3600
    assert clock() == 1_800_003_600
    with pytest.raises(UnavailableError):
        clock.require_steady()
