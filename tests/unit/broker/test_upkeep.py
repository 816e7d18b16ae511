"""What a tick costs while many wait: it looks, and writes nothing where nothing is to be granted."""

from pathlib import Path

from custody.broker.refusals import Refusals
from custody.broker.upkeep import Upkeep
from custody.errors import CustodyError
from tests.doubles.world import World
from tests.unit.broker.place import broker_of


def test_a_tick_takes_no_turn_of_writing_for_requests_that_wait(tmp_path: Path) -> None:
    """Those who grant are busy writers; keys that are over are wiped by the same thread, and must not wait for them."""
    world = World()
    world.seal()
    waiting = [world.file() for _ in range(3)]
    waiting[0].decide("alice")  # one of two
    ready = world.file()
    for person in ("alice", "bob"):
        ready.decide(person)
    commits: list[int] = []
    trouble: list[CustodyError] = []
    with broker_of(world, tmp_path, commits) as context:
        upkeep = Upkeep(context, Refusals(lambda: 0.0), monotonic=lambda: 0.0, trouble=trouble.append)
        upkeep.tick()
        requests = context.ledger.glance().requests
        assert requests[ready.digest].phase == "granted"
        assert {requests[case.digest].phase for case in waiting} == {"requested"}
        assert len(commits) == 1
        upkeep.tick()
        assert len(commits) == 1
    assert not trouble
