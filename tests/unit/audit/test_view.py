"""One entry shown or proved from a log that is not trusted, and receipts checked offline."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.audit.summary import what, who
from custody.audit.view import LogView, check_receipt
from custody.entries.entry import Entry, EntryType
from custody.entries.receipt import Receipt
from custody.entries.receipt_file import encode_receipt, parse_receipt
from custody.errors import CustodyError, FormatError, IntegrityError, NotFoundError
from custody.tlog.tiles import Tile
from custody.values import U64
from tests.doubles.world import World
from tests.unit.audit.published import Published
from tests.unit.rules.test_honest_history import whole

WHOLE = whole()
ROOTS = WHOLE.state.roots
HONEST = Published.each(WHOLE)


def view(log: Published = HONEST) -> LogView:
    return LogView(log.source(), ROOTS)


def test_entries_come_in_order_and_are_those_of_the_log() -> None:
    assert list(view().entries(0, 99)) == list(enumerate(HONEST.entries))
    assert list(view().entries(40, 41)) == [(40, HONEST.entries[40])]
    assert view().root == ROOTS[-1]


def test_entries_of_several_bundles_come_in_order() -> None:
    world = World()
    for number in range(600):
        world.append("system", reason="clock", count=U64(number))
    log = Published(world)
    log.publish()
    found = LogView(log.source(), world.state.roots)
    assert list(found.entries(250, 520)) == [(i, log.entries[i]) for i in range(250, 520)]


def test_an_entry_that_is_not_there_is_said_to_be_none() -> None:
    with pytest.raises(NotFoundError, match="the log has entries 0 to 40"):
        view().entry(41)


def test_the_documents_of_an_entry_are_those_that_it_names() -> None:
    index = next(i for i, entry in enumerate(WHOLE.log.entries) if entry.type == "request")
    entry = Entry.parse(view().entry(index))
    assert [item.digest for item in view().documents(index, entry)] == [item.document for item in entry.documents]


def test_an_altered_entry_is_not_shown() -> None:
    log = Published(WHOLE, dict(HONEST.files), HONEST.entries, HONEST.tree)
    path = Tile(-1, 0, 41).path()
    log.files[path] = log.files[path].replace(b"broker-1", b"broker-9")
    with pytest.raises(IntegrityError, match="not the one that the checkpoint covers"):
        view(log).entry(3)


def test_a_checkpoint_that_no_given_root_accepts_is_refused() -> None:
    log = Published(WHOLE, dict(HONEST.files), HONEST.entries, HONEST.tree, witnesses=())
    log.files["checkpoint"] = log.note(41)
    with pytest.raises(IntegrityError, match="no witness quorum"):
        view(log)


@pytest.mark.parametrize("kind", get_args(EntryType))
def test_every_type_of_entry_has_its_words(kind: str) -> None:
    entry = next(entry for entry in WHOLE.log.entries if entry.type == kind)
    assert who(entry)
    assert what(entry)
    assert "None" not in what(entry)


# ----------------------------------------------------------------------------------------------------------- receipts


@pytest.mark.parametrize("index", [0, 7, 40])
def test_a_receipt_is_valid_offline(index: int) -> None:
    receipt = parse_receipt(encode_receipt(view().receipt(index)))
    judged = check_receipt(receipt, ROOTS)
    assert judged.verified.entry == WHOLE.log.entries[index]
    assert judged.verified.index == index
    assert judged.root == ROOTS[-1]


def test_a_receipt_with_another_entry_is_refused() -> None:
    receipt = Receipt(view().receipt(7).entry, view().receipt(8).proof)
    with pytest.raises(IntegrityError, match="inclusion proof"):
        check_receipt(receipt, ROOTS)


def test_a_receipt_under_a_root_that_is_not_known_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not among the roots"):
        check_receipt(view().receipt(40), ROOTS[:1])


def test_a_receipt_of_a_log_key_that_was_removed_before_the_entry_is_refused() -> None:
    other = World(b"another")
    with pytest.raises(IntegrityError):
        check_receipt(view().receipt(0), other.state.roots)


def test_a_receipt_file_has_one_spelling() -> None:
    data = encode_receipt(view().receipt(7))
    assert data.endswith(b"}\n")
    assert parse_receipt(data) == parse_receipt(data[:-1]) == view().receipt(7)
    for other in (data + b"\n", b" " + data, data.replace(b'"proof"', b'"Proof"'), data.replace(b"v1", b"v2")):
        with pytest.raises(FormatError):
            parse_receipt(other)


SOME = encode_receipt(view().receipt(7))


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: SOME[:-40] + tail))
def test_a_receipt_file_of_garbage_is_refused(data: bytes) -> None:
    try:
        check_receipt(parse_receipt(data), ROOTS)
    except CustodyError:
        return
    assert data == SOME
