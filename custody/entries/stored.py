"""Where the documents that entries name lie in the log's store: in bundles, beside those of the entries.

::

    documents/<N>[.p/<W>]    for each of the W (1..255) or 256 entries from 256N on:
                                  u8 n || n times (u16be length || envelope), in the order in which the entry names them
    documents/<envelope digest>   an envelope of more than 8,192 bytes; in the bundle its length is 0

So what an auditor reads is a few objects for 256 entries, however many documents there are, and which ones says the
number of the entry. Entries and documents alone make the bytes: a publisher that writes them again writes the same.
Nothing read from here is believed but for its digest.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from custody.entries.entry import DocumentRef
from custody.errors import CustodyError, FormatError, IntegrityError, NotFoundError
from custody.tlog.tiles import DOCUMENTS, TILE_WIDTH, Tile, tile_width

__all__ = [
    "LARGEST",
    "Kept",
    "StoredDocuments",
    "document_path",
    "encode_documents",
    "large_documents",
    "parse_documents",
]

LARGEST: Final = 1 << 13
"""Bytes of an envelope that lies in a bundle: a larger one lies by itself."""

Kept = Sequence[bytes | None]
"""The envelopes of an entry as a bundle holds them; ``None`` is one that lies by itself."""

_COUNT_END: Final = 1 << 8
_LENGTH_SIZE: Final = 2
_ALONE: Final = bytes(_LENGTH_SIZE)


def document_path(envelope_digest: str) -> str:
    """Return where an envelope lies that lies by itself."""
    return f"documents/{envelope_digest}"


def encode_documents(envelopes: Sequence[bytes]) -> bytes:
    """Return what the bundle holds of one entry, which names these envelopes. ``ValueError`` for more than 255."""
    if len(envelopes) >= _COUNT_END:
        raise ValueError(f"an entry cannot have {len(envelopes)} documents")
    parts = [bytes([len(envelopes)])]
    for envelope in envelopes:
        if len(envelope) > LARGEST:
            parts.append(_ALONE)
        else:
            parts += (len(envelope).to_bytes(_LENGTH_SIZE, "big"), envelope)
    return b"".join(parts)


def large_documents(envelopes: Iterable[bytes]) -> dict[str, bytes]:
    """Return those of these envelopes that lie by themselves, by path."""
    return {document_path(hashlib.sha256(data).hexdigest()): data for data in envelopes if len(data) > LARGEST}


def parse_documents(data: bytes, width: int) -> Sequence[Kept]:
    """Cut a bundle into what it holds of exactly ``width`` entries, without a byte left; ``FormatError`` otherwise."""
    found: list[Kept] = []
    position = 0
    while len(found) < width:
        kept: list[bytes | None] = []
        if position >= len(data):
            raise FormatError(f"document bundle: ends before entry {len(found)} of {width}")
        count = data[position]
        position += 1
        for _ in range(count):
            start = position + _LENGTH_SIZE
            length = int.from_bytes(data[position:start], "big")
            position = start + length
            if position > len(data) or length > LARGEST:
                raise FormatError(f"document bundle: no document where entry {len(found)} of {width} has one")
            kept.append(data[start:position] if length else None)
        found.append(kept)
    if position != len(data):
        raise FormatError(f"document bundle: {len(data) - position} bytes after the last document")
    return found


class StoredDocuments:
    """The documents of a log of ``size`` entries. Keeps the bundle that was read last; for one thread at a time.

    ``fetch`` returns an object of the log by path, or raises ``NotFoundError``.
    """

    def __init__(self, fetch: Callable[[str], bytes], size: int) -> None:
        self.size: Final = size
        self._fetch = fetch
        self._number = -1
        self._found: tuple[str, Sequence[Kept]] | CustodyError = ("", ())

    def bundle(self, number: int) -> tuple[str, Sequence[Kept]]:
        """Return the path of a bundle, which is the full one where that has replaced a narrower one, and what it holds.

        Raises ``NotFoundError`` where there is none, ``FormatError`` or ``IntegrityError`` for what is none.
        """
        if not 0 <= number * TILE_WIDTH < self.size:
            raise NotFoundError(f"the log has {self.size} entries, and no document of later ones")
        if self._number != number:
            self._number, self._found = -1, ("", ())
            try:
                self._found = self._fetched(number)
            except (FormatError, IntegrityError, NotFoundError) as error:
                self._found = error  # nor is it asked for again at the next entry
            self._number = number
        if isinstance(self._found, CustodyError):
            raise self._found.with_traceback(None)
        return self._found

    def _fetched(self, number: int) -> tuple[str, Sequence[Kept]]:
        tile = Tile(DOCUMENTS, number, tile_width(DOCUMENTS, number, self.size))
        path, width = tile.path(), tile.width
        try:
            data = self._fetch(path)
        except NotFoundError:
            path, width = Tile(DOCUMENTS, number).path(), TILE_WIDTH
            try:
                data = self._fetch(path)
            except NotFoundError:
                raise NotFoundError(f"{tile.path()} is missing") from None
        try:
            return path, parse_documents(data, width)[: tile.width]
        except FormatError as error:
            raise FormatError(f"{path}: {error.message}") from None

    def path(self, number: int) -> str:
        """Return where a bundle lies, unless the full one has replaced it."""
        return Tile(DOCUMENTS, number, max(1, tile_width(DOCUMENTS, number, self.size))).path()

    def where(self, entry: int, place: int, reference: DocumentRef) -> str:
        """Return the path of the object that holds a document of an entry, or would have to."""
        number, offset = divmod(entry, TILE_WIDTH)
        try:
            path, bundle = self.bundle(number)
        except (FormatError, IntegrityError, NotFoundError):
            return self.path(number)
        kept = bundle[offset] if offset < len(bundle) else ()
        return document_path(reference.envelope) if place < len(kept) and kept[place] is None else path

    def read(self, entry: int, named: Sequence[DocumentRef], place: int) -> bytes:
        """Return the envelope that entry number ``entry`` names in this place, its digest verified.

        Raises ``NotFoundError`` where it is missing, ``IntegrityError`` or ``FormatError`` where it is not what must
        be there.
        """
        number, offset = divmod(entry, TILE_WIDTH)
        path, bundle = self.bundle(number)
        if entry >= self.size:
            raise NotFoundError(f"the log has {self.size} entries, and no document of later ones")
        kept, reference = bundle[offset], named[place]
        if len(kept) != len(named):
            raise IntegrityError(f"{path} holds {len(kept)} documents of entry {entry}, which names {len(named)}")
        data = kept[place]
        if data is None:
            path = document_path(reference.envelope)
            try:
                data = self._fetch(path)
            except NotFoundError:
                raise NotFoundError(f"{path} is missing") from None
            if len(data) <= LARGEST:
                raise IntegrityError(f"{path} is small: it must lie in the bundle of its entry")
        if hashlib.sha256(data).hexdigest() != reference.envelope:
            raise IntegrityError(f"the {reference.kind} document of entry {entry} in {path} has other bytes")
        return data
