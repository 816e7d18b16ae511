"""The ledger's schema: an empty database gets at once what the migrations would make, step by step."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection

from custody.adapters.ledger import open_journal
from custody.adapters.ledger_engine import connect_database, lock_writers
from custody.adapters.ledger_migrations import upgrade
from custody.adapters.ledger_tables import PRUNED
from custody.errors import UnavailableError

KEY = bytes(32)


def schema(path: Path) -> list[tuple[str, ...]]:
    """Every table, column, key and constraint, and which migrations the database believes it has had."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    found += connection.execute("SELECT * FROM ledger_version").fetchall()
    connection.close()
    return found


def migrated(path: Path) -> None:
    engine, _ = connect_database(f"sqlite:///{path}")
    with engine.connect() as connection:
        lock_writers(connection)
        upgrade(connection)
        connection.commit()
    engine.dispose()


def opened(path: Path) -> None:
    open_journal(f"sqlite:///{path}", KEY, "custody.example.org/test").close()


def test_a_new_ledger_is_what_the_migrations_make(tmp_path: Path) -> None:
    migrated(tmp_path / "migrated")
    opened(tmp_path / "new")
    assert schema(tmp_path / "new") == schema(tmp_path / "migrated")


def test_a_ledger_of_an_older_program_is_migrated(tmp_path: Path) -> None:
    opened(tmp_path / "ledger")
    newest = schema(tmp_path / "ledger")
    connection = sqlite3.connect(tmp_path / "ledger")
    connection.execute(f"DROP TABLE {PRUNED.name}")
    connection.execute("UPDATE ledger_version SET version_num = '0001'")
    connection.commit()
    connection.close()
    assert schema(tmp_path / "ledger") != newest
    opened(tmp_path / "ledger")
    assert schema(tmp_path / "ledger") == newest


def test_a_ledger_of_the_newest_schema_is_opened_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(connection: Connection) -> None:
        raise AssertionError

    opened(tmp_path / "ledger")
    monkeypatch.setattr("custody.adapters.ledger_migrations.upgrade", never)
    opened(tmp_path / "ledger")


def test_tables_of_ours_without_a_version_are_nobody_s_new_ledger(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger")
    connection.execute("CREATE TABLE entries (idx INTEGER)")
    connection.close()
    (tmp_path / "ledger").chmod(0o600)
    with pytest.raises(UnavailableError, match="table entries already exists"):
        opened(tmp_path / "ledger")
