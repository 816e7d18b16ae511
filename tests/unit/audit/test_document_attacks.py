"""A log whose documents were tampered with: each found, and named with its entry."""

from collections.abc import Callable

import pytest

from custody.audit.documents import read_large
from custody.entries.stored import LARGEST, document_path, encode_documents, parse_documents
from custody.errors import UnavailableError
from custody.tlog.tiles import DOCUMENTS, Tile
from tests.unit.audit.published import Published
from tests.unit.audit.test_verify_attacks import WHOLE, flip, long_log, only


@pytest.fixture
def log() -> Published:
    published = Published.each(WHOLE)
    assert published.audit().ok
    return published


def request(log: Published) -> tuple[int, str]:
    """The first request's index and its envelope digest."""
    index = next(i for i, entry in enumerate(log.world.log.entries) if entry.type == "request")
    return index, log.world.log.entries[index].document("request").envelope


def test_a_deleted_document_names_the_entry_and_the_document(log: Published) -> None:
    index, digest = request(log)
    path = log.change_document(digest, lambda _: None)
    first = log.audit().findings[0]
    assert (first.entry, first.code, first.documents) == (index, "document-altered", (digest,))
    assert first.place == path
    assert "holds 2 documents" in first.text


def test_an_edited_document_names_the_entry_and_the_document(log: Published) -> None:
    index, digest = request(log)
    log.change_document(digest, lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:])
    first = log.audit().findings[0]
    assert (first.entry, first.code, first.documents) == (index, "document-altered", (digest,))


def test_another_rightly_signed_document_in_its_place_is_refused(log: Published) -> None:
    index, digest = request(log)
    other = [entry.document("request").envelope for entry in WHOLE.log.entries if entry.type == "request"][1]
    log.change_document(digest, lambda _: log.world.log.envelopes[other].encode())
    first = log.audit().findings[0]
    assert (first.entry, first.code, first.documents) == (index, "document-altered", (digest,))


def test_documents_that_no_entry_names_are_found(log: Published) -> None:
    index = next(i for i, entry in enumerate(log.world.log.entries) if not entry.documents)
    path = Tile(DOCUMENTS, 0, 41).path()
    kept = [list(one) for one in parse_documents(log.files[path], 41)]
    kept[index] = [b"hidden"]
    for narrow in log.names("documents/000.p/"):
        del log.files[narrow]
    log.files[path] = b"".join(encode_documents([data or b"" for data in one]) for one in kept)
    found = only(log.audit().findings)
    assert (found.entry, found.code, found.place) == (index, "document-altered", path)
    assert "which names none" in found.text


def test_a_narrower_bundle_with_other_documents_is_named(log: Published) -> None:
    flip(log, "documents/000.p/9", 40)
    assert only(log.audit().findings).place == "documents/000.p/9"


def test_a_narrower_bundle_of_documents_that_is_none_is_named(log: Published) -> None:
    log.files["documents/000.p/9"] += b"?"
    found = only(log.audit().findings)
    assert (found.code, found.place) == ("bundle", "documents/000.p/9")


@pytest.mark.parametrize("change", [lambda _: None, lambda data: data + b"?", lambda data: b"\xff" + data[1:]])
def test_without_a_bundle_of_documents_each_entry_that_names_some_is_a_finding(
    log: Published, change: Callable[[bytes], bytes | None]
) -> None:
    path = Tile(DOCUMENTS, 0, 41).path()
    new = change(log.files.pop(path))
    if new is not None:
        log.files[path] = new
    report = log.audit(listed=False)
    assert report.findings[0].entry == 0
    assert {item.place for item in report.findings if item.code.startswith("document-")} == {path}


def test_a_large_document_lies_by_itself_and_is_found_out_there(log: Published) -> None:
    large = {digest for digest, envelope in WHOLE.log.envelopes.items() if len(envelope.encode()) > LARGEST}
    assert large
    assert {document_path(digest) for digest in large} == {path for path in log.names("documents/") if len(path) > 64}
    for digest in large:
        for change, code in ((None, "document-missing"), (b"{}", "document-altered"), (b"", "document-altered")):
            kept = log.files.pop(document_path(digest))
            if change is not None:
                log.files[document_path(digest)] = change
            first = log.audit().findings[0]
            assert (first.code, first.place, first.documents) == (code, document_path(digest), (digest,))
            log.files[document_path(digest)] = kept


@pytest.mark.parametrize("junk", [None, b"\xff" * 50])
def test_a_bundle_in_which_nothing_would_stand_must_be_there_all_the_same(junk: bytes | None) -> None:
    log = long_log()
    path = log.names("documents/001.p/")[-1]
    del log.files[path]
    if junk is not None:
        log.files[path] = junk
    found = only(log.audit(listed=False).findings)
    assert (found.entry, found.code, found.place) == (None, "bundle", path)


def test_a_store_that_does_not_answer_is_accused_of_nothing() -> None:
    def down(_path: str) -> bytes:
        raise UnavailableError("not now")

    reference = next(item for entry in WHOLE.log.entries for item in entry.documents)
    with pytest.raises(UnavailableError):
        read_large(down, reference, "root")
