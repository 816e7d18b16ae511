"""The ledger over a database: SQLite for one broker, PostgreSQL for several (SQLAlchemy Core).

One write transaction at a time: within the process by a lock, between processes by the database. What a transaction
appends is written when its block ends, in one batch. Rows are never updated; what leaves is the oldest, once the log
has it (``prune``).

A row is believed only with its MAC, HMAC-SHA-256(row key, lp(deployment) || u64 index || entry): so whoever can write
the database but has no row key can neither edit, insert, reorder nor renumber. They can delete the newest rows, and put
back one that stood at the same index in an older copy. Against that the log is the measure: the publisher compares all
rows with the signed checkpoint at start.
"""

import hashlib
import hmac
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, Executable, Integer, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from custody.adapters.ledger_engine import PATIENCE, connect_database, lock_writers
from custody.adapters.ledger_errors import LedgerStoppedError, commit_failed_whole, explain, is_disk_failure
from custody.adapters.ledger_pruning import Mac, drop_rows, read_pruned
from custody.adapters.ledger_schema import bring_up_to_date
from custody.adapters.ledger_tables import DOCUMENTS, ENTRIES, SHARES, SIGNED_CHECKPOINT
from custody.crypto.encoding import lp, u64
from custody.errors import ConfigError, ConflictError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import JournalRow, JournalTransaction, Pruned

__all__ = ["MIN_ROW_KEY", "SqlJournal", "open_journal"]

MIN_ROW_KEY: Final = 32  # bytes
_MAX_ENTRY: Final = 65_535  # bytes, as a bundle of c2sp.org/tlog-tiles holds it

_INDEX_END: Final = 1 << 63

# Built once: every receipt asks this.
_ROWS: Final = (
    select(ENTRIES.c.idx, ENTRIES.c.entry, ENTRIES.c.mac)
    .where(ENTRIES.c.idx >= bindparam("start"))
    .order_by(ENTRIES.c.idx)
    .limit(bindparam("limit", type_=Integer))
)
_DOCUMENTS: Final = select(DOCUMENTS.c.digest, DOCUMENTS.c.envelope).where(
    DOCUMENTS.c.digest.in_(bindparam("digests", expanding=True))
)
_AT_ONCE: Final = 256  # documents asked for in one statement
_NEWEST: Final = select(func.max(ENTRIES.c.idx))
_APPEND: Final = insert(ENTRIES)


def open_journal(url: str, row_key: bytes | bytearray | memoryview, deployment: str) -> "SqlJournal":
    """Open the ledger at ``url`` (``sqlite:///PATH`` or ``postgresql+psycopg://…``), bringing its schema up to date.

    ``row_key`` has at least 32 bytes and is used where it lies: wipe it only after ``close``. Raises ``ConfigError``
    for a URL, file mode or schema that will not do, ``UnavailableError`` when the database does not answer.
    """
    if len(row_key) < MIN_ROW_KEY:
        raise ConfigError(f"the ledger's row key has {len(row_key)} bytes, at least {MIN_ROW_KEY} are needed")
    engine, path = connect_database(url)
    try:
        with engine.connect() as connection:
            lock_writers(connection)
            bring_up_to_date(connection)
            connection.commit()
    except SQLAlchemyError as error:
        engine.dispose()
        raise explain(error) from error
    except BaseException:
        engine.dispose()
        raise
    prefix = lp(deployment.encode())

    def mac(index: int, entry: bytes) -> bytes:
        return hmac.digest(row_key, prefix + u64(index) + entry, "sha256")

    return SqlJournal(engine, path, mac)


class SqlJournal:
    """``Journal`` over a database; see ``open_journal``. Safe for use by many threads.

    After a commit whose outcome is unknown every further write raises ``LedgerStoppedError``, for as long as this
    journal lives: ``custody.adapters.ledger_errors`` says why. Reads go on.
    """

    def __init__(self, engine: Engine, path: Path | None, mac: Mac) -> None:
        self._engine = engine
        self._path = path
        self._file = _identity(path) if path else None
        self._mac = mac
        self._writer = threading.Lock()
        self._stopped = ""
        self._closed = False

    def transaction(self) -> AbstractContextManager[JournalTransaction]:
        """See ``Journal.transaction``."""
        return self._transaction()

    @contextmanager
    def _transaction(self) -> Iterator[JournalTransaction]:
        with self._write() as connection:
            draft = _Transaction(connection, self._mac)
            yield draft
            draft.flush()

    def rows(self, start: int, limit: int) -> Sequence[JournalRow]:
        """See ``Journal.rows``. ``ValueError`` for numbers that no row can have."""
        if not 0 <= start < _INDEX_END or limit < 0:
            raise ValueError("rows are counted from zero to 2^63-1")
        with self._read() as connection:
            found = connection.execute(_ROWS, {"start": start, "limit": limit}).all()
        return [self._row(expected, *row) for expected, row in enumerate(found, start=start)]

    def size(self) -> int:
        """See ``Journal.size``."""
        with self._read() as connection:
            return _size(connection)

    def document(self, envelope_digest: str, entry: int | None = None) -> bytes:
        """See ``Journal.document``. What was pruned is not here, whatever ``entry`` is."""
        found = self.documents({envelope_digest: entry or 0})
        if not found:
            raise NotFoundError(f"the ledger holds no document {envelope_digest[:64]}")
        return found[envelope_digest]

    def documents(self, named: Mapping[str, int]) -> Mapping[str, bytes]:
        """See ``Journal.documents``."""
        found: dict[str, bytes] = {}
        wanted = list(named)
        for start in range(0, len(wanted), _AT_ONCE):
            with self._read() as connection:
                rows = connection.execute(_DOCUMENTS, {"digests": wanted[start : start + _AT_ONCE]}).all()
            for digest, envelope in rows:
                if not isinstance(envelope, bytes) or hashlib.sha256(envelope).hexdigest() != digest:
                    raise IntegrityError(f"the ledger's document {digest} was edited")
                found[digest] = envelope
        return found

    def shares(self, request: str) -> Mapping[str, bytes]:
        """See ``Journal.shares``."""
        with self._read() as connection:
            found = connection.execute(select(SHARES.c.slot, SHARES.c.wrapped).where(SHARES.c.request == request)).all()
        return {slot: bytes(wrapped) for slot, wrapped in found}

    def checkpoint(self) -> bytes | None:
        """See ``Journal.checkpoint``. Its signature is the caller's to verify."""
        with self._read() as connection:
            return connection.scalar(select(SIGNED_CHECKPOINT.c.checkpoint))

    def swap_checkpoint(self, old: bytes | None, new: bytes) -> None:
        """See ``Journal.swap_checkpoint``."""
        table = SIGNED_CHECKPOINT
        with self._write() as connection:
            present = connection.scalar(select(table.c.checkpoint))
            if present != old:
                raise ConflictError("the ledger's signed checkpoint is another one than this publisher wrote last")
            if old is None:
                connection.execute(insert(table).values(id=1, checkpoint=new))
            else:
                connection.execute(update(table).where(table.c.id == 1).values(checkpoint=new))

    def pruned(self) -> Pruned | None:
        """See ``Journal.pruned``."""
        with self._read() as connection:
            return read_pruned(connection, self._mac)

    def prune(self, to: Pruned, documents: Collection[str]) -> None:
        """See ``Journal.prune``."""
        with self._write() as connection:
            drop_rows(connection, self._mac, to, documents, _size(connection))

    def close(self) -> None:
        """See ``Journal.close``. A second call does nothing; other calls raise ``ValueError`` from now on."""
        self._closed = True
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        if self._closed:
            raise ValueError("the ledger is closed")
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise explain(error) from error

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """Open the one write transaction; commit at the end of the block, roll back when it raises."""
        if self._closed:
            raise ValueError("the ledger is closed")
        if not self._writer.acquire(timeout=PATIENCE):
            raise UnavailableError("the ledger is busy: another request writes to it")
        try:
            self._require_writable()
            with self._engine.connect() as connection:
                lock_writers(connection)
                yield connection
                self._commit(connection)
        except SQLAlchemyError as error:
            if is_disk_failure(error):
                raise self._stop(f"an I/O error: {explain(error).message}", outcome_unknown=False) from error
            raise explain(error) from error
        finally:
            self._writer.release()

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except SQLAlchemyError as error:
            connection.invalidate()  # SQLite may still hold the transaction open: closing it rolls back
            if commit_failed_whole(error):
                raise
            raise self._stop(f"a commit failed: {explain(error).message}", outcome_unknown=True) from error
        except BaseException:
            connection.invalidate()
            self._stop("a commit was interrupted", outcome_unknown=True)
            raise

    def _require_writable(self) -> None:
        if self._stopped:
            raise LedgerStoppedError(self._stopped, outcome_unknown=False)
        # SQLite would go on writing to a file that has no name any more, and all of it would be lost.
        if self._path is not None and _identity(self._path) != self._file:
            raise self._stop(f"{self._path} is gone or was replaced", outcome_unknown=False)

    def _stop(self, reason: str, *, outcome_unknown: bool) -> LedgerStoppedError:
        self._stopped = f"the ledger has stopped after {reason}"
        return LedgerStoppedError(self._stopped, outcome_unknown=outcome_unknown)

    def _row(self, expected: int, index: object, entry: object, mac: object) -> JournalRow:
        if index != expected:
            raise IntegrityError(f"the ledger lacks entry {expected}: a row was deleted or inserted")
        if not isinstance(entry, bytes) or not isinstance(mac, bytes):
            raise IntegrityError(f"entry {expected} of the ledger is not made of bytes: the row was edited")
        if not hmac.compare_digest(self._mac(expected, entry), mac):
            raise IntegrityError(
                f"entry {expected} of the ledger has a wrong MAC: the row was edited or inserted",
                hint="put back the row key if it was changed by mistake; otherwise: custody ledger rebuild --help"
                " --from LOG",
            )
        return JournalRow(expected, entry, mac)


class _Transaction:
    """``JournalTransaction``. Entries and documents are collected and written together by ``flush``."""

    def __init__(self, connection: Connection, mac: Mac) -> None:
        self._connection = connection
        self._mac = mac
        self._size = _size(connection)
        self._entries: list[dict[str, int | bytes]] = []
        self._documents: dict[str, bytes] = {}

    @property
    def size(self) -> int:
        """See ``JournalTransaction.size``."""
        return self._size

    def append(self, entry: bytes) -> int:
        """See ``JournalTransaction.append``. ``ValueError`` for more than 65,535 bytes."""
        if len(entry) > _MAX_ENTRY:
            raise ValueError(f"an entry of {len(entry)} bytes does not fit into the log")
        index = self._size
        self._entries.append({"idx": index, "entry": entry, "mac": self._mac(index, entry)})
        self._size += 1
        return index

    def add_document(self, envelope_digest: str, envelope: bytes) -> None:
        """See ``JournalTransaction.add_document``. ``ValueError`` where the digest is not that of the envelope."""
        if hashlib.sha256(envelope).hexdigest() != envelope_digest:
            raise ValueError("the envelope has another digest")
        self._documents[envelope_digest] = envelope

    def put_share(self, request: str, slot: str, wrapped: bytes) -> None:
        """See ``JournalTransaction.put_share``."""
        self._upsert(SHARES, [{"request": request, "slot": slot, "wrapped": wrapped}], ("request", "slot"), "wrapped")

    def delete_shares(self, request: str) -> None:
        """See ``JournalTransaction.delete_shares``."""
        self._connection.execute(delete(SHARES).where(SHARES.c.request == request))

    def flush(self) -> None:
        """Write what was collected."""
        if self._documents:
            rows: list[dict[str, str | bytes]] = [
                {"digest": digest, "envelope": envelope} for digest, envelope in self._documents.items()
            ]
            # Replacing repairs a document that somebody edited: the digest has just been verified.
            self._upsert(DOCUMENTS, rows, ("digest",), "envelope")
        if self._entries:
            self._connection.execute(_APPEND, self._entries)

    def _upsert(
        self, table: Table, rows: Sequence[Mapping[str, str | bytes]], key: tuple[str, ...], value: str
    ) -> None:
        replace = _replacing(self._connection.dialect.name, table, key, value)
        self._connection.execute(replace, [dict(row) for row in rows])


@cache
def _replacing(dialect: str, table: Table, key: tuple[str, ...], value: str) -> Executable:
    # Each dialect has its own; the one that is not used is not loaded.
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        ours = sqlite_insert(table)
        return ours.on_conflict_do_update(index_elements=key, set_={value: ours.excluded[value]})
    from sqlalchemy.dialects.postgresql import insert as postgres_insert

    theirs = postgres_insert(table)
    return theirs.on_conflict_do_update(index_elements=key, set_={value: theirs.excluded[value]})


def _size(connection: Connection) -> int:
    newest = connection.scalar(_NEWEST)
    return 0 if newest is None else int(newest) + 1


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None
