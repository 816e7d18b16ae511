"""What of refusals becomes entries, and how many."""

import pytest

from custody.broker.context import Peer
from custody.broker.refusals import ALL, EACH, PerMinute, Refusals
from custody.errors import (
    ConfigError,
    ConflictError,
    CustodyError,
    DeniedError,
    FormatError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)


class Clock:
    """Passes when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def peer(number: int) -> Peer:
    return Peer(f"spiffe://example.org/job/{number}", "ab" * 32)


def logged(refusals: Refusals) -> list[str]:
    found = []
    while refused := refusals.first():
        found.append(f"{refused.peer.identity} {refused.reason}")
        refusals.done()
    return found


def test_known_peers_are_named_with_call_and_cause() -> None:
    refusals = Refusals(Clock())
    for error in (DeniedError("x"), FormatError("x"), IntegrityError("x"), NotFoundError("x")):
        refusals.known(peer(1), "open-session", error)
    assert logged(refusals) == [
        f"spiffe://example.org/job/1 refused-open-session-{word}"
        for word in ("denied", "malformed", "forged", "unknown")
    ]
    assert refusals.counts() == {}


def test_a_reader_is_not_said_to_have_forged_what_the_store_has_damaged() -> None:
    refusals = Refusals(Clock())
    for call in ("read", "read-digests", "locate", "open-session"):
        refusals.known(peer(1), call, IntegrityError("x"))
    assert [line.rpartition(" ")[2] for line in logged(refusals)] == [
        "refused-read-damaged",
        "refused-read-digests-damaged",
        "refused-locate-damaged",
        "refused-open-session-forged",
    ]


@pytest.mark.parametrize("kind", [NotFoundError, ConflictError, UnavailableError, ConfigError])
def test_what_is_nobodys_attempt_is_not_noted(kind: type[CustodyError]) -> None:
    refusals = Refusals(Clock())
    refusals.known(peer(1), "get-request", kind("x"))
    assert refusals.first() is None
    assert refusals.counts() == {}


def test_a_flood_of_one_is_counted_beyond_its_share_and_hides_nobody() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(1000):
        refusals.known(peer(1), "decide", DeniedError("x"))
    refusals.known(peer(2), "decide", DeniedError("x"))
    assert len(logged(refusals)) == EACH + 1
    assert refusals.counts() == {"refused-more": 1000 - EACH}
    assert refusals.counts() == {}
    clock.now = 60
    refusals.known(peer(1), "decide", DeniedError("x"))
    assert len(logged(refusals)) == 1


def test_many_identities_together_fill_nothing() -> None:
    refusals = Refusals(Clock())
    for number in range(3 * ALL):
        refusals.known(peer(number), "hello", DeniedError("x"))
    assert len(logged(refusals)) == ALL
    assert refusals.counts() == {"refused-more": 2 * ALL}


def test_strangers_are_only_counted() -> None:
    refusals = Refusals(Clock())
    for _ in range(3):
        refusals.stranger()
    assert refusals.first() is None
    assert refusals.counts() == {"refused-strangers": 3}


def test_per_minute_is_for_each_name() -> None:
    clock = Clock()
    limit = PerMinute(2, clock)
    assert [limit.take("a") for _ in range(3)] == [True, True, False]
    assert limit.take("b")
    clock.now = 59.9
    assert not limit.take("a")
    clock.now = 60
    assert limit.take("a")
