"""From genesis to a closed lease, as it should be; and no entry of it twice, or left out."""

from collections.abc import Sequence
from typing import get_args

import pytest

from custody.entries.entry import Entry, EntryType
from custody.errors import CustodyError
from custody.rules.state import State
from custody.rules.step import step
from tests.doubles.world import HOUR, JOB, START, World


def whole() -> World:
    """A history with every type of entry, two requests, a failed opening and a restart of the broker."""
    world = World()
    world.append("system", reason="broker-start", actor=world.party("broker-1"))
    world.seal()
    world.seal("frontier/llm@1")
    world.log_hello(world.hello())
    case = world.opened()
    first, second = case.begin(), case.begin()
    case.end(first, (0, 700), (1, 200))
    other = world.granted("frontier/llm@1")
    case.close("broker-lost")
    case.log_key(case.make_key())
    assert second not in case.found.live_sessions
    world.tick(HOUR)
    for person in other.quorum:
        other.send(person)
    other.begin_opening()
    other.end_opening("failed", reason="bad-share", slot=other.slot("bob"))
    other.send("bob")
    other.begin_opening()
    other.end_opening()
    case.key = case.found.release_key_envelope
    case.open()
    job = world.job()
    case.log_stop(case.stop("return", job), job)
    case.close("returned")
    world.replace_root()
    other.log_stop(other.stop("revoke", "carol"), "carol")
    other.close("revoked")
    world.append("system", reason="broker-stop")
    return world


def fold(world: World, entries: Sequence[Entry]) -> State:
    """Judge entries by themselves, as an auditor does."""
    state = State(world.deployment, world.genesis.digest)
    for entry in entries:
        step(state, entry, world.log.envelopes)
    return state


def test_an_honest_history_leads_to_a_closed_lease() -> None:
    world = World()
    version = world.seal()
    assert (version.content.version, version.entry.index, version.sealed_at) == ("demo/tiny@1", 1, START)
    case = world.file()
    assert case.found.phase == "requested"
    assert list(world.state.live) == [case.digest]
    case.decide("alice")
    case.send("alice")
    case.decide("bob")
    case.send("bob")
    case.grant()
    assert (case.found.phase, case.found.granted, case.found.granted_by) == ("granted", case.lease, ("alice", "bob"))
    case.begin_opening()
    case.end_opening()
    session = case.begin()
    assert (case.found.phase, case.found.spent, case.found.live_sessions) == ("open", 1000, {session})
    case.end(session, (0, 700), (1, 100))
    assert (case.found.spent, case.found.live_sessions) == (800, set())
    job = world.job()
    case.log_stop(case.stop("return", job), job)
    case.close("returned")
    assert (case.found.phase, case.found.reason, case.found.releases) == ("closed", "returned", {})
    assert world.state.live == {}
    assert world.state.size == len(world.log.entries) == 14


def test_cool_off_history_releases_shares_only_after_the_wait() -> None:
    world = World()
    case = world.granted("frontier/llm@1")
    assert case.found.granted_by == ("alice", "bob", "dave")
    world.tick(HOUR)
    case.open()
    assert case.found.phase == "open"


@pytest.mark.parametrize("version", ["demo/tiny@1", "frontier/llm@1"])
def test_the_shortest_way_from_genesis_to_a_closed_lease(version: str) -> None:
    case = World().closed(version)
    assert (case.found.phase, case.found.reason, case.found.spent) == ("closed", "returned", 700)


def test_a_workload_seals_and_asks_for_itself() -> None:
    world = World()
    trainer = world.job("spiffe://example.org/train/run-7")
    world.seal("demo/tiny@2", trainer)
    case = world.file("demo/tiny@2", world.job())
    assert case.found.request.beneficiary == JOB


def test_an_hourly_rotated_certificate_of_the_same_identity_opens_the_next_session() -> None:
    world = World()
    case = world.opened()
    for _ in range(3):
        case.begin(world.job())
        world.tick(HOUR)
    assert case.found.begun == 3


@pytest.mark.parametrize("kind", ["p256", "ed25519", "rsa"])
def test_each_kind_of_certificate_key_opens_a_session(kind: str) -> None:
    world = World()
    case = world.opened()
    case.begin(world.job(kind=kind))
    assert case.found.live_sessions


def test_a_reader_who_folds_the_log_arrives_at_the_same_state() -> None:
    world = whole()
    assert fold(world, [Entry.parse(entry.encode()) for entry in world.log.entries]) == world.state


def test_every_type_of_entry_occurs_in_the_history_these_tests_stand_on() -> None:
    assert {entry.type for entry in whole().log.entries} == set(get_args(EntryType))


WHOLE = whole()
LAST_NAMED = max(int(entry.parent.index) for entry in WHOLE.log.entries if entry.parent)


@pytest.mark.parametrize("index", range(len(WHOLE.log.entries)))
def test_an_entry_that_is_logged_twice_is_refused(index: int) -> None:
    entries = WHOLE.log.entries[: index + 1]
    fold(WHOLE, entries)
    with pytest.raises(CustodyError):
        fold(WHOLE, [*entries, entries[-1]])


@pytest.mark.parametrize("index", range(LAST_NAMED + 1))
def test_an_entry_that_is_left_out_is_missed_by_those_that_name_a_later_one(index: int) -> None:
    with pytest.raises(CustodyError):
        fold(WHOLE, WHOLE.log.entries[:index] + WHOLE.log.entries[index + 1 :])
