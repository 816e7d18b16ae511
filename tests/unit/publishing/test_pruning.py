"""Entries leave the database once the log has them, and come back from it; a log that lacks them is found out."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from custody.adapters.store_local import LocalStore
from custody.broker.clock import SteadyClock
from custody.broker.ledger import BrokerIdentity, Ledger
from custody.broker.pruning import Pruner
from custody.entries.entry import Parent
from custody.entries.stored import LARGEST
from custody.errors import CustodyError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import Journal, Pruned
from custody.publishing.archive import WholeJournal
from custody.publishing.pruning import prune_piece
from custody.publishing.publisher import Publisher
from custody.rules.state import RequestState, State
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.values import U64
from tests.doubles.journal import FaultyJournal
from tests.doubles.store import Dead, Fault
from tests.doubles.tlog import ORIGIN, TIME
from tests.unit.publishing.tiny_reader import read_log
from tests.unit.publishing.world import World, document_entry, entry

DOCUMENTS = [*(b'{"document":%d}' % i for i in range(2)), b"large" * LARGEST]
ENTRIES = [document_entry(0, *DOCUMENTS), *(entry(i) for i in range(1, 600))]
DAY = 24 * 60 * 60


def whole(world: World) -> WholeJournal:
    """The ledger as a process that starts has it."""
    world.journal.close()
    world.journal = world.open_journal()
    return WholeJournal(world.journal, world.store)


def start(world: World) -> tuple[WholeJournal, Publisher]:
    journal = whole(world)
    publisher = world.publisher(journal=journal)
    publisher.recover()
    world.publish(publisher)
    return journal, publisher


def prune(world: World, journal: Journal, *, below: int = 1 << 40, before: int = TIME + 1) -> int:
    published = Checkpoint.parse(Note.parse(world.store.get("checkpoint")).text)
    return prune_piece(journal, world.store, published, below=below, before=before)


def count(world: World, table: str) -> int:
    connection = sqlite3.connect(world.path / "ledger")
    (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - our own words
    connection.close()
    return int(found)


def edit(world: World, statement: str) -> None:
    connection = sqlite3.connect(world.path / "ledger")
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 600 entries, the first of which names three documents; in ``pruned`` 512 of them are only there."""
    place = tmp_path_factory.mktemp("origin")
    (place / "published").mkdir()
    world = World(place / "published")
    _, publisher = start(world)
    with world.journal.transaction() as transaction:
        for document in DOCUMENTS:
            transaction.add_document(hashlib.sha256(document).hexdigest(), document)
    for end in (3, 255, 600):
        world.append(*ENTRIES[world.journal.size() : end])
        world.publish(publisher)
    world.close()
    shutil.copytree(place / "published", place / "pruned")
    world = World(place / "pruned")
    assert prune(world, whole(world)) == 512
    world.close()
    return place


def copied(folder: Path, place: Path) -> World:
    shutil.copytree(folder, place, dirs_exist_ok=True)
    return World(place)


@pytest.fixture
def published(folder: Path, tmp_path: Path) -> Iterator[World]:
    world = copied(folder / "published", tmp_path)
    yield world
    world.close()


@pytest.fixture
def pruned(folder: Path, tmp_path: Path) -> Iterator[World]:
    world = copied(folder / "pruned", tmp_path)
    yield world
    world.close()


def test_pruned_entries_come_from_the_log_and_the_log_goes_on(pruned: World) -> None:
    assert (count(pruned, "entries"), count(pruned, "documents")) == (88, 0)
    journal, publisher = start(pruned)
    found: list[bytes] = []
    while rows := journal.rows(len(found), 1024):
        assert [row.index for row in rows] == list(range(len(found), len(found) + len(rows)))
        found += [row.entry for row in rows]
    assert found == ENTRIES
    assert [journal.document(hashlib.sha256(document).hexdigest(), 0) for document in DOCUMENTS] == DOCUMENTS
    for index in (0, 255, 256, 511, 512, 599):
        verified = pruned.verify(publisher.receipt(index))
        assert (verified.index, verified.entry.encode()) == (index, ENTRIES[index])
    more = [entry(i) for i in range(600, 800)]
    pruned.append(*more)
    pruned.publish(publisher)
    assert read_log(pruned.path / "log") == ENTRIES + more
    assert prune(pruned, journal) == 256
    assert journal.rows(700, 1)[0].entry == more[100]
    start(pruned)


@pytest.mark.parametrize(
    ("below", "before", "gone"),
    [(600, TIME, 0), (255, TIME + 1, 0), (511, TIME + 1, 256), (512, TIME + 1, 512), (0, TIME + 1, 0)],
)
def test_young_entries_and_what_is_needed_stay(published: World, below: int, before: int, gone: int) -> None:
    assert prune(published, whole(published), below=below, before=before) == gone
    assert count(published, "entries") == 600 - gone


def test_what_is_not_published_stays(world: World) -> None:
    _, publisher = start(world)
    world.append(*ENTRIES[1:201])
    world.publish(publisher)
    world.append(*ENTRIES[201:301])
    assert prune(world, world.journal) == 0
    world.append(*ENTRIES[301:513])
    world.publish(publisher)
    assert world.journal.size() == publisher.published.size == 512
    assert prune(world, world.journal) == 256  # the last bundle stays, so that the ledger knows how long it is


def lose(key: str) -> Callable[[World], None]:
    return lambda world: world.store.delete(key)


def alter(key: str) -> Callable[[World], None]:
    return lambda world: world.store.put(key, world.store.get(key)[:-1] + b"?")


DOCUMENT = "documents/000"
LARGE = f"documents/{hashlib.sha256(DOCUMENTS[2]).hexdigest()}"
DIGEST = hashlib.sha256(DOCUMENTS[1]).hexdigest()


@pytest.mark.parametrize("damage", [lose, alter])
@pytest.mark.parametrize("key", ["tile/entries/000", "tile/0/001", "tile/0/002.p/88", DOCUMENT, LARGE])
def test_nothing_is_pruned_that_the_log_has_lost(
    published: World, damage: Callable[[str], Callable[[World], None]], key: str
) -> None:
    damage(key)(published)
    with pytest.raises(IntegrityError, match="nothing is pruned"):
        prune(published, published.journal)
    assert (count(published, "entries"), count(published, "documents")) == (600, 3)


@pytest.mark.parametrize("damage", [lose, alter])
@pytest.mark.parametrize("key", ["tile/entries/000", "tile/entries/001", "tile/0/000"])
def test_a_start_refuses_a_log_that_lost_or_changed_pruned_entries(
    pruned: World, damage: Callable[[str], Callable[[World], None]], key: str
) -> None:
    damage(key)(pruned)
    with pytest.raises(IntegrityError):
        pruned.publisher(journal=whole(pruned)).recover()


def test_a_document_that_the_log_changed_is_refused(pruned: World) -> None:
    pruned.store.put(DOCUMENT, pruned.store.get(DOCUMENT).replace(b'"document":1', b'"document":7'))
    with pytest.raises(IntegrityError, match="edited"):
        whole(pruned).document(DIGEST, 0)


def test_a_document_that_an_unpublished_entry_names_again_stays(published: World) -> None:
    again = document_entry(600, DOCUMENTS[1])
    published.append(again)
    assert prune(published, whole(published)) == 512
    assert published.journal.document(DIGEST) == DOCUMENTS[1]
    _, publisher = start(published)
    published.publish(publisher)
    assert publisher.published.size == 601


def test_documents_of_pruned_entries_are_found_by_the_entry_that_names_them(pruned: World) -> None:
    journal = whole(pruned)
    digests = [hashlib.sha256(document).hexdigest() for document in DOCUMENTS]
    assert journal.documents(dict.fromkeys(digests, 0)) == dict(zip(digests, DOCUMENTS, strict=True))
    assert journal.document(digests[2]) == DOCUMENTS[2]  # it lies by itself
    for index in (None, 1, 511, 599):
        with pytest.raises(NotFoundError):
            journal.document(digests[1], index)


@pytest.mark.parametrize("damage", [lose, alter])
@pytest.mark.parametrize("key", [DOCUMENT, LARGE])
def test_a_document_of_a_pruned_entry_that_the_log_lost_is_not_there(
    pruned: World, damage: Callable[[str], Callable[[World], None]], key: str
) -> None:
    damage(key)(pruned)
    with pytest.raises((IntegrityError, NotFoundError)):
        whole(pruned).document(hashlib.sha256(DOCUMENTS[2]).hexdigest(), 0)


@pytest.mark.parametrize(
    "lie",
    [
        "DELETE FROM pruned",
        "UPDATE pruned SET size = 256",
        "UPDATE pruned SET size = 513",
        "DELETE FROM entries WHERE idx < 530",
        "DELETE FROM entries WHERE idx > 530",
        "DELETE FROM entries",
        "DELETE FROM signed_checkpoint",
    ],
)
def test_a_database_that_lies_about_what_was_pruned_is_refused(pruned: World, lie: str) -> None:
    edit(pruned, lie)
    with pytest.raises(CustodyError):
        pruned.publisher(journal=whole(pruned)).recover()


def test_an_older_word_about_what_was_pruned_is_refused(published: World) -> None:
    """Its MAC is good: the entries that are gone since then are what gives it away."""
    journal = whole(published)
    prune(published, journal, below=256)
    edit(published, "CREATE TABLE kept AS SELECT * FROM pruned")
    prune(published, journal)
    edit(published, "DELETE FROM pruned")
    edit(published, "INSERT INTO pruned SELECT * FROM kept")
    with pytest.raises(IntegrityError, match="entry 256"):
        published.publisher(journal=whole(published)).recover()


def test_rows_deleted_instead_of_pruned_are_missed(published: World) -> None:
    """The log has them, and still nobody takes them from there: what was pruned is what the ledger says with a MAC."""
    edit(published, "DELETE FROM entries WHERE idx < 256")
    with pytest.raises(IntegrityError, match="entry 0"):
        published.publisher(journal=whole(published)).recover()


def test_the_log_store_of_another_history_is_refused(pruned: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = World(tmp_path_factory.mktemp("other"))
    _, publisher = start(other)
    other.append(*[entry(i, "other") for i in range(600)])
    other.publish(publisher)
    shutil.rmtree(pruned.path / "log")
    shutil.copytree(other.path / "log", pruned.path / "log")
    pruned.store.close()
    pruned.store = LocalStore(pruned.path / "log")
    with pytest.raises(IntegrityError):
        whole(pruned).rows(0, 1)
    signed = other.journal.checkpoint()
    other.close()
    pruned.journal.swap_checkpoint(pruned.journal.checkpoint(), signed or b"")  # and a database that goes along
    with pytest.raises(IntegrityError, match="does not hold the 512 entries"):
        whole(pruned).rows(0, 1)


def test_who_reads_while_another_prunes_gets_the_same_entries(published: World) -> None:
    reader, pruner = whole(published), WholeJournal(published.open_journal(), published.store)
    assert reader.rows(5, 1)[0].entry == ENTRIES[5]
    prune(published, pruner)
    assert reader.rows(5, 1)[0].entry == ENTRIES[5]
    assert reader.document(DIGEST, 0) == DOCUMENTS[1]
    pruner.close()


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.PERSISTED, Fault.KILLED])
def test_a_failure_while_pruning_loses_nothing(published: World, fault: Fault) -> None:
    faulty = FaultyJournal(published.journal, at="prune", fault=fault)
    with pytest.raises((UnavailableError, Dead)):
        prune(published, WholeJournal(faulty, published.store))
    journal, publisher = start(published)
    assert journal.rows(1, 1)[0].entry == ENTRIES[1]
    assert count(published, "entries") == (88 if fault is Fault.PERSISTED else 600)
    published.verify(publisher.receipt(1))


def test_the_broker_prunes_what_is_old_up_to_what_a_live_request_needs(published: World) -> None:
    journal, publisher = start(published)
    state = State(ORIGIN, "0" * 64, size=600)
    clock = SteadyClock(lambda: TIME + 2 * DAY, lambda: 0.0)
    nobody = cast("BrokerIdentity", None)  # nothing is appended here
    ledger = Ledger(journal, publisher, state, nobody, clock=clock, rng=bytes)

    def pruner(days: int) -> Pruner:
        return Pruner(ledger, journal, published.store, days, trouble=lambda error: pytest.fail(error.message))

    live = cast("RequestState", SimpleNamespace(entry=Parent(index=U64(300), leaf="0" * 64)))
    state.live["request"] = live
    assert pruner(3).prune() == 0
    assert pruner(1).prune() == 256
    assert pruner(1).prune() == 0
    del state.live["request"]
    assert pruner(1).prune() == 256
    assert journal.pruned() == Pruned(512, journal._archive._tree().root_of(512))
