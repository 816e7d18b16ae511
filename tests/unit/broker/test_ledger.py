"""What comes together shares a commit, and nobody pays for another's mistake."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from custody.adapters.ledger import SqlJournal, open_journal
from custody.adapters.store_local import LocalStore
from custody.broker.clock import SteadyClock
from custody.broker.ledger import BrokerIdentity, Ledger
from custody.documents.actor import Person
from custody.documents.dsse import Envelope
from custody.documents.hello import Hello
from custody.errors import CustodyError, DeniedError, UnavailableError
from custody.ports import JournalTransaction
from custody.publishing.publisher import Publisher
from custody.rules.state import State
from custody.values import Time
from tests.doubles.world import DEPLOYMENT, World

CALLERS = 8


class SlowJournal(SqlJournal):
    """The real one; ``hold`` makes a transaction wait before its commit, ``broken`` makes commits fail."""

    hold: threading.Event
    entered: threading.Semaphore
    commits: int
    broken: bool

    @contextmanager
    def _transaction(self) -> Iterator[JournalTransaction]:
        with super()._transaction() as transaction:
            yield transaction
            self.commits += 1
            self.entered.release()
            assert self.hold.wait(30)
            if self.broken:
                raise UnavailableError("the ledger is full")


@pytest.fixture
def world() -> World:
    return World(genesis=False)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SlowJournal]:
    real = open_journal(f"sqlite:///{tmp_path}/ledger", bytes(32), DEPLOYMENT)
    slow = SlowJournal(real._engine, real._path, real._mac)
    slow.hold, slow.entered, slow.commits, slow.broken = threading.Event(), threading.Semaphore(0), 0, False
    slow.hold.set()
    yield slow
    slow.close()


@pytest.fixture
def ledger(world: World, journal: SlowJournal, tmp_path: Path) -> Ledger:
    (tmp_path / "log").mkdir()
    publisher = Publisher(
        journal,
        LocalStore(tmp_path / "log"),
        world.log_key,
        policies=lambda _old, _new: [],
        witnesses=list,
        clock=lambda: world.now,
    )
    made = Ledger(
        journal,
        publisher,
        State(DEPLOYMENT, world.genesis.digest),
        BrokerIdentity("broker-1", world.broker, "b1" * 32),
        clock=SteadyClock(lambda: world.now, lambda: 0.0),
        rng=world.rng,
    )
    made.append("root", documents={"root": world.genesis}, parent=None)
    assert journal.entered.acquire(timeout=30)
    return made


def hello(world: World, person: str = "alice") -> Envelope:
    document = Hello(
        deployment=DEPLOYMENT, nonce=world.rng(32).hex(), actor=Person(person=person), issued=Time(world.now)
    )
    return world.sign(document, person)


class Callers:
    """Threads that append at once while a first transaction is held; ``results`` by caller."""

    def __init__(self, world: World, ledger: Ledger, journal: SlowJournal, actors: list[str]) -> None:
        self.results: dict[int, int | CustodyError] = {}
        self._world, self._ledger = world, ledger
        envelopes = [hello(world) for _ in actors]
        journal.hold.clear()
        first = threading.Thread(target=self._append, args=(-1, hello(world), "alice"))
        first.start()
        assert journal.entered.acquire(timeout=30)
        threads = [
            threading.Thread(target=self._append, args=(number, *pair))
            for number, pair in enumerate(zip(envelopes, actors, strict=True))
        ]
        for thread in threads:
            thread.start()
        while len(ledger._acts._queue) < len(actors):
            pass
        journal.hold.set()
        for thread in [first, *threads]:
            thread.join(30)

    def _append(self, number: int, envelope: Envelope, actor: str) -> None:
        try:
            party = self._world.party(actor)
            self.results[number] = self._ledger.append("hello", actor=party, documents={"hello": envelope})
        except CustodyError as error:
            self.results[number] = error


def test_entries_that_come_during_a_commit_share_the_next_one(
    world: World, ledger: Ledger, journal: SlowJournal
) -> None:
    before = journal.commits
    done = Callers(world, ledger, journal, ["alice"] * CALLERS)
    assert sorted(done.results.values()) == list(range(1, CALLERS + 2))  # type: ignore[type-var]
    assert journal.commits - before == 2
    assert journal.size() == ledger.glance().size == CALLERS + 2
    assert [ledger.entry(index).type for index in range(1, CALLERS + 2)] == ["hello"] * (CALLERS + 1)


def test_an_entry_that_a_rule_refuses_costs_the_others_nothing(
    world: World, ledger: Ledger, journal: SlowJournal
) -> None:
    done = Callers(world, ledger, journal, ["alice", "bob", "alice"])  # the document names alice
    refused = [number for number, result in done.results.items() if isinstance(result, CustodyError)]
    assert refused == [1]
    assert journal.size() == ledger.glance().size == 4


def test_when_the_commit_fails_nothing_of_the_group_has_happened(
    world: World, ledger: Ledger, journal: SlowJournal
) -> None:
    journal.broken = True
    done = Callers(world, ledger, journal, ["alice"] * CALLERS)
    assert all(isinstance(result, UnavailableError) for result in done.results.values())
    assert journal.size() == 1
    journal.broken = False
    with ledger.reading() as state:  # folded anew
        assert state.size == 1
    assert ledger.append("hello", actor=world.party("alice"), documents={"hello": hello(world)}) == 1


def test_who_has_looked_at_the_state_appends_to_that_state(world: World, ledger: Ledger, journal: SlowJournal) -> None:
    """An append inside ``reading`` is not preceded by those who wait."""
    waiting = threading.Thread(
        target=lambda: ledger.append("hello", actor=world.party("alice"), documents={"hello": envelope})
    )
    envelope, mine = hello(world), hello(world)
    with ledger.reading() as state:
        waiting.start()
        while not ledger._acts._draining:
            pass
        assert ledger.append("hello", actor=world.party("alice"), documents={"hello": mine}) == state.size - 1 == 1
    waiting.join(30)
    assert journal.size() == 3


def held(ledger: Ledger, journal: SlowJournal, world: World) -> threading.Thread:
    """A commit that waits until the journal is let go."""
    journal.hold.clear()
    envelope = hello(world)
    first = threading.Thread(
        target=lambda: ledger.append("hello", actor=world.party("alice"), documents={"hello": envelope})
    )
    first.start()
    assert journal.entered.acquire(timeout=30)
    return first


def test_who_looks_and_appends_shares_the_commit_too(world: World, ledger: Ledger, journal: SlowJournal) -> None:
    """Each sees what those before it have appended, though none of it is committed yet."""
    before = journal.commits
    first = held(ledger, journal, world)

    def act(envelope: Envelope) -> Callable[[State], tuple[int, int]]:
        def work(state: State) -> tuple[int, int]:
            seen = state.size
            return seen, ledger.append("hello", actor=world.party("alice"), documents={"hello": envelope})

        return work

    futures = [ledger.submit(act(hello(world))) for _ in range(CALLERS)]
    journal.hold.set()
    assert [future.result(30) for future in futures] == [(index, index) for index in range(2, CALLERS + 2)]
    first.join(30)
    assert journal.commits - before == 2
    assert journal.size() == CALLERS + 2


def test_what_is_refused_after_it_has_appended_keeps_its_entry(world: World, ledger: Ledger) -> None:
    def work(state: State) -> int:
        ledger.append("hello", actor=world.party("alice"), documents={"hello": hello(world)})
        raise DeniedError(f"at {state.size}")

    with pytest.raises(DeniedError, match="at 2"):
        ledger.together(work)
    assert ledger.entry(1).type == "hello"
    assert ledger.append("hello", actor=world.party("alice"), documents={"hello": hello(world)}) == 2


def test_an_entry_without_what_belongs_to_it_takes_its_group_along(
    world: World, ledger: Ledger, journal: SlowJournal
) -> None:
    """The rules have judged it, and its share could not be written: state and journal would part."""
    first = held(ledger, journal, world)

    def fail(_: JournalTransaction) -> None:
        raise UnavailableError("no room for the share")

    envelopes = [hello(world) for _ in range(3)]

    def act(number: int) -> Callable[[State], int]:
        return lambda _: ledger.append(
            "hello",
            actor=world.party("alice"),
            documents={"hello": envelopes[number]},
            also=fail if number == 1 else None,
        )

    futures = [ledger.submit(act(number)) for number in range(3)]
    journal.hold.set()
    first.join(30)
    for future in futures:
        with pytest.raises(UnavailableError, match="no room"):
            future.result(30)
    with ledger.reading() as state:
        assert state.size == journal.size() == 2


def test_who_gives_up_before_its_turn_has_done_nothing(world: World, ledger: Ledger, journal: SlowJournal) -> None:
    first = held(ledger, journal, world)
    futures = [
        ledger.submit(lambda _: ledger.append("hello", actor=world.party("alice"), documents={"hello": hello(world)}))
        for _ in range(2)
    ]
    assert futures[0].cancel()
    journal.hold.set()
    assert futures[1].result(30) == 2
    first.join(30)
    assert journal.size() == 3


def test_only_the_last_of_two_entries_that_belong_together_wakes_the_publisher(
    world: World, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    monkeypatch.setattr(ledger.publisher, "notify", woken.append)
    for publish, told in ((False, []), (True, [3])):
        alice, document = world.party("alice"), hello(world)
        ledger.append("hello", actor=alice, documents={"hello": document}, publish=publish)
        assert woken == told


def test_after_its_end_a_ledger_refuses_and_nobody_waits_for_ever(world: World, ledger: Ledger) -> None:
    ledger.close()
    for _ in range(3):
        with pytest.raises(UnavailableError, match="takes nothing now"):
            ledger.append("hello", actor=world.party("alice"), documents={"hello": hello(world)})
    with ledger.reading() as state:
        assert state.size == 1
