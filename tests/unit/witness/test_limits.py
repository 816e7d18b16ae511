import pytest

from custody.witness.limits import TokenBuckets


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    now = 0.0
    buckets = TokenBuckets(rate=2, burst=3, clock=lambda: now)
    assert [buckets.take("a") for _ in range(5)] == [True, True, True, False, False]
    now = 0.5
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    now = 100
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]


def test_a_flood_from_one_peer_takes_nothing_from_another() -> None:
    buckets = TokenBuckets(rate=1, burst=1, clock=lambda: 0.0)
    for _ in range(1000):
        buckets.take("flood")
    assert buckets.take("log")


def test_a_clock_that_jumps_back_gives_no_tokens() -> None:
    now = 100.0
    buckets = TokenBuckets(rate=1, burst=1, clock=lambda: now)
    assert buckets.take("a")
    now = 0.0
    assert not buckets.take("a")


def test_memory_is_bounded_by_forgetting_the_most_silent() -> None:
    buckets = TokenBuckets(rate=1, burst=1, clock=lambda: 0.0, peers=10)
    assert buckets.take("log")
    for number in range(9):
        buckets.take(str(number))
    assert not buckets.take("log")
    for number in range(9):
        buckets.take(str(number + 100))
    assert len(buckets._buckets) == 10
    assert not buckets.take("log")


def test_impossible_limits_are_refused() -> None:
    for rate, burst, peers in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="positive"):
            TokenBuckets(rate, burst, lambda: 0.0, peers)


def test_a_token_that_is_given_back_can_be_taken_again_and_no_more_than_the_burst() -> None:
    buckets = TokenBuckets(rate=1, burst=2, clock=lambda: 0.0)
    for _ in range(5):
        assert buckets.take("log")
        buckets.give_back("log")
    buckets.give_back("log")
    buckets.give_back("nobody")
    assert [buckets.take("log") for _ in range(3)] == [True, True, False]
