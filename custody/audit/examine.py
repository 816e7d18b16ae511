"""What can be verified of a stretch of the log without knowing what came before: so it is done on all cores.

Of each bundle: its entries, their leaf hashes, those that the tiles state; each entry parsed, and its documents
(``custody.audit.documents``). Signatures are verified under the trust root that was in force when the work was given
out; should another one be in force at the entry, ``custody.audit.judge`` verifies them again.

Nothing here is a judgement: it is what the judge would find out by itself. Results go from process to process
(``encode_bundles``), so they are records of bytes and text.
"""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from custody.audit.checkpoints import Claim, Cosigned, Kept, cosigned, kept_path
from custody.audit.documents import Anchors, Behind, Flaw, Read, examine_documents
from custody.audit.report import Finding, Report
from custody.audit.source import Source
from custody.audit.tree import Bundles
from custody.entries.glance import Glance, glance
from custody.entries.stored import StoredDocuments
from custody.errors import CustodyError, FormatError, IntegrityError, NotFoundError
from custody.rules.watching import LOG_END
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import leaf_hash
from custody.tlog.reader import TileReader
from custody.tlog.tiles import DOCUMENTS, ENTRIES, TILE_WIDTH, Tile, tile_width

__all__ = ["Bundle", "Examine", "Examined", "Examiner", "Task", "decode_bundles", "encode_bundles", "inline"]

_END: Final = (b'"type":"system"', f'"reason":"{LOG_END}"'.encode())


class Task(NamedTuple):
    """Bundles ``first`` to ``last`` (exclusive) under a checkpoint; entries before ``start`` were judged before.

    ``kept`` are the sizes after ``start`` in these bundles of which a checkpoint is kept, ascending. With ``structure``
    only the entries are looked into that change the trust root, or end the log before its successor.
    """

    checkpoint: Checkpoint
    first: int
    last: int
    start: int
    anchors: Anchors | None
    structure: bool
    kept: tuple[int, ...] = ()


class Examined(Struct, frozen=True, array_like=True, gc=False):
    """An entry's bytes and leaf hash; ``problem`` says why they are no entry. ``stated`` is the hash in the tiles where
    it differs. ``documents`` are in the order of the entry; ``None`` is one that the judge reads. Where only the
    structure is asked for, the bytes are left out of all but roots and ends.
    """

    data: bytes
    leaf: bytes
    stated: bytes | None
    problem: str
    documents: tuple[Read | Flaw | None, ...]


class Bundle(Struct, frozen=True, array_like=True):
    """A bundle's entries from ``start`` on; ``entries`` is ``None`` where it cannot be read."""

    path: str
    entries: list[Examined] | None
    findings: list[Finding]
    epoch: int
    """Of the anchors that paths and checkpoints were verified with."""
    kept: list[Kept] = []
    """The kept checkpoints that could be read."""


_decoder: Final = msgspec.msgpack.Decoder(list[Bundle])


def encode_bundles(bundles: list[Bundle]) -> bytes:
    """Return what another process sends: half of what pickling costs, and one object to hand over."""
    return msgspec.msgpack.encode(bundles)


def decode_bundles(data: bytes) -> list[Bundle]:
    """Return what ``encode_bundles`` was given."""
    return _decoder.decode(data)


Examine = Callable[[Iterator[Task]], Generator[Bundle, None, None]]
"""Examines tasks; yields their bundles in order. May take tasks ahead."""


def inline(source: Source) -> Examine:
    """Return what examines one task after the other, here."""
    examiner = Examiner(source)

    def examine(tasks: Iterator[Task]) -> Generator[Bundle, None, None]:
        for task in tasks:
            for index in range(task.first, task.last):
                yield examiner.bundle(task, index)

    return examine


@dataclass(slots=True)
class _Authority:
    """The tiles that lead to a checkpoint's root; ``reader`` is ``None`` where they do not."""

    checkpoint: Checkpoint
    reader: TileReader | None


class Examiner:
    """Examines bundles of one log. What it keeps are tiles, and the bundle of documents read last."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._authority: _Authority | None = None
        self._stored: StoredDocuments | None = None

    def bundle(self, task: Task, index: int) -> Bundle:
        """Examine one bundle of a task; the first one first."""
        report, size = Report(), task.checkpoint.size
        bundles, width = Bundles(self._source, report), tile_width(ENTRIES, index, size)
        epoch = task.anchors.epoch if task.anchors else -1
        if self._source.ahead and index == task.first:
            self._source.ahead(list(_objects(task)))
        found = bundles.read(index, width)
        if found is None:
            return Bundle("", None, report.findings, epoch)
        path, entries = found
        leaves = [leaf_hash(data) for data in entries]
        stated = self._stated(task.checkpoint, index, width) or leaves
        bundles.compare_partials(index, stated)
        stored = self._documents(size)
        first = max(0, task.start - index * TILE_WIDTH)
        if not task.structure:
            bundles.compare_documents(index, stored, first)
            report.findings += _again(stored, index, path, zip(entries[:first], leaves, stated, strict=False))
        parsed = [
            _parsed(data, task) if leaf == said else None
            for data, leaf, said in zip(entries[first:], leaves[first:], stated[first:], strict=True)
        ]
        number = index * TILE_WIDTH + first
        behind = [
            Behind(stored, i, entry.type, entry.time, entry.documents) if isinstance(entry, Glance) else None
            for i, entry in enumerate(parsed, start=number)
        ]
        if not task.structure:
            report.findings += _no_bundle(stored, index, behind)
            report.findings += [flaw for one in behind if one and (flaw := one.surplus())]
        if self._source.ahead:
            self._source.ahead([path for one in behind if one for path in one.alone()])
        examined = [
            _examine(task, entry, one, Examined(data, leaf, None if leaf == said else said, "", ()))
            for entry, one, data, leaf, said in zip(
                parsed, behind, entries[first:], leaves[first:], stated[first:], strict=True
            )
        ]
        return Bundle(path, examined, report.findings, epoch, self._kept(task, index, epoch))

    def _documents(self, size: int) -> StoredDocuments:
        if self._stored is None or self._stored.size != size:
            self._stored = StoredDocuments(self._source.fetch, size)
        return self._stored

    def _kept(self, task: Task, index: int, epoch: int) -> list[Kept]:
        """Read and verify the checkpoints kept in a bundle. What is not as it must be, the judge reads again."""
        found = []
        begin = bisect_right(task.kept, index * TILE_WIDTH)
        for size in task.kept[begin : bisect_right(task.kept, (index + 1) * TILE_WIDTH)]:
            with suppress(FormatError, IntegrityError, NotFoundError):
                claim = Claim.read(kept_path(size), self._source.fetch(kept_path(size)))
                if claim.checkpoint.size == size:
                    found.append(Kept(claim, _cosigned(claim, task.anchors), epoch))
        return found

    def _stated(self, checkpoint: Checkpoint, index: int, width: int) -> Sequence[bytes] | None:
        """Return the leaf hashes of a bundle that lead to the checkpoint's root, where they can be told."""
        if self._authority is None or self._authority.checkpoint != checkpoint:
            self._authority = _Authority(checkpoint, None)
            with suppress(FormatError, IntegrityError, NotFoundError):
                self._authority.reader = TileReader(self._source.fetch, checkpoint)
        with suppress(FormatError, IntegrityError, NotFoundError):
            return self._authority.reader.leaves(index)[:width] if self._authority.reader else None
        return None


def _no_bundle(stored: StoredDocuments, index: int, behind: Sequence[Behind | None]) -> Iterator[Finding]:
    """Find that there is no bundle of documents, where no entry says so that misses its own."""
    try:
        stored.bundle(index)
    except (FormatError, IntegrityError, NotFoundError) as error:
        if not any(one.named for one in behind if one):
            yield Finding(None, "bundle", error.message, stored.path(index))


def _again(
    stored: StoredDocuments, index: int, path: str, before: Iterable[tuple[bytes, bytes, bytes]]
) -> Iterator[Finding]:
    """Look again at entries that an earlier audit has judged: a wider bundle is another object than it read then."""
    for number, (data, leaf, said) in enumerate(before, start=index * TILE_WIDTH):
        if leaf != said:
            yield Finding(number, "entry-altered", f"entry {number} is no longer what it was", path)
            continue
        with suppress(FormatError):
            entry = glance(data)
            yield from Behind(stored, number, entry.type, entry.time, entry.documents).lost()


def _cosigned(claim: Claim, anchors: Anchors | None) -> Cosigned | None:
    """Verify a checkpoint's signatures; ``None`` where that fails or cannot be done, and the judge does it."""
    if anchors is None:
        return None
    with suppress(CustodyError):
        return cosigned(claim, [anchors.policy])
    return None


def _objects(task: Task) -> Iterator[str]:
    """Yield what all bundles of a task need: themselves, their tiles, the checkpoints kept there."""
    for index in range(task.first, task.last):
        yield Tile(ENTRIES, index, tile_width(ENTRIES, index, task.checkpoint.size)).path()
        yield Tile(0, index, tile_width(0, index, task.checkpoint.size)).path()
        if not task.structure:
            yield Tile(DOCUMENTS, index, tile_width(DOCUMENTS, index, task.checkpoint.size)).path()
    yield from map(kept_path, task.kept)


def _parsed(data: bytes, task: Task) -> Glance | str | None:
    """Judge an entry's form; say why it is none. ``None`` where it is not to be looked into."""
    if task.structure and not (b'"type":"root"' in data or all(part in data for part in _END)):
        return None
    try:
        return glance(data)
    except FormatError as error:
        return error.message


def _examine(task: Task, entry: Glance | str | None, behind: Behind | None, plain: Examined) -> Examined:
    """Add to what is ``plain`` what an entry says."""
    if behind is not None:
        documents = examine_documents(behind, task.anchors)
        return Examined(plain.data, plain.leaf, None, "", documents) if documents else plain
    if isinstance(entry, str):
        return Examined(plain.data, plain.leaf, None, entry, ())
    return plain if plain.stated is not None else Examined(b"", plain.leaf, None, "", ())
