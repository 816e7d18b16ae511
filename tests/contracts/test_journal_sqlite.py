"""The ledger on SQLite: the contract, and what only a file can suffer."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.adapters.ledger import SqlJournal, open_journal
from custody.adapters.ledger_errors import LedgerStoppedError
from custody.errors import ConfigError, UnavailableError
from custody.ports import Journal, Pruned
from tests.contracts.journal_suite import DEPLOYMENT, ROW_KEY, Edit, JournalSuite, Open, append


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def open_again(path: Path) -> Iterator[Open]:
    opened: list[Journal] = []

    def again(row_key: bytes = ROW_KEY, deployment: str = DEPLOYMENT) -> Journal:
        opened.append(open_journal(f"sqlite:///{path}", row_key, deployment))
        return opened[-1]

    yield again
    for journal in opened:
        journal.close()


@pytest.fixture
def edit(path: Path) -> Edit:
    def run(statement: str, **values: Any) -> None:
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(statement, values)
        connection.close()

    return run


class TestSqliteJournal(JournalSuite):
    @pytest.fixture
    def open_again(self, open_again: Open) -> Open:
        return open_again

    @pytest.fixture
    def edit(self, edit: Edit) -> Edit:
        return edit


def test_the_file_is_for_its_owner_alone(open_again: Open, path: Path) -> None:
    append(open_again(), b"a")
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == dict.fromkeys(
        ["ledger", "ledger-wal", "ledger-shm"], 0o600
    )


def test_a_file_that_others_may_read_is_refused(open_again: Open, path: Path) -> None:
    open_again().close()
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640"):
        open_again()


def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_journal(f"sqlite:///{tmp_path}/no/ledger", ROW_KEY, DEPLOYMENT)


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=rwc", "mysql://h/d", "postgresql://u:hunter2@h/d"]
)
def test_another_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_journal(url, ROW_KEY, DEPLOYMENT)
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_a_short_row_key_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="row key"):
        open_journal(f"sqlite:///{path}", bytes(31), DEPLOYMENT)


def test_a_newer_schema_is_refused(open_again: Open, edit: Edit) -> None:
    open_again().close()
    edit("UPDATE ledger_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="schema 9999"):
        open_again()


def test_a_ledger_of_the_first_schema_is_brought_up_to_date(open_again: Open, edit: Edit) -> None:
    journal = open_again()
    append(journal, b"a", b"b")
    journal.close()
    edit("DROP TABLE pruned")
    edit("UPDATE ledger_version SET version_num = '0001'")
    again = open_again()
    assert [row.entry for row in again.rows(0, 9)] == [b"a", b"b"]
    again.prune(Pruned(1, bytes(32)), [])
    assert again.pruned() == Pruned(1, bytes(32))


def test_a_commit_reaches_the_disk_before_it_returns(open_again: Open) -> None:
    journal = open_again()
    assert isinstance(journal, SqlJournal)
    with journal._read() as connection:
        for pragma, value in {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}.items():
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


@pytest.mark.parametrize("gone", ["deleted", "replaced"])
def test_a_ledger_whose_file_is_gone_writes_no_more(open_again: Open, path: Path, gone: str) -> None:
    journal = open_again()
    append(journal, b"a")
    path.unlink()
    if gone == "replaced":
        path.touch(0o600)
    with pytest.raises(LedgerStoppedError, match="gone or was replaced"):
        append(journal, b"lost")


class FaultyConnection(sqlite3.Connection):
    """A connection whose COMMIT fails with ``code``, after having been done or not."""

    code = 0
    persists = False

    def commit(self) -> None:
        if not self.code or not self.in_transaction:
            return super().commit()
        if self.persists:
            super().commit()
        error = sqlite3.OperationalError("injected")
        error.sqlite_errorcode = self.code
        raise error


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FaultyConnection]]:
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, **options, factory=FaultyConnection)
    )
    yield FaultyConnection
    FaultyConnection.code, FaultyConnection.persists = 0, False


@pytest.mark.parametrize("persists", [False, True])
@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_ERROR])
def test_after_a_commit_of_unknown_outcome_the_ledger_stays_down(
    faulty: type[FaultyConnection], open_again: Open, code: int, *, persists: bool
) -> None:
    journal = open_again()
    append(journal, b"honest")
    faulty.code, faulty.persists = code, persists
    with pytest.raises(LedgerStoppedError) as caught:
        append(journal, b"unknown")
    assert caught.value.outcome_unknown
    faulty.code = 0
    with pytest.raises(LedgerStoppedError) as caught:
        append(journal, b"refused")
    assert not caught.value.outcome_unknown
    with pytest.raises(LedgerStoppedError):
        journal.swap_checkpoint(None, b"refused")
    assert journal.rows(0, 1)[0].entry == b"honest"
    assert [row.entry for row in open_again().rows(0, 9)] == [b"honest", b"unknown"][: 1 + persists]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY])
def test_a_full_or_busy_ledger_goes_on_when_that_is_over(
    faulty: type[FaultyConnection], open_again: Open, code: int
) -> None:
    journal = open_again()
    faulty.code = code
    with pytest.raises(UnavailableError) as caught:
        append(journal, b"lost")
    assert not isinstance(caught.value, LedgerStoppedError)
    faulty.code = 0
    assert append(journal, b"kept") == [0]


def test_a_commit_that_is_interrupted_stops_the_ledger(
    faulty: type[FaultyConnection], open_again: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_again()

    def interrupt(_self: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FaultyConnection, "commit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        append(journal, b"unknown")
    monkeypatch.undo()
    with pytest.raises(LedgerStoppedError):
        append(journal, b"refused")


def test_a_real_full_disk_loses_nothing_that_was_acknowledged(open_again: Open, tmp_path: Path) -> None:
    journal = open_again()
    assert isinstance(journal, SqlJournal)
    with journal._read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 20
    # The limit belongs to a connection, and the pool hands out the newest one.
    with journal._write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    done = 0

    def fill() -> None:
        nonlocal done
        while True:
            append(journal, bytes(20_000))
            done += 1

    with pytest.raises(UnavailableError, match="full"):
        fill()
    assert done
    assert journal.size() == done


def test_a_damaged_file_is_named_as_such(open_again: Open, path: Path) -> None:
    journal = open_again()
    append(journal, *[bytes(1000)] * 100)
    journal.close()
    data = bytearray(path.read_bytes())
    data[0:100] = b"x" * 100
    path.write_bytes(data)
    with pytest.raises(Exception, match="damaged"):
        open_again()
