"""What every ledger must do. A backend's test file subclasses ``JournalSuite`` and gives the fixtures."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from custody.errors import ConflictError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import Journal, JournalTransaction, Pruned

__all__ = ["DEPLOYMENT", "ROW_KEY", "Edit", "JournalSuite", "Open"]

ROW_KEY = bytes(range(32))
DEPLOYMENT = "custody.example.org/log"

Open = Callable[..., Journal]
"""Opens the same ledger once more; ``row_key`` and ``deployment`` may be given."""

Edit = Callable[..., None]
"""Runs a statement on the database behind the ledger's back, with named parameters."""

DOCUMENT = b'{"payload":"e30="}'
DIGEST = hashlib.sha256(DOCUMENT).hexdigest()


def append(journal: Journal, *entries: bytes) -> list[int]:
    with journal.transaction() as transaction:
        return [transaction.append(entry) for entry in entries]


class JournalSuite:
    """The promises of ``custody.ports.Journal``."""

    @pytest.fixture
    def open_again(self) -> Open:
        raise NotImplementedError

    @pytest.fixture
    def edit(self) -> Edit:
        raise NotImplementedError

    @pytest.fixture
    def journal(self, open_again: Open) -> Journal:
        return open_again()

    # ------------------------------------------------------------------------------------------------------- entries

    def test_a_new_ledger_is_empty(self, journal: Journal) -> None:
        assert journal.size() == 0
        assert journal.rows(0, 10) == []
        assert journal.checkpoint() is None

    def test_entries_get_consecutive_indices_and_come_back_in_order(self, journal: Journal) -> None:
        assert append(journal, b"a", b"b") == [0, 1]
        assert append(journal, b"c") == [2]
        assert journal.size() == 3
        assert [(row.index, row.entry) for row in journal.rows(0, 10)] == [(0, b"a"), (1, b"b"), (2, b"c")]
        assert [row.index for row in journal.rows(1, 1)] == [1]
        assert journal.rows(3, 5) == []

    def test_a_transaction_counts_what_it_appended(self, journal: Journal) -> None:
        append(journal, b"a")
        with journal.transaction() as transaction:
            assert transaction.size == 1
            transaction.append(b"b")
            assert transaction.size == 2

    def test_a_block_that_raises_leaves_nothing(self, journal: Journal) -> None:
        append(journal, b"a")

        def fail(transaction: JournalTransaction) -> None:
            transaction.append(b"b")
            transaction.add_document(DIGEST, DOCUMENT)
            transaction.put_share("r", "0/1", b"wrapped")
            raise LookupError

        with pytest.raises(LookupError), journal.transaction() as transaction:
            fail(transaction)
        assert journal.size() == 1
        assert journal.shares("r") == {}
        with pytest.raises(NotFoundError):
            journal.document(DIGEST)
        assert append(journal, b"c") == [1]

    def test_what_is_committed_is_there_after_a_restart(self, journal: Journal, open_again: Open) -> None:
        append(journal, b"a", b"\x00" * 65_535)
        journal.close()
        again = open_again()
        assert [len(row.entry) for row in again.rows(0, 2)] == [1, 65_535]

    def test_an_open_transaction_is_seen_by_nobody(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            transaction.append(b"a")
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(journal.size).result() == 0
        assert journal.size() == 1

    def test_writers_in_many_threads_take_turns(self, journal: Journal) -> None:
        with ThreadPoolExecutor(8) as pool:
            found = [index for part in pool.map(lambda i: append(journal, b"%d" % i), range(40)) for index in part]
        assert sorted(found) == list(range(40))
        assert len(journal.rows(0, 100)) == 40

    def test_a_second_process_takes_its_turn(self, journal: Journal, open_again: Open) -> None:
        other = open_again()
        begun, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with journal.transaction() as transaction:
                transaction.append(b"first")
                begun.set()
                go_on.wait(10)

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(hold)
            begun.wait(10)
            second = pool.submit(append, other, b"second")
            go_on.set()
            first.result()
            assert second.result() == [1]
        assert [row.entry for row in journal.rows(0, 3)] == [b"first", b"second"]

    def test_a_writer_that_waits_too_long_is_told_that_the_ledger_is_busy(
        self, journal: Journal, open_again: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("custody.adapters.ledger_engine.PATIENCE", 0.05)
        other = open_again()
        append(other, b"honest")
        with journal.transaction() as transaction, ThreadPoolExecutor(1) as pool:
            transaction.append(b"a")
            with pytest.raises(UnavailableError, match="busy"):
                pool.submit(append, other, b"b").result()
        assert append(other, b"c") == [2]

    def test_a_closed_ledger_is_the_callers_mistake(self, journal: Journal) -> None:
        journal.close()
        journal.close()
        with pytest.raises(ValueError, match="closed"):
            journal.size()

    def test_an_entry_longer_than_a_bundle_holds_is_the_callers_mistake(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            append(journal, bytes(65_536))
        assert journal.size() == 0

    # --------------------------------------------------------------------------------------------- a lying database

    def test_an_edited_row_is_refused(self, journal: Journal, edit: Edit) -> None:
        append(journal, b"lease until noon", b"b")
        assert journal.rows(0, 2)
        edit("UPDATE entries SET entry = :entry WHERE idx = 0", entry=b"lease until night")
        with pytest.raises(IntegrityError, match="entry 0"):
            journal.rows(0, 2)
        assert journal.rows(1, 1)[0].entry == b"b"

    def test_a_deleted_row_is_refused(self, journal: Journal, edit: Edit) -> None:
        append(journal, b"a", b"revoked", b"c")
        edit("DELETE FROM entries WHERE idx = 1")
        with pytest.raises(IntegrityError, match="entry 1"):
            journal.rows(0, 3)

    def test_a_row_inserted_without_the_row_key_is_refused(self, journal: Journal, edit: Edit) -> None:
        append(journal, b"a")
        edit("INSERT INTO entries (idx, entry, mac) VALUES (1, :entry, :mac)", entry=b"grant", mac=bytes(32))
        with pytest.raises(IntegrityError, match="entry 1"):
            journal.rows(0, 2)

    def test_a_row_inserted_far_ahead_is_refused(self, journal: Journal, edit: Edit) -> None:
        append(journal, b"a")
        edit("INSERT INTO entries (idx, entry, mac) VALUES (7, :entry, :mac)", entry=b"grant", mac=bytes(32))
        with pytest.raises(IntegrityError, match="entry 1"):
            journal.rows(0, 10)

    def test_rows_that_changed_places_are_refused(self, journal: Journal, edit: Edit) -> None:
        append(journal, b"a", b"b")
        edit("UPDATE entries SET idx = 9 WHERE idx = 0")
        edit("UPDATE entries SET idx = 0 WHERE idx = 1")
        edit("UPDATE entries SET idx = 1 WHERE idx = 9")
        with pytest.raises(IntegrityError, match="entry 0"):
            journal.rows(0, 2)

    def test_rows_of_another_deployment_or_row_key_are_refused(self, journal: Journal, open_again: Open) -> None:
        append(journal, b"a")
        assert open_again().rows(0, 1)
        with pytest.raises(IntegrityError, match="MAC"):
            open_again(deployment="staging.example.org/log").rows(0, 1)
        with pytest.raises(IntegrityError, match="MAC"):
            open_again(row_key=bytes(32)).rows(0, 1)

    def test_an_edited_document_is_refused_and_storing_it_again_mends_it(self, journal: Journal, edit: Edit) -> None:
        with journal.transaction() as transaction:
            transaction.add_document(DIGEST, DOCUMENT)
        edit("UPDATE documents SET envelope = :envelope", envelope=b"another")
        with pytest.raises(IntegrityError, match="edited"):
            journal.document(DIGEST)
        with journal.transaction() as transaction:
            transaction.add_document(DIGEST, DOCUMENT)
        assert journal.document(DIGEST) == DOCUMENT

    # ----------------------------------------------------------------------------------------- documents and shares

    def test_documents_come_back_by_digest_and_may_come_twice(self, journal: Journal) -> None:
        for _ in range(2):
            with journal.transaction() as transaction:
                transaction.add_document(DIGEST, DOCUMENT)
                transaction.add_document(DIGEST, DOCUMENT)
        assert journal.document(DIGEST) == DOCUMENT
        with pytest.raises(NotFoundError):
            journal.document("0" * 64)
        assert journal.documents({"0" * 64: 0, DIGEST: 0}) == {DIGEST: DOCUMENT}
        many = {f"{number:064x}": number for number in range(600)}
        assert journal.documents(many) == journal.documents({}) == {}

    def test_a_document_under_another_digest_is_the_callers_mistake(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="digest"), journal.transaction() as transaction:
            transaction.add_document("0" * 64, DOCUMENT)

    def test_shares_are_kept_by_slot_replaced_and_forgotten(self, journal: Journal) -> None:
        with journal.transaction() as transaction:
            transaction.put_share("r", "0/1", b"old")
            transaction.put_share("r", "0/2", b"two")
            transaction.put_share("other", "0/1", b"stays")
        with journal.transaction() as transaction:
            transaction.put_share("r", "0/1", b"new")
        assert journal.shares("r") == {"0/1": b"new", "0/2": b"two"}
        with journal.transaction() as transaction:
            transaction.delete_shares("r")
        assert journal.shares("r") == {}
        assert journal.shares("other") == {"0/1": b"stays"}

    # ------------------------------------------------------------------------------------------------------- pruning

    def test_pruned_entries_and_documents_are_gone_and_the_others_keep_their_numbers(
        self, journal: Journal, open_again: Open
    ) -> None:
        append(journal, b"a", b"b", b"c")
        with journal.transaction() as transaction:
            transaction.add_document(DIGEST, DOCUMENT)
        assert journal.pruned() is None
        to = Pruned(2, b"r" * 32)
        journal.prune(to, [DIGEST, "0" * 64])
        assert append(journal, b"d") == [3]
        for ledger in (journal, open_again()):
            assert ledger.pruned() == to
            assert ledger.size() == 4
            assert [(row.index, row.entry) for row in ledger.rows(2, 9)] == [(2, b"c"), (3, b"d")]
            with pytest.raises(IntegrityError, match="entry 0"):
                ledger.rows(0, 9)
            with pytest.raises(NotFoundError):
                ledger.document(DIGEST)

    def test_more_is_pruned_each_time_and_something_always_stays(self, journal: Journal) -> None:
        append(journal, b"a", b"b", b"c")
        for size in (0, 3, 4):
            with pytest.raises(ConflictError):
                journal.prune(Pruned(size, bytes(32)), [])
        journal.prune(Pruned(1, bytes(32)), [])
        with pytest.raises(ConflictError):
            journal.prune(Pruned(1, bytes(32)), [])
        journal.prune(Pruned(2, bytes(32)), [])
        assert journal.size() == 3
        assert [row.entry for row in journal.rows(2, 9)] == [b"c"]

    @pytest.mark.parametrize(
        "change", ["size = 2", "size = -1", "root = :other", "mac = :other", "root = :short", "size = 9000000000"]
    )
    def test_what_is_said_to_be_pruned_cannot_be_edited(self, journal: Journal, edit: Edit, change: str) -> None:
        append(journal, b"a", b"b", b"c")
        journal.prune(Pruned(1, bytes(32)), [])
        assert journal.pruned() is not None
        values = {name: data for name, data in (("other", b"x" * 32), ("short", b"x")) if f":{name}" in change}
        edit(f"UPDATE pruned SET {change}", **values)  # noqa: S608 - our own words
        with pytest.raises(IntegrityError, match="pruned"):
            journal.pruned()
        with pytest.raises(IntegrityError, match="pruned"):
            journal.prune(Pruned(2, bytes(32)), [])

    def test_what_another_deployment_or_row_key_pruned_is_refused(self, journal: Journal, open_again: Open) -> None:
        append(journal, b"a", b"b")
        journal.prune(Pruned(1, bytes(32)), [])
        assert open_again().pruned()
        for other in ({"deployment": "staging.example.org/log"}, {"row_key": bytes(32)}):
            with pytest.raises(IntegrityError, match="pruned"):
                open_again(**other).pruned()

    # --------------------------------------------------------------------------------------------- the checkpoint

    def test_the_signed_checkpoint_is_swapped_only_from_what_it_is(self, journal: Journal, open_again: Open) -> None:
        with pytest.raises(ConflictError):
            journal.swap_checkpoint(b"zero", b"one")
        journal.swap_checkpoint(None, b"one")
        with pytest.raises(ConflictError):
            journal.swap_checkpoint(None, b"two")
        journal.swap_checkpoint(b"one", b"two")
        with pytest.raises(ConflictError):
            journal.swap_checkpoint(b"one", b"three")
        assert journal.checkpoint() == b"two"
        assert open_again().checkpoint() == b"two"

    def test_of_two_publishers_one_loses_the_swap(self, journal: Journal, open_again: Open) -> None:
        journal.swap_checkpoint(None, b"start")
        journals = [journal, open_again()]

        def swap(number: int) -> bool:
            try:
                journals[number].swap_checkpoint(b"start", b"by %d" % number)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(swap, range(2))) == [False, True]
