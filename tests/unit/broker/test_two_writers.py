"""A broker whose ledger another process has written to judges nothing by the state it had before."""

from pathlib import Path

import pytest

from custody.broker.clock import SteadyClock
from custody.broker.ledger import BrokerIdentity, Ledger
from custody.errors import IntegrityError, UnavailableError
from custody.rules.state import State
from tests.doubles.world import World
from tests.unit.publishing.world import World as Published


def test_an_entry_after_the_end_of_the_log_is_not_written_by_a_broker_that_did_not_see_it(tmp_path: Path) -> None:
    world, place = World(), Published(tmp_path)
    identity = BrokerIdentity("broker-1", world.broker, "0" * 64)
    clock = SteadyClock(lambda: float(world.now), lambda: 0.0)

    def ledger() -> Ledger:
        state = State(world.deployment, world.genesis.digest)
        made = Ledger(place.journal, place.publisher(), state, identity, clock=clock, rng=world.rng)
        made.fold()
        return made

    first = ledger()
    first.append("root", documents={"root": world.genesis})
    second = ledger()
    second.append("system", reason="clock")
    with pytest.raises(UnavailableError, match="another process"):
        first.append("system", reason="clock")
    assert first.append("system", reason="clock") == 2  # it has looked again
    second.fold()
    second.append("system", actor=identity.party, reason="log-end")
    with pytest.raises(UnavailableError, match="another process"):
        first.append("system", reason="clock")
    with pytest.raises(IntegrityError, match="the log has ended"):
        first.append("system", reason="clock")
    assert place.journal.size() == 4
    place.close()
