"""Bundles of documents: what is written is read, everything else is refused, and nothing is believed unhashed."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.entries.entry import DocumentRef
from custody.entries.stored import LARGEST, StoredDocuments, document_path, encode_documents, parse_documents
from custody.errors import FormatError, IntegrityError, NotFoundError, UnavailableError

SMALL, OTHER, LARGE = b"small", b"other", b"L" * (LARGEST + 1)
BUNDLE = "documents/000.p/3"


def reference(envelope: bytes) -> DocumentRef:
    return DocumentRef(kind="open", document="0" * 64, envelope=hashlib.sha256(envelope).hexdigest())


def files() -> dict[str, bytes]:
    """Entry 0 names two documents, entry 1 none, entry 2 a large one."""
    bundle = encode_documents([SMALL, OTHER]) + encode_documents([]) + encode_documents([LARGE])
    return {BUNDLE: bundle, document_path(reference(LARGE).envelope): LARGE}


def stored(held: dict[str, bytes], size: int = 3, asked: list[str] | None = None) -> StoredDocuments:
    def fetch(path: str) -> bytes:
        if asked is not None:
            asked.append(path)
        if path not in held:
            raise NotFoundError(path)
        return held[path]

    return StoredDocuments(fetch, size)


@given(st.lists(st.lists(st.binary(min_size=1, max_size=40), max_size=5), min_size=1, max_size=30))
def test_what_is_written_is_read(entries: list[list[bytes]]) -> None:
    data = b"".join(map(encode_documents, entries))
    assert parse_documents(data, len(entries)) == entries
    for width in (len(entries) - 1, len(entries) + 1):
        with pytest.raises(FormatError):
            parse_documents(data, width)


@given(st.binary(max_size=60), st.integers(1, 4))
def test_other_bytes_are_refused_or_have_one_spelling(data: bytes, width: int) -> None:
    try:
        found = parse_documents(data, width)
    except FormatError:
        return
    assert b"".join(encode_documents([item or bytes(LARGEST + 1) for item in kept]) for kept in found) == data


def test_the_bytes_are_these() -> None:
    """u8 count, then u16be length and bytes; 0 for what lies by itself."""
    assert encode_documents([]) == b"\0"
    assert encode_documents([b"ab", LARGE, b"c"]) == b"\3\0\2ab\0\0\0\1c"
    limit = b"x" * LARGEST
    assert encode_documents([limit]) == b"\1\x20\0" + limit
    with pytest.raises(ValueError, match="256 documents"):
        encode_documents([b"x"] * 256)


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\0", b"\1\0\2a", b"\0\0", b"\1\x20\1" + b"x" * (LARGEST + 1)])
def test_a_bundle_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="document bundle"):
        parse_documents(data, 1)


def test_documents_are_found_by_entry_and_place() -> None:
    held = stored(files())
    named = [reference(SMALL), reference(OTHER)]
    assert [held.read(0, named, place) for place in (0, 1)] == [SMALL, OTHER]
    assert held.read(2, [reference(LARGE)], 0) == LARGE
    large = document_path(reference(LARGE).envelope)
    assert [held.where(0, 1, named[1]), held.where(2, 0, reference(LARGE))] == [BUNDLE, large]


def test_a_bundle_is_read_once_also_where_it_is_missing() -> None:
    for held in (files(), {}):
        asked: list[str] = []
        reader = stored(held, asked=asked)
        for _ in range(3):
            if held:
                reader.read(0, [reference(SMALL), reference(OTHER)], 0)
            else:
                with pytest.raises(NotFoundError, match=r"documents/000\.p/3 is missing"):
                    reader.read(0, [reference(SMALL)], 0)
        assert asked == [BUNDLE] if held else [BUNDLE, "documents/000"]


def test_a_store_that_does_not_answer_is_asked_again() -> None:
    held, down = files(), [True]

    def fetch(path: str) -> bytes:
        if down.pop():
            raise UnavailableError("not now")
        return held[path]

    reader = StoredDocuments(fetch, 3)
    with pytest.raises(UnavailableError):
        reader.read(0, [reference(SMALL), reference(OTHER)], 0)
    down += [False, False]
    assert reader.read(0, [reference(SMALL), reference(OTHER)], 0) == SMALL


def test_the_full_bundle_stands_for_a_narrower_one() -> None:
    whole = files()[BUNDLE] + b"\0" * 253
    held = stored({"documents/000": whole})
    assert held.read(0, [reference(SMALL), reference(OTHER)], 1) == OTHER
    assert len(held.bundle(0)[1]) == 3


@pytest.mark.parametrize(
    ("entry", "named", "error", "text"),
    [
        (0, [OTHER, SMALL], IntegrityError, "has other bytes"),
        (0, [SMALL], IntegrityError, "holds 2 documents of entry 0, which names 1"),
        (1, [SMALL], IntegrityError, "holds 0 documents of entry 1, which names 1"),
        (2, [b"unknown"], NotFoundError, "is missing"),
    ],
)
def test_anything_but_what_is_named_is_refused(
    entry: int, named: Sequence[bytes], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        stored(files()).read(entry, [reference(envelope) for envelope in named], 0)


def test_what_lies_by_itself_is_hashed_and_large() -> None:
    held = files()
    large = document_path(reference(LARGE).envelope)
    held[large] = LARGE[:-1] + b"?"
    with pytest.raises(IntegrityError, match="has other bytes"):
        stored(held).read(2, [reference(LARGE)], 0)
    held[document_path(reference(SMALL).envelope)] = SMALL
    with pytest.raises(IntegrityError, match="is small"):
        stored(held).read(2, [reference(SMALL)], 0)


@pytest.mark.parametrize("entry", [3, 255, 256, 1000])
def test_there_is_no_document_of_an_entry_beyond_the_log(entry: int) -> None:
    with pytest.raises(NotFoundError, match="the log has 3 entries"):
        stored(files()).read(entry, [reference(SMALL)], 0)
    assert stored(files()).where(entry, 0, reference(SMALL)).startswith("documents/")
