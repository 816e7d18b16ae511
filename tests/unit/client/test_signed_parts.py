"""Many parts are signed at once, and no stale or refused request is used twice."""

from collections.abc import Sequence

from custody.client.signed_parts import SignedParts
from custody.ports import Presigned

MIB = 1 << 20


class Broker:
    now = 1000
    seconds = 900

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, first: int, many: int) -> Sequence[Presigned]:
        self.asked.append((first, many))
        return [
            Presigned(f"{number} {len(self.asked)}", {}, self.now + self.seconds)
            for number in range(first, first + many)
        ]


def made(broker: Broker, parts: int, part_size: int = 8 * MIB) -> SignedParts:
    return SignedParts(broker, parts, part_size, lambda: broker.now)


def test_many_parts_cost_one_call() -> None:
    broker = Broker()
    signed = made(broker, 40)
    assert [signed.take(number).url.split()[0] for number in range(1, 41)] == [str(number) for number in range(1, 41)]
    assert broker.asked == [(1, 16), (17, 16), (33, 8)]


def test_large_parts_are_signed_fewer_at_a_time_and_always_one() -> None:
    broker = Broker()
    made(broker, 10, 100 * MIB).take(1)
    made(broker, 10, 1 << 30).take(1)
    assert broker.asked == [(1, 2), (1, 1)]


def test_a_part_that_is_taken_again_is_signed_anew_and_alone() -> None:
    broker = Broker()
    signed = made(broker, 5)
    urls = [signed.take(2).url, signed.take(2).url, signed.take(3).url]
    assert urls == ["2 1", "2 2", "3 1"]
    assert broker.asked == [(2, 4), (2, 1)]


def test_a_request_that_ends_soon_is_not_used() -> None:
    broker = Broker()
    signed = made(broker, 3)
    signed.take(1)
    broker.now += broker.seconds - 60
    assert signed.take(2).expires == broker.now + broker.seconds
    assert broker.asked == [(1, 3), (2, 1)]
