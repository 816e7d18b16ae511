"""A crash, an I/O error, a full disk or a lost answer at every single operation of the store and of the ledger.

Whatever happens: what was acknowledged stays in the log, the log never forks, and a new process goes on.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from custody.entries.receipt import Receipt
from custody.errors import CustodyError, UnavailableError
from custody.ports import Journal, Store
from custody.publishing.publisher import Publisher
from tests.doubles.journal import FaultyJournal
from tests.doubles.store import Dead, Fault, FaultyStore
from tests.unit.publishing.tiny_reader import check_kept, read_log
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


def finish(world: World, receipts: list[Receipt]) -> None:
    """A new process publishes the rest; then everything that was acknowledged must be in the one log."""
    again = Run(world)
    world.journal.close()
    world.journal = world.open_journal()
    publisher = world.publisher()
    publisher.recover()
    again._publish(publisher, 1)
    entries = read_log(world.path / "log")
    assert entries == [row.entry for row in world.journal.rows(0, 10_000)]
    check_kept(world.path / "log", entries)
    for receipt in [*receipts, *again.receipts]:
        verified = world.verify(receipt)
        assert entries[verified.index] == receipt.entry
    if entries:
        assert world.store.get(f"documents/{hashlib.sha256(ENVELOPE).hexdigest()}") == ENVELOPE
    world.append(entry(9999))
    world.publish(publisher)
    assert read_log(world.path / "log") == [*entries, entry(9999)]


def count_operations(path: Path, kind: str) -> int:
    path.mkdir()
    world = one_witness(path)
    store, journal = FaultyStore(world.store), FaultyJournal(world.journal)
    Run(world).work(journal, store, patience=1)
    world.close()
    return store.done if kind == "store" else journal.done


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("kind", ["store", "journal"])
def test_a_failure_at_every_operation_loses_nothing_and_never_forks(tmp_path: Path, kind: str, fault: Fault) -> None:
    total = count_operations(tmp_path / "honest", kind)
    assert total > 20
    for at in range(total):
        path = tmp_path / str(at)
        path.mkdir()
        world = one_witness(path)
        store = FaultyStore(world.store, at=at if kind == "store" else None, fault=fault)
        journal = FaultyJournal(world.journal, at=at if kind == "journal" else None, fault=fault)
        run = Run(world)
        with suppress(CustodyError, Dead):
            run.work(journal, store, patience=2)
        finish(world, run.receipts)
        world.close()


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.PERSISTED])
def test_a_store_that_fails_once_costs_a_retry_and_no_restart(tmp_path: Path, fault: Fault) -> None:
    total = count_operations(tmp_path / "honest", "store")
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
