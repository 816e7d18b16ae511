"""A broker's use cases over a real ledger and log that hold what a world has logged; no server, no witnesses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custody.broker.clock import SteadyClock
from custody.broker.context import Context
from custody.broker.ledger import BrokerIdentity, Ledger
from custody.broker.opener import Opener
from custody.ports import Facts, JournalTransaction
from custody.rules.state import State
from tests.doubles.world import World
from tests.unit.publishing.world import World as Published

__all__ = ["Anything", "broker_of"]


class Anything:
    """A policy that forbids nothing."""

    digest = "ab" * 32

    def check(self, action: str, principal: str, resource: str, facts: Facts) -> None:
        """Permit."""


@contextmanager
def broker_of(world: World, folder: Path, commits: list[int] | None = None) -> Iterator[Context]:
    """Have the broker for the length of a block. ``commits`` gets the size after every transaction that is begun."""
    place = Published(folder)
    with place.journal.transaction() as transaction:
        for entry in world.log.entries:
            transaction.append(entry.encode())
        for digest, envelope in world.log.envelopes.items():
            transaction.add_document(digest, envelope.encode())
    whole = place.journal.transaction

    @contextmanager
    def counted() -> Iterator[JournalTransaction]:
        with whole() as transaction:
            yield transaction
        if commits is not None:
            commits.append(transaction.size)

    place.journal.transaction = counted  # type: ignore[method-assign]
    clock = SteadyClock(lambda: float(world.now), lambda: 0.0)
    identity = BrokerIdentity("broker-1", world.broker, "b1" * 32)
    state = State(world.deployment, world.genesis.digest)
    ledger = Ledger(place.journal, place.publisher(), state, identity, clock=clock, rng=world.rng)
    ledger.fold()
    context = Context(ledger, place.store, place.store, Anything(), Opener(), folder)
    try:
        yield context
    finally:
        context.opener.close()
        ledger.close()
        place.close()
