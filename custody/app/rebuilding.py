"""Makes a broker's ledger again from the published log and its documents.

The database is a cache of the log: entries, documents, row MACs. What the log does not hold is lost and may be: wrapped
shares, which custodians send again, and entries that no signed checkpoint covers, for which nobody holds a receipt.

Order: the log is audited; witnesses and log store are asked for larger checkpoints (``custody.app.log_head``); rows and
documents are written, and after them the signed checkpoint; tiles that were never published are set aside
(``custody.app.left_behind``); ``recover``, with which every broker starts, must accept all of it; then the ledger gets
its name (``custody.app.new_ledger``).

Where there are such tiles, a signature over them may be out there, and a broker that signs other ones could find its
log forked for good once the witness who saw it comes back. So every witness must answer then. Otherwise one that does
not is only named: the broker starts once a quorum has confirmed the ledger.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from custody.adapters.ledger import open_journal
from custody.adapters.ledger_engine import mask
from custody.adapters.store_local import LocalStore
from custody.app.broker_config import BrokerConfig
from custody.app.broker_parts import database_url, load_log_signer, load_row_key, secret_file, store_at
from custody.app.left_behind import bury_stops, set_aside, unpublished_tiles
from custody.app.log_head import (
    Head,
    Progress,
    audited,
    furthest,
    published_head,
    shown_reader,
)
from custody.app.new_ledger import new_ledger
from custody.app.roots import read_envelope
from custody.app.witness_claims import Claim, ask_witnesses
from custody.audit.report import Report
from custody.audit.source import Source
from custody.audit.verify import Pins
from custody.documents.root import Root
from custody.entries.entry import Entry
from custody.entries.stored import StoredDocuments
from custody.errors import ConfigError, ConflictError, NotFoundError, UnavailableError
from custody.ports import Journal, Store
from custody.publishing.recovery import PUBLISHED, recover
from custody.tlog.reader import TileReader
from custody.tlog.tiles import MAX_OBJECT, TILE_WIDTH

__all__ = ["Rebuilt", "rebuild", "require_stopped"]

_PIECE: Final = 8 << 20  # bytes of entries and documents in one transaction, and at most a bundle's entries
_REMEMBERED: Final = 4096  # documents known to be written: roots and manifests come again and again
_ANSWER: Final = 1.0  # seconds to connect to a broker on this machine

_Piece = list[tuple[bytes, list[tuple[str, bytes]]]]  # entries, each with new documents by envelope digest


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was made. ``published`` and ``signed`` are sizes: the second is larger where a crash cut publishing off.

    ``ledger`` is its URL without a password, ``root`` the tree's (32 bytes). ``silent`` says which witnesses could not
    be asked, and why; ``set_aside`` is where unpublished tiles went, if there were any, and ``stops`` how many stops
    were in them.
    """

    ledger: str
    published: int
    signed: int
    root: bytes
    epoch: int
    silent: tuple[str, ...]
    set_aside: Path | None
    stops: int


def rebuild(config: BrokerConfig, folder: Path, log: Path, progress: Progress) -> Rebuilt:
    """Make the ledger that ``config`` names from the log in directory ``log``; ``folder`` is where its paths begin.

    The broker must be stopped. Raises ``ConflictError`` where the ledger is not empty, ``IntegrityError`` where the log
    does not verify, is older than what witnesses have seen, or is forked; ``ConfigError``, ``NotFoundError`` and
    ``UnavailableError`` as their messages say. There is no new ledger then that a broker would start with.
    """
    require_stopped(config.listen.address)
    if not log.is_dir():
        raise NotFoundError(f"{log}: no such directory", hint="name the directory that holds the file checkpoint")
    with ExitStack() as stack:
        row_key = stack.enter_context(load_row_key(secret_file(config.ledger.row_key, folder)))
        key = load_log_signer(secret_file(config.log.key, folder)).vkey
        url = database_url(config.ledger.url, folder)
        copy = stack.enter_context(closing(LocalStore(log)))
        source = Source(lambda path: copy.get(path, limit=MAX_OBJECT), copy.list)
        ledger = stack.enter_context(
            new_ledger(
                url, lambda where: open_journal(where, row_key.view, config.deployment), shown_reader(source, key)
            )
        )
        report = audited(source, Pins(config.genesis, config.deployment), progress)
        published = published_head(source, report, key)
        store = store_at(config.log.store, folder)
        root = _root(config, folder, report)
        witnesses, silent = ask_witnesses(config, root, key.name)
        head = furthest(source, published, [*_shown(store), *witnesses], key)
        beyond = unpublished_tiles(store, head)
        aside = folder / f"log-unpublished-{head.checkpoint.size}"
        if silent and (beyond or aside.exists()):
            raise UnavailableError(
                "the log store holds tiles beyond what is published, so a witness may have cosigned more; but"
                f" {'; '.join(silent)}",
                hint="start every witness, then run this again",
            )
        _fill(ledger.journal, source, head, progress)
        stops = bury_stops(store, beyond, head.checkpoint.size, root, folder / config.state)
        if beyond:
            set_aside(store, beyond, aside)
        recover(ledger.journal, store, key)
        ledger.finish()
    return Rebuilt(
        ledger=mask(url),
        published=published.checkpoint.size,
        signed=head.checkpoint.size,
        root=head.checkpoint.root,
        epoch=report.epoch or 0,
        silent=silent,
        set_aside=aside if beyond else None,
        stops=stops,
    )


def require_stopped(address: str) -> None:
    """Refuse while something listens where the broker does. Best effort: a broker elsewhere is found by its rows."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) == 0:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()
    except (OSError, UnicodeError, OverflowError):
        return
    raise ConfigError(f"something listens on {address}: is the broker running?", hint="stop it, then run this again")


def _root(config: BrokerConfig, folder: Path, report: Report) -> Root:
    """Return the trust root that is in force at the end of the log, from the configured files."""
    for path in config.roots:
        envelope = read_envelope(folder / path)
        if envelope.digest == report.root_digest:
            return envelope.document(Root)
    raise ConfigError(
        f"the trust root of epoch {report.epoch} that is in force in the log is not among those configured",
        hint="name every trust root of the deployment under roots in the configuration",
    )


def _shown(store: Store) -> Iterator[Claim]:
    """Yield what the configured log store shows: with --from another copy, it may have more."""
    try:
        yield Claim("the log store", store.get(PUBLISHED))
    except NotFoundError:
        return


def _fill(journal: Journal, source: Source, head: Head, progress: Progress) -> None:
    """Write rows and documents that are not there, then the signed checkpoint."""
    done, size = journal.size(), head.checkpoint.size
    if done > size:
        raise ConflictError(
            f"an unfinished run has left {done} entries, but the log ends at {size}",
            hint="begin with an empty database",
        )
    for piece in _pieces(source, head.reader, done):
        with journal.transaction() as transaction:
            if transaction.size != done:
                raise ConflictError("somebody else writes to the ledger", hint="stop every broker, then run this again")
            for entry, documents in piece:
                transaction.append(entry)
                for digest, envelope in documents:
                    transaction.add_document(digest, envelope)
        done += len(piece)
        progress("written", done, size)
    journal.swap_checkpoint(journal.checkpoint(), head.note)


def _pieces(source: Source, reader: TileReader, start: int) -> Iterator[_Piece]:
    """Yield the entries from ``start`` on with the documents they name, verified, a transaction's worth at a time."""
    known: dict[str, None] = {}
    stored = StoredDocuments(source.fetch, reader.size)
    for index in range(start // TILE_WIDTH, -(-reader.size // TILE_WIDTH)):
        piece: _Piece = []
        weight = 0
        for number, data in enumerate(reader.bundle(index), start=index * TILE_WIDTH):
            if number < start:
                continue
            documents = []
            named = Entry.parse(data).documents
            for place, reference in enumerate(named):
                if reference.envelope not in known:
                    documents.append((reference.envelope, stored.read(number, named, place)))
                    known[reference.envelope] = None
            piece.append((data, documents))
            weight += len(data) + sum(len(envelope) for _, envelope in documents)
            if weight >= _PIECE:
                yield piece
                piece, weight = [], 0
        if piece:
            yield piece
        while len(known) > _REMEMBERED:
            del known[next(iter(known))]
