"""What a process remembers of its own commits is what the ledger holds, and never more than that."""

import hashlib
import sqlite3
from collections.abc import Iterator

import pytest

from custody.errors import IntegrityError
from custody.ports import JournalRow
from custody.publishing import newest
from custody.publishing.archive import WholeJournal
from tests.unit.publishing.tiny_reader import read_log
from tests.unit.publishing.world import World, document_entry, entry

DOCUMENT = b'{"document":1}'
DIGEST = hashlib.sha256(DOCUMENT).hexdigest()


@pytest.fixture
def journal(world: World) -> Iterator[WholeJournal]:
    """The ledger of a process that has committed two entries and a document."""
    journal = WholeJournal(world.journal, world.store)
    with journal.transaction() as transaction:
        transaction.add_document(DIGEST, DOCUMENT)
        assert [transaction.append(document_entry(0, DOCUMENT)), transaction.append(entry(1))] == [0, 1]
        assert transaction.size == 2
    yield journal
    journal.close()


def without_macs(rows: object) -> object:
    return [JournalRow(row.index, row.entry, b"") for row in rows]  # type: ignore[attr-defined]


def edit(world: World, statement: str) -> None:
    connection = sqlite3.connect(world.path / "ledger")
    with connection:
        connection.execute(statement)
    connection.close()


def test_what_is_at_hand_is_what_the_ledger_holds(world: World, journal: WholeJournal) -> None:
    for start, limit in ((0, 2), (0, 1), (1, 1), (0, 0), (0, 9), (1, 9), (2, 1)):
        assert without_macs(journal.rows(start, limit)) == without_macs(world.journal.rows(start, limit))
    assert journal.documents([DIGEST]) == {DIGEST: DOCUMENT}
    assert journal.document(DIGEST) == DOCUMENT


def test_what_was_committed_is_published_whoever_edits_the_database_meanwhile(
    world: World, journal: WholeJournal
) -> None:
    publisher = world.publisher(journal=journal)
    publisher.recover()
    world.publish(publisher)
    with journal.transaction() as transaction:
        transaction.append(entry(2))
    edit(world, "UPDATE entries SET entry = CAST('x' AS BLOB) WHERE idx = 2")
    edit(world, "DELETE FROM documents")
    publisher.notify(3)
    world.publish(publisher)
    assert read_log(world.path / "log") == [document_entry(0, DOCUMENT), entry(1), entry(2)]
    assert publisher.receipt(2).entry == entry(2)
    with pytest.raises(IntegrityError, match="wrong MAC"):
        world.publisher().recover()


def test_what_was_rolled_back_is_forgotten(journal: WholeJournal) -> None:
    def fail() -> None:
        with journal.transaction() as transaction:
            transaction.append(entry(7))
            transaction.add_document(DIGEST, b"something else")

    with pytest.raises(ValueError, match="another digest"):
        fail()
    assert journal.rows(2, 1) == []
    with journal.transaction() as transaction:
        assert transaction.append(entry(2)) == 2
    assert without_macs(journal.rows(2, 1)) == [JournalRow(2, entry(2), b"")]


def test_entries_of_another_process_are_read_from_the_ledger(world: World, journal: WholeJournal) -> None:
    other = world.open_journal()
    with other.transaction() as transaction:
        transaction.append(entry(2))
    with journal.transaction() as transaction:
        assert transaction.append(entry(3)) == 3
    assert [row.entry for row in journal.rows(1, 3)] == [entry(1), entry(2), entry(3)]
    other.close()


def test_only_so_much_is_remembered(world: World, journal: WholeJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "_MOST", 3 * len(entry(9)))
    for number in range(2, 9):
        with journal.transaction() as transaction:
            transaction.append(entry(number))
    edit(world, "UPDATE entries SET entry = CAST('x' AS BLOB)")
    assert [row.entry for row in journal.rows(6, 3)] == [entry(6), entry(7), entry(8)]
    with pytest.raises(IntegrityError, match=r"entry 5 .*wrong MAC"):
        journal.rows(5, 1)
