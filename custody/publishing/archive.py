"""The whole journal: the ledger's rows, and before them the entries that were pruned and are only in the log's store.

What the store gives is believed under the root that the ledger remembers with a MAC: each entry is hashed against its
tile, the tiles lead to one tree, and that tree's first ``pruned.size`` leaves have that root. Documents are named by
their own digest. So a log store that lies is found out when the broker starts, as a database that lies is.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

from custody.entries.glance import read_entry
from custody.entries.stored import StoredDocuments, document_path
from custody.errors import FormatError, IntegrityError, NotFoundError
from custody.ports import Journal, JournalRow, JournalTransaction, Pruned, Store
from custody.publishing.history import REBUILD, History
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.tlog.tiles import MAX_OBJECT, TILE_WIDTH

__all__ = ["WholeJournal"]

_BUNDLES: Final = 8  # kept
_SECOND_COPY: Final = "bring it back from the second copy of the log"


class WholeJournal:
    """``Journal`` over a ledger and the log's store. Safe for use by many threads."""

    def __init__(self, journal: Journal, store: Store) -> None:
        self._journal = journal
        self._store = store
        self._archive = _Archive(journal, store)

    def transaction(self) -> AbstractContextManager[JournalTransaction]:
        """See ``Journal.transaction``."""
        return self._journal.transaction()

    def rows(self, start: int, limit: int) -> Sequence[JournalRow]:
        """See ``Journal.rows``. Of pruned entries those of one bundle at most; none of their rows has a MAC."""
        if start >= self._archive.size:
            try:
                return self._journal.rows(start, limit)
            except IntegrityError:
                # Somebody pruned since we looked; or a row was deleted, and the ledger does not say so.
                if not self._archive.refresh() or start >= self._archive.size:
                    raise
        return self._archive.rows(start, limit)

    def size(self) -> int:
        """See ``Journal.size``."""
        return self._journal.size()

    def document(self, envelope_digest: str, entry: int | None = None) -> bytes:
        """See ``Journal.document``: those of pruned entries come from the log's store."""
        try:
            return self._journal.document(envelope_digest)
        except NotFoundError:
            self._archive.refresh()
            if not self._archive.size:
                raise
        if entry is not None:
            return self._archive.document(entry, envelope_digest)
        return self._archive.large_document(envelope_digest)

    def documents(self, named: Mapping[str, int]) -> Mapping[str, bytes]:
        """See ``Journal.documents``: those of pruned entries come from the log's store."""
        found = dict(self._journal.documents(named))
        lost = sorted((entry, digest) for digest, entry in named.items() if digest not in found)
        if lost:
            self._archive.refresh()
        for entry, digest in lost if self._archive.size else ():
            with suppress(NotFoundError):
                found[digest] = self._archive.document(entry, digest)
        return found

    def shares(self, request: str) -> Mapping[str, bytes]:
        """See ``Journal.shares``."""
        return self._journal.shares(request)

    def checkpoint(self) -> bytes | None:
        """See ``Journal.checkpoint``."""
        return self._journal.checkpoint()

    def swap_checkpoint(self, old: bytes | None, new: bytes) -> None:
        """See ``Journal.swap_checkpoint``."""
        self._journal.swap_checkpoint(old, new)

    def pruned(self) -> Pruned | None:
        """See ``Journal.pruned``."""
        return self._journal.pruned()

    def prune(self, to: Pruned, documents: Collection[str]) -> None:
        """See ``Journal.prune``."""
        self._journal.prune(to, documents)
        self._archive.refresh()

    def close(self) -> None:
        """See ``Journal.close``."""
        self._journal.close()


class _Archive:
    """The pruned entries, read from the log's store."""

    def __init__(self, journal: Journal, store: Store) -> None:
        self._journal = journal
        self._store = store
        self._lock = threading.Lock()
        self._pruned = journal.pruned()
        self._history: History | None = None
        self._bundles: OrderedDict[int, Sequence[bytes]] = OrderedDict()
        self._reading = threading.local()  # each thread its own ``documents``: nobody waits while another one reads

    @property
    def size(self) -> int:
        """How many entries were pruned, when we looked last."""
        pruned = self._pruned
        return pruned.size if pruned else 0

    def refresh(self) -> bool:
        """Look again; tell whether more was pruned."""
        pruned = self._journal.pruned()
        with self._lock:
            more = pruned is not None and pruned.size > self.size
            if more:
                self._pruned, self._history = pruned, None
        return more

    def rows(self, start: int, limit: int) -> Sequence[JournalRow]:
        """Return up to ``limit`` pruned entries of the bundle that holds ``start``, which is below ``size``."""
        index, first = divmod(start, TILE_WIDTH)
        with self._lock:
            try:
                bundle = self._bundles[index] if index in self._bundles else self._tree().bundle(index)
            except (FormatError, NotFoundError) as error:
                raise IntegrityError(
                    f"the log store has lost a part of the pruned entries: {error.message}", hint=_SECOND_COPY
                ) from error
            self._bundles[index] = bundle
            self._bundles.move_to_end(index)
            if len(self._bundles) > _BUNDLES:
                self._bundles.popitem(last=False)
            entries = bundle[first : min(first + limit, self.size - index * TILE_WIDTH)]
        return [JournalRow(start + offset, entry, b"") for offset, entry in enumerate(entries)]

    def document(self, entry: int, envelope_digest: str) -> bytes:
        """Return an envelope that an entry names; ``entry`` may be of those that were not pruned.

        Raises ``NotFoundError`` where the store does not have it, ``IntegrityError`` where it has another one.
        """
        (row,) = self.rows(entry, 1) if entry < self.size else self._journal.rows(entry, 1)
        named = read_entry(row.entry).documents
        place = next((place for place, item in enumerate(named) if item.envelope == envelope_digest), None)
        if place is None:
            raise NotFoundError(f"entry {entry} names no document {envelope_digest[:64]}")
        documents: StoredDocuments | None = getattr(self._reading, "documents", None)
        if documents is None or entry >= documents.size:
            note = self._journal.checkpoint()
            documents = StoredDocuments(self._get, Checkpoint.parse(Note.parse(note).text).size if note else 0)
        self._reading.documents = None  # what fails is read anew: somebody may bring it back
        try:
            found = documents.read(entry, named, place)
        except (FormatError, IntegrityError) as error:
            raise IntegrityError(f"the log store was edited: {error.message}", hint=_SECOND_COPY) from error
        self._reading.documents = documents
        return found

    def large_document(self, envelope_digest: str) -> bytes:
        """Return an envelope that lies by itself. Raises ``NotFoundError``, ``IntegrityError``."""
        envelope = self._get(document_path(envelope_digest))
        if hashlib.sha256(envelope).hexdigest() != envelope_digest:
            raise IntegrityError(f"the log store's document {envelope_digest} was edited", hint=_SECOND_COPY)
        return envelope

    def _get(self, path: str) -> bytes:
        return self._store.get(path, MAX_OBJECT)

    def _tree(self) -> History:
        """Return the tiles under the ledger's signed checkpoint, whose beginning must be the tree that was pruned."""
        if self._history is None:
            note, pruned = self._journal.checkpoint(), self._pruned
            if note is None or pruned is None:
                raise IntegrityError("the ledger was pruned and has lost its signed checkpoint", hint=REBUILD)
            checkpoint = Checkpoint.parse(Note.parse(note).text)
            history = History(self._store, checkpoint)
            if checkpoint.size < pruned.size or history.root_of(pruned.size) != pruned.root:
                raise IntegrityError(
                    f"the log store does not hold the {pruned.size} entries that were pruned from this ledger",
                    hint="the ledger and the log store must belong together",
                )
            self._history = history
        return self._history
