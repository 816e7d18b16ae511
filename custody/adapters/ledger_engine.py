"""Connections to the ledger's database, set up so that a commit that returned is on the disk.

SQLite: WAL with ``synchronous=FULL`` (the log of every commit is fsynced), transactions begun by us (IMMEDIATE for
writes: the lock is taken at the start or not at all), ``secure_delete`` because wrapped shares are deleted here, and
``trusted_schema`` off because whoever edits the file may plant triggers. The file has mode 0600.

PostgreSQL: an advisory transaction lock makes writers take turns, across all brokers; ``fsync=off`` is refused.
"""

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from custody.errors import ConfigError

__all__ = ["PATIENCE", "connect_database", "lock_writers", "mask"]

PATIENCE: Final = 5.0
"""Seconds a writer waits for another before it says that the ledger is busy."""

_CONNECTIONS: Final = 8
_MORE_CONNECTIONS: Final = 24  # long polls read from executors; beyond this they queue
_WRITE: Final = "custody_write"
_ADVISORY_KEY: Final = 0x63757374_6F647931  # "custody1"; one ledger per database
_STATEMENT_TIMEOUT: Final = 30_000  # milliseconds


def connect_database(url: str) -> tuple[Engine, Path | None]:
    """Return an engine for ``url``, and the file's path for SQLite. Creates the file, never a directory.

    Raises ``ConfigError`` for another URL than ``sqlite:///PATH`` and ``postgresql+psycopg://…``, and for a file that
    others may read.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "the ledger's URL is not a URL", hint="for example sqlite:////var/lib/custody/ledger"
        ) from None
    if parsed.drivername == "sqlite" and parsed.database and not parsed.query and parsed.database != ":memory:":
        path = Path(parsed.database).absolute()
        _prepare_file(path)
        return _sqlite(path), path
    if parsed.drivername == "postgresql+psycopg":
        return _postgres(parsed), None
    raise ConfigError(
        f"the ledger's URL {mask(url)} is not supported",
        hint="use sqlite:///PATH or postgresql+psycopg://HOST/DATABASE",
    )


def mask(url: str) -> str:
    """Return the URL with its password hidden."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "?"


def lock_writers(connection: Connection) -> None:
    """Begin a write transaction, alone. Raises SQLAlchemy's ``OperationalError`` when another is not done in time."""
    connection.execution_options(**{_WRITE: True})
    connection.begin()
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})


def _prepare_file(path: Path) -> None:
    """Create the file for its owner alone, durably; refuse one that others may read or write."""
    try:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise ConfigError(
                    f"the ledger {path} has mode {mode:04o}: others may use it", hint=f"chmod 600 {path}"
                ) from None
            return
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigError(f"the ledger {path}: {error.strerror}", hint=f"make the directory {path.parent}") from error


def _sqlite(path: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        # mode=rw: a file that vanished is an error, never a new and empty ledger. isolation_level=None: the driver
        # begins nothing by itself. Connections go from thread to thread, one at a time.
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != ("wal",):
            connection.close()
            raise ConfigError(f"the ledger {path} cannot use a write-ahead log", hint="put it on a local file system")
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite://", creator=connect, hide_parameters=True, poolclass=QueuePool, **_pool())

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,  # they are entries and wrapped shares
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 10},
        **_pool(),
    )

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SHOW fsync")
            if cursor.fetchone() != ("on",):
                raise ConfigError("the ledger's server runs with fsync=off", hint="set fsync=on in postgresql.conf")
            cursor.execute("SHOW synchronous_commit")
            if cursor.fetchone() == ("off",):
                cursor.execute("SET synchronous_commit = on")
            cursor.execute(f"SET lock_timeout = {int(PATIENCE * 1000)}")
            cursor.execute(f"SET statement_timeout = {_STATEMENT_TIMEOUT}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {2 * _STATEMENT_TIMEOUT}")
        connection.autocommit = False

    return engine


def _pool() -> dict[str, Any]:
    return {"pool_size": _CONNECTIONS, "max_overflow": _MORE_CONNECTIONS, "pool_timeout": PATIENCE}
