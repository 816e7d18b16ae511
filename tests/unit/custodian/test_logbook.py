"""When an entry was logged, by the word of witnesses, and what else the log says."""

import pytest

from custody.custodian.logbook import Logbook, Witnessed
from custody.errors import IntegrityError, NotFoundError
from custody.rules.trust import Trust
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.custodian.logged import Published

NAME = "demo/tiny@1"


@pytest.fixture
def world() -> World:
    world = World()
    world.seal(NAME)
    return world


def _book(log: Published) -> tuple[Logbook, Trust]:
    trust = log.trust()
    return Logbook(log.fetch, trust.policy), trust


def _later(world: World, log: Published, case: Case) -> None:
    """An hour later there is more in the log."""
    world.tick(3600)
    case.decide("alice")
    log.publish()


def test_the_first_checkpoint_over_an_entry_says_when_it_was_there(world: World) -> None:
    log, case = Published(world), world.file(NAME)
    index = len(world.log.entries) - 1
    log.publish()
    filed = world.now
    _later(world, log, case)
    book, trust = _book(log)
    assert book.witnessed(trust.check(log.receipt(index))) == Witnessed(index + 1, filed, filed)


def test_without_kept_checkpoints_the_receipts_own_counts(world: World) -> None:
    log, case = Published(world), world.file(NAME)
    index = len(world.log.entries) - 1
    _later(world, log, case)
    log.checkpoints = {len(world.log.entries): log.publish()}
    book, trust = _book(log)
    assert book.witnessed(trust.check(log.receipt(index))).latest == world.now


def test_a_kept_checkpoint_that_witnesses_did_not_sign_is_passed_over(world: World) -> None:
    log, case = Published(world), world.file(NAME)
    index = len(world.log.entries) - 1
    forged = log.publish(witnesses=1, time=world.now - 1000)
    _later(world, log, case)
    log.checkpoints[index + 1] = forged
    book, trust = _book(log)
    assert book.witnessed(trust.check(log.receipt(index))).earliest == world.now


def test_a_checkpoint_under_the_name_of_another_size_is_refused(world: World) -> None:
    log, case = Published(world), world.file(NAME)
    index = len(world.log.entries) - 1
    early = log.publish(1)
    _later(world, log, case)
    log.checkpoints[index + 1] = early
    book, trust = _book(log)
    with pytest.raises(IntegrityError, match="is a checkpoint of size 1"):
        book.witnessed(trust.check(log.receipt(index)))


def test_a_cosigned_checkpoint_of_another_history_does_not_date_an_entry(world: World) -> None:
    log, case = Published(world), world.file(NAME)
    index = len(world.log.entries) - 1
    other = World()
    other.seal("demo/other@1")
    other.file("demo/other@1")
    fork = Published(other).publish(index + 1)
    _later(world, log, case)
    log.checkpoints[index + 1] = fork
    book, trust = _book(log)
    with pytest.raises(IntegrityError):
        book.witnessed(trust.check(log.receipt(index)))


def test_the_last_entry_names_the_root_in_force(world: World) -> None:
    log = Published(world)
    old = world.state.root_digest
    world.file(NAME)
    book, trust = _book(log)
    assert book.newest_root(trust.check(log.receipt(0)).checkpoint) == old
    world.replace_root()
    book, trust = _book(log)
    assert book.newest_root(trust.check(log.receipt(0)).checkpoint) == world.state.root_digest != old
    world.log_hello(world.hello())
    book, trust = _book(log)
    assert book.newest_root(trust.check(log.receipt(0)).checkpoint) == world.state.root_digest


def test_every_entry_of_a_request_is_found_and_no_other(world: World) -> None:
    case, other = world.file(NAME), world.file(NAME, reason="another")
    case.decide("alice")
    other.decide("alice")
    case.decide("bob")
    log = Published(world)
    book, trust = _book(log)
    found = book.entries_of(case.digest, 0, trust.check(log.receipt(0)).checkpoint)
    assert [entry.type for _, entry in found] == ["request", "decision", "decision"]
    assert [index for index, _ in found] == sorted(index for index, _ in found)
    assert book.entries_of(case.digest, found[-1][0], trust.check(log.receipt(0)).checkpoint) == found[-1:]


def test_a_tile_that_was_altered_is_refused(world: World) -> None:
    world.file(NAME)
    log = Published(world)
    trust = log.trust()

    def lying(path: str) -> bytes:
        data = log.fetch(path)
        return bytes([data[0] ^ 1]) + data[1:] if path.startswith("tile/") else data

    with pytest.raises((IntegrityError, NotFoundError)):
        Logbook(lying, trust.policy).newest_root(trust.check(log.receipt(0)).checkpoint)
