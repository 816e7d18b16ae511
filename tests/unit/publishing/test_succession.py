"""A successor's first checkpoint, whatever breaks while it is made; and what does not belong together is refused."""

import sqlite3
from dataclasses import replace

import pytest

from custody.errors import ConfigError, CustodyError, IntegrityError, UnavailableError
from custody.publishing.archive import WholeJournal
from custody.publishing.pruning import prune_piece
from custody.publishing.publisher import Publisher
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.tlog.policy import LogKey
from tests.doubles.journal import FaultyJournal
from tests.doubles.store import Dead, Fault, FaultyStore
from tests.doubles.tlog import TIME, log_signer
from tests.doubles.witness import LocalWitness
from tests.unit.publishing.tiny_reader import read_log
from tests.unit.publishing.world import World, entry

ENDED = 300  # entries of the log that ended
NEXT = log_signer("log.example/custody-2", "log 2")


@pytest.fixture
def ended(world: World) -> World:
    """A log of 300 entries that has ended; one more is in the ledger: the root that names its successor."""
    publisher = world.running()
    world.append(*[entry(i) for i in range(ENDED)])
    world.publish(publisher)
    world.append(entry(ENDED))
    return world


def change_key(world: World) -> bytes:
    """Configure the successor: its key, and witnesses that know it. Return the final checkpoint."""
    final = world.store.get(f"checkpoints/{ENDED}")
    world.signer = NEXT
    world.policy = replace(world.policy, logs=(LogKey(NEXT.vkey),))
    world.witnesses = [
        LocalWitness(witness.name, witness.signer, [NEXT.vkey], lambda: world.now) for witness in world.witnesses
    ]
    return final


def start(world: World, publisher: Publisher, final: bytes) -> Publisher:
    """Start as a broker does."""
    publisher.succeed(NEXT.vkey.encode(), final)
    publisher.recover()
    world.publish(publisher)
    return publisher


def went_on(world: World, publisher: Publisher) -> None:
    """The successor is published, and goes on."""
    size = world.journal.size()
    assert publisher.published.size == size
    world.append(entry(size))
    world.publish(publisher)
    entries = [entry(i) for i in range(size + 1)]
    assert read_log(world.path / "log") == entries
    for index in (0, ENDED, size):
        assert world.verify(publisher.receipt(index)).checkpoint.origin == NEXT.vkey.name


def test_the_successor_goes_on_in_the_same_tree(ended: World) -> None:
    final = change_key(ended)
    went_on(ended, start(ended, ended.publisher(), final))
    went_on(ended, start(ended, ended.publisher(), final))  # a later start has nothing to take over
    assert ended.store.get(f"checkpoints/{ENDED}") == final
    assert Note.parse(ended.store.get("checkpoints/0")).text.startswith(b"log.example/custody\n")


def test_a_pruned_ledger_goes_on_too(ended: World) -> None:
    published = Checkpoint.parse(Note.parse(ended.store.get("checkpoint")).text)
    assert prune_piece(ended.journal, ended.store, published, below=ENDED, before=TIME + 1) == 256
    final = change_key(ended)
    for _ in range(2):
        journal = WholeJournal(ended.open_journal(), ended.store)
        went_on(ended, start(ended, ended.publisher(journal=journal), final))
        assert journal.rows(1, 1)[0].entry == entry(1)
        journal.close()


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.PERSISTED, Fault.KILLED])
@pytest.mark.parametrize("what", ["store", "journal"])
def test_whatever_fails_while_it_begins_is_made_up_by_the_next_start(ended: World, fault: Fault, what: str) -> None:
    final = change_key(ended)
    at = 0
    while True:
        store = FaultyStore(ended.store, at=at if what == "store" else None, fault=fault)
        journal = FaultyJournal(ended.journal, at=at if what == "journal" else None, fault=fault)
        before = ended.journal.checkpoint()
        try:
            ended.publisher(store=store, journal=journal).succeed(NEXT.vkey.encode(), final)
        except (CustodyError, Dead):
            at += 1 if ended.journal.checkpoint() == before else 1000
            continue
        break
    assert at > 2
    went_on(ended, start(ended, ended.publisher(), final))


def test_another_key_than_that_of_the_root_is_refused(ended: World) -> None:
    final = ended.store.get(f"checkpoints/{ENDED}")
    before = ended.journal.checkpoint()
    with pytest.raises(ConfigError, match="the trust root names"):
        ended.publisher().succeed(NEXT.vkey.encode(), final)
    assert ended.journal.checkpoint() == before


def test_a_final_checkpoint_of_other_rows_is_refused(ended: World) -> None:
    final = change_key(ended)
    connection = sqlite3.connect(ended.path / "ledger")
    with connection:
        connection.execute("DELETE FROM entries WHERE idx >= 299")
    connection.close()
    with pytest.raises(IntegrityError, match="rows were deleted"):
        ended.publisher().succeed(NEXT.vkey.encode(), final)


def test_a_log_store_without_the_log_that_ended_is_refused(ended: World) -> None:
    final = change_key(ended)
    ended.store.delete("tile/0/000")
    ended.store.delete("tile/0/001.p/44")
    with pytest.raises(IntegrityError, match="does not hold the log that ended"):
        ended.publisher().succeed(NEXT.vkey.encode(), final)


def test_a_ledger_from_before_the_successor_is_refused_where_that_was_published(ended: World) -> None:
    old = ended.journal.checkpoint()
    final = change_key(ended)
    start(ended, ended.publisher(), final)
    ended.journal.swap_checkpoint(ended.journal.checkpoint(), old or b"")  # an older copy was restored
    with pytest.raises(ConfigError, match="older copy"):
        ended.publisher().succeed(NEXT.vkey.encode(), final)


def test_ledger_and_store_from_before_the_successor_meet_the_witnesses(ended: World) -> None:
    """Nothing of the second successor is published: a quorum has seen the first one."""
    final = change_key(ended)
    publisher = start(ended, ended.publisher(), final)
    ended.append(*[entry(i) for i in range(ENDED + 1, ENDED + 4)])
    ended.publish(publisher)
    signed = ended.journal.checkpoint()
    connection = sqlite3.connect(ended.path / "ledger")
    with connection:
        connection.execute("DELETE FROM entries WHERE idx > 300")
    connection.close()
    ended.journal.swap_checkpoint(signed, Note.parse(final).encode())
    ended.store.delete("checkpoint")
    again = ended.publisher()
    again.succeed(NEXT.vkey.encode(), final)
    again.recover()
    with pytest.raises((ConfigError, IntegrityError, UnavailableError)):
        ended.publish(again)
    assert not ended.store.exists("checkpoint")
