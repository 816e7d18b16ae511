"""Makes a broker's ledger again from the published log and its documents.

The database is a cache of the log: entries, documents, row MACs. What the log does not hold is lost and may be: wrapped
shares (custodians send them again), and entries that no checkpoint covered, of which nobody had a receipt.

Order: the log is audited; witnesses and log store are asked for larger checkpoints (``custody.app.log_head``); rows are
written; the signed checkpoint last; then ``recover``, with which a broker starts, must accept all of it. An SQLite
ledger is made in a file beside and renamed. On PostgreSQL rows without a signed checkpoint are what an unfinished run
leaves: no broker starts with them, and the next run compares them with the log and goes on.
"""

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from custody.adapters.ledger import open_journal
from custody.adapters.ledger_engine import mask
from custody.adapters.small_files import explained, make_directory
from custody.adapters.store_local import LocalStore
from custody.adapters.witness_http import HttpWitness
from custody.app.broker import _database, _file, _log_signer, _row_key, _store
from custody.app.broker_config import BrokerConfig
from custody.app.log_head import (
    Claim,
    Head,
    Progress,
    audited,
    furthest,
    published_head,
    shown_reader,
    unpublished_tiles,
)
from custody.app.roots import read_envelope
from custody.audit.judge import read_document
from custody.audit.report import Report
from custody.audit.source import MAX_OBJECT, Source
from custody.audit.verify import Pins
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.entries.entry import Entry
from custody.errors import ConfigError, ConflictError, CustodyError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import Journal, Store
from custody.publishing.batch import read_pieces
from custody.publishing.recovery import recover
from custody.rules.trust import policy_of
from custody.tlog.note import VKey
from custody.tlog.reader import TileReader
from custody.tlog.tiles import TILE_WIDTH

__all__ = ["Rebuilt", "rebuild"]

_SQLITE: Final = "sqlite:///"
_BESIDE: Final = ("-wal", "-shm", "-journal")
_PIECE: Final = 8 << 20  # bytes of entries and documents in one transaction, or a bundle's entries
_REMEMBERED: Final = 4096  # documents known to be written: roots and manifests come again and again


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was made. ``published`` and ``signed`` are sizes: the second is larger where a crash cut publishing off.

    ``silent`` says of each witness that could not be asked why; ``set_aside`` is where unpublished tiles went, or None.
    """

    ledger: str
    entries: int
    published: int
    signed: int
    root: bytes
    epoch: int
    silent: tuple[str, ...]
    set_aside: Path | None


@dataclass(frozen=True, slots=True)
class _Log:
    """The log that is read, and the key that signed it."""

    source: Source
    key: VKey


def rebuild(config: BrokerConfig, folder: Path, log: Path, progress: Progress) -> Rebuilt:
    """Make the ledger that ``config`` names from the log in directory ``log``; ``folder`` is where its paths begin.

    The broker must be stopped. Raises ``ConflictError`` where the ledger is not empty, ``IntegrityError`` where the log
    does not verify, is older than what witnesses have seen, or is forked; ``ConfigError``, ``NotFoundError`` and
    ``UnavailableError`` as their messages say. Then there is no ledger that a broker would start with.
    """
    _require_stopped(config.listen.address)
    if not log.is_dir():
        raise NotFoundError(f"{log}: no such directory", hint="name the directory that holds the file checkpoint")
    with ExitStack() as stack:
        row_key = stack.enter_context(_row_key(_file(config.ledger.row_key, folder)))
        key = _log_signer(_file(config.log.key, folder)).vkey
        copy = LocalStore(log)
        stack.callback(copy.close)
        read = _Log(Source(lambda path: copy.get(path, limit=MAX_OBJECT), copy.list), key)
        url = _database(config.ledger.url, folder)

        def opened(where: str) -> Journal:
            return open_journal(where, row_key.view, config.deployment)

        if url.startswith(_SQLITE):
            path = Path(url.removeprefix(_SQLITE)).resolve()
            stack.enter_context(_alone(path.parent))
            found = _require_no_ledger(path, lambda: opened(url), read)
            temporary = path.with_name(f"{path.name}.rebuild")
            _remove(temporary)
            stack.callback(_remove, temporary)
            made = _Making(config, folder, read, progress).make(lambda: opened(f"{_SQLITE}{temporary}"), mask(url))
            _put_in_place(temporary, path, found)
            return made
        return _Making(config, folder, read, progress).make(lambda: opened(url), mask(url))


class _Making:
    """One run, from the audit to a ledger that a broker accepts."""

    def __init__(self, config: BrokerConfig, folder: Path, log: _Log, progress: Progress) -> None:
        self._config = config
        self._folder = folder
        self._log = log
        self._progress = progress
        self._silent: list[str] = []
