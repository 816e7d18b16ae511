"""What a publisher survives by itself, and what stops it. Crashes of any kind: tests/campaign, under real files."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from custody.entries.receipt import Receipt
from custody.errors import UnavailableError
from custody.ports import Journal, Store
from custody.publishing.publisher import Publisher
from tests.doubles.journal import FaultyJournal
from tests.doubles.store import Fault, FaultyStore
from tests.unit.publishing.tiny_reader import read_log
from tests.unit.publishing.world import World, document_entry, entry, two_of_three

# A killed process takes its witness threads with it; here they die loudly.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

_T = TypeVar("_T")

ENVELOPE = b"an envelope"
STEPS = [1, 253, 3]  # entries of each batch: from a partial tile to a full one to the next partial one


def one_witness(path: Path) -> World:
    """With a single witness the operations come in one order."""
    world = World(path)
    del world.witnesses[1:]
    world.policy = two_of_three(world.signer, world.witnesses[0].signer)
    return world


class Run:
    """What one process did: the receipts that it gave out before it ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.receipts: list[Receipt] = []

    def work(self, journal: Journal, store: Store, *, patience: int) -> None:
        """Publish the batches; try each round ``patience`` times."""
        publisher = self.world.publisher(journal=journal, store=store)
        self._try(publisher.recover, patience)
        self._publish(publisher, patience)
        done = self.world.journal.size()
        for count in STEPS:
            if done == 0:
                self._try(lambda: self._documents(journal), patience)
                done = 1
            else:
                entries = [entry(done + i) for i in range(count)]
                self._try(lambda entries=entries: self.world.append(*entries, journal=journal), patience)  # type: ignore[misc]
                done += count
            self._publish(publisher, patience)

    def _documents(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            transaction.add_document(hashlib.sha256(ENVELOPE).hexdigest(), ENVELOPE)
            transaction.append(document_entry(0, ENVELOPE))

    def _publish(self, publisher: Publisher, patience: int) -> None:
        while self._try(publisher.publish_once, patience):
            pass
        size = publisher.published.size
        if size:
            self.receipts.append(self._try(lambda: publisher.receipt(size - 1), patience))

    def _try(self, action: Callable[[], _T], patience: int) -> _T:
        for _ in range(patience - 1):
            try:
                return action()
            except UnavailableError:
                continue
        return action()


def count_operations(path: Path) -> int:
    path.mkdir()
    world = one_witness(path)
    store = FaultyStore(world.store)
    Run(world).work(world.journal, store, patience=1)
    world.close()
    return store.done


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.PERSISTED])
def test_a_store_that_fails_once_costs_a_retry_and_no_restart(tmp_path: Path, fault: Fault) -> None:
    total = count_operations(tmp_path / "honest")
    for at in range(total):
        path = tmp_path / str(at)
        path.mkdir()
        world = one_witness(path)
        run = Run(world)
        run.work(world.journal, FaultyStore(world.store, at=at, fault=fault), patience=2)
        assert len(read_log(path / "log")) == sum(STEPS)
        world.close()


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.PERSISTED])
def test_a_swap_of_unknown_outcome_stops_the_publisher_for_good(tmp_path: Path, fault: Fault) -> None:
    world = one_witness(tmp_path)
    world.append(entry(0))
    world.publish(world.running())
    world.append(entry(1))
    failing = FaultyJournal(world.journal, at="swap", fault=fault)
    publisher = world.publisher(journal=failing)
    publisher.recover()
    with pytest.raises(UnavailableError, match="the ledger has stopped"):
        world.publish(publisher)
    assert publisher.failed is not None
    with pytest.raises(UnavailableError, match="the ledger has stopped"):
        publisher.wait(1, 1)
    assert publisher.published.size == 1
    world.publish(world.running())
    assert len(read_log(tmp_path / "log")) == 2
