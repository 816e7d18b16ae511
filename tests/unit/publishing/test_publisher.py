"""The honest path: what is in the journal becomes a log that a stranger can verify."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NoReturn

import pytest

from custody.adapters.ledger import SqlJournal
from custody.adapters.store_local import LocalStore
from custody.entries.stored import LARGEST, parse_documents
from custody.errors import ConfigError, IntegrityError, UnavailableError
from custody.publishing.publisher import Publisher
from custody.tlog.note import NoteSigner
from custody.tlog.policy import Group, Policy
from custody.tlog.policy import Witness as PolicyWitness
from tests.doubles.tlog import TIME, witness_signer
from tests.doubles.witness import LocalWitness
from tests.unit.publishing.tiny_reader import check_kept, read_log
from tests.unit.publishing.world import QUICK, World, document_entry, entry


def test_a_new_log_begins_with_the_witnessed_empty_tree(world: World) -> None:
    publisher = world.running()
    assert publisher.published.size == 0
    assert world.store.get("checkpoint") == publisher.published.checkpoint == world.store.get("checkpoints/0")
    assert world.policy.check(publisher.published.checkpoint).checkpoint.size == 0


def test_entries_become_a_log_that_an_independent_reader_verifies(world: World) -> None:
    publisher = world.running()
    entries = [entry(i) for i in range(700)]
    for begin, end in [(0, 1), (1, 3), (3, 255), (255, 256), (256, 257), (257, 512), (512, 700)]:
        world.append(*entries[begin:end])
        world.publish(publisher)
        assert publisher.published.size == end
        assert read_log(world.path / "log") == entries[:end]
    check_kept(world.path / "log", entries)


def test_every_published_checkpoint_meets_the_policy_and_is_kept(world: World) -> None:
    publisher = world.running()
    for i in range(5):
        world.append(entry(i))
        world.publish(publisher)
    for size in range(6):
        checked = world.policy.check(world.store.get(f"checkpoints/{size}"))
        assert checked.checkpoint.size == size
        assert len(checked.cosigned) >= 2


def test_a_receipt_proves_its_entry_and_no_other(world: World) -> None:
    publisher = world.running()
    world.append(*[entry(i) for i in range(300)])
    world.publish(publisher)
    for index in (0, 1, 255, 256, 299):
        verified = world.verify(publisher.receipt(index))
        assert verified.index == index
        assert verified.entry.encode() == entry(index)
        assert verified.checkpoint.size == 300
        assert set(verified.cosigned.values()) == {TIME}
    swapped = replace(publisher.receipt(1), entry=entry(2))
    with pytest.raises(IntegrityError):
        world.verify(swapped)


def test_receipts_of_what_was_published_just_now_are_at_hand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ledger nor store is asked for them: who waits costs the event loop no call that blocks."""
    publisher = world.running()
    world.append(*[entry(i) for i in range(300)])
    world.publish(publisher)
    world.append(*[entry(i) for i in range(300, 310)])
    world.publish(publisher)
    wanted = {index: publisher.receipt(index) for index in range(256, 310)}

    def unreachable(*_: object) -> NoReturn:
        raise AssertionError("asked")

    monkeypatch.setattr(LocalStore, "open", unreachable)
    monkeypatch.setattr(SqlJournal, "rows", unreachable)
    for index, receipt in wanted.items():
        assert publisher.at_hand(index) == receipt
        assert world.verify(receipt).entry.encode() == entry(index)
    for index in (0, 255, 310):  # in a bundle before, and not published
        assert publisher.at_hand(index) is None


def test_nothing_is_at_hand_of_a_publisher_that_has_failed(world: World) -> None:
    publisher = world.running()
    world.append(entry(0))
    world.publish(publisher)
    assert publisher.at_hand(0) is not None
    world.store.put_new("tile/entries/000.p/2", b"planted")
    world.append(entry(1))
    with pytest.raises(IntegrityError):
        publisher.publish_once()
    assert publisher.at_hand(0) is None


def test_there_is_no_receipt_before_the_entry_is_published(world: World) -> None:
    publisher = world.publisher()
    with pytest.raises(UnavailableError):
        publisher.receipt(0)
    publisher.recover()
    world.append(entry(0))
    with pytest.raises(UnavailableError):
        publisher.receipt(0)
    world.publish(publisher)
    assert world.verify(publisher.receipt(0)).index == 0
    for index in (1, -1):
        with pytest.raises(UnavailableError):
            publisher.receipt(index)


def test_a_batch_takes_at_most_what_the_settings_say(world: World) -> None:
    publisher = world.publisher(settings=replace(QUICK, batch=100))
    publisher.recover()
    world.append(*[entry(i) for i in range(250)])
    world.publish(publisher)
    assert sorted(int(key.rpartition("/")[2]) for key in world.store.list("checkpoints/")) == [0, 100, 200, 250]


def test_documents_lie_in_the_bundle_of_the_entries_that_name_them(world: World) -> None:
    publisher = world.running()
    envelopes = [b"envelope %d" % i for i in range(3)]
    with world.journal.transaction() as transaction:
        for envelope in envelopes:
            transaction.add_document(hashlib.sha256(envelope).hexdigest(), envelope)
        transaction.append(document_entry(0, *envelopes[:2]))
        transaction.append(document_entry(1, *envelopes[1:]))
    world.publish(publisher)
    stored = parse_documents(world.store.get("documents/000.p/2"), 2)
    assert [list(kept) for kept in stored] == [envelopes[:2], envelopes[1:]]
    assert list(world.store.list("documents/")) == ["documents/000.p/2"]


def test_a_large_document_lies_by_itself(world: World) -> None:
    publisher = world.running()
    envelopes = [bytes([i]) * size for i, size in enumerate((LARGEST, LARGEST + 1, 100_000))]
    with world.journal.transaction() as transaction:
        for envelope in envelopes:
            transaction.add_document(hashlib.sha256(envelope).hexdigest(), envelope)
        transaction.append(document_entry(0, *envelopes))
    world.publish(publisher)
    assert parse_documents(world.store.get("documents/000.p/1"), 1) == [[envelopes[0], None, None]]
    for envelope in envelopes[1:]:
        assert world.store.get(f"documents/{hashlib.sha256(envelope).hexdigest()}") == envelope
    assert len(list(world.store.list("documents/"))) == 3


def test_a_start_goes_on_within_a_bundle_of_documents(world: World) -> None:
    """Each time another process writes the next bytes, and all are those that one process would have written."""
    envelopes = [b"envelope %d" % i for i in range(300)]
    for end in (1, 7, 256, 257, 300):
        publisher = world.running()
        begin = world.journal.size()
        with world.journal.transaction() as transaction:
            for number in range(begin, end):
                transaction.add_document(hashlib.sha256(envelopes[number]).hexdigest(), envelopes[number])
                transaction.append(document_entry(number, envelopes[number]))
        world.publish(publisher)
    full, rest = world.store.get("documents/000"), world.store.get("documents/001.p/44")
    assert [kept[0] for kept in [*parse_documents(full, 256), *parse_documents(rest, 44)]] == envelopes


def test_nothing_is_signed_that_the_store_does_not_give_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = world.running()
    world.append(entry(0))
    honest = type(world.store).get

    def get(store: LocalStore, key: str, limit: int = 16 << 20) -> bytes:
        data = honest(store, key, limit)
        return data + b"?" if key.startswith("documents/") else data

    monkeypatch.setattr(type(world.store), "get", get)
    with pytest.raises(IntegrityError, match=r"documents/000\.p/1 is another one"):
        publisher.publish_once()
    assert publisher.published.size == 0


@pytest.mark.parametrize("lost", ["documents/000", "documents/001.p/4"])
def test_a_start_refuses_a_log_that_lost_its_last_documents(world: World, lost: str) -> None:
    publisher = world.running()
    world.append(*[entry(i) for i in range(260)])
    world.publish(publisher)
    world.store.delete(lost)
    with pytest.raises(IntegrityError, match="has lost documents/"):
        world.publisher().recover()


def test_nothing_is_published_whose_document_the_ledger_has_lost(world: World) -> None:
    publisher = world.running()
    world.append(document_entry(0, b"lost"))
    with pytest.raises(IntegrityError, match=r"entry 0 names document .* which the ledger has lost"):
        publisher.publish_once()
    assert publisher.published.size == 0


def test_bytes_that_are_no_entry_are_never_published(world: World) -> None:
    publisher = world.running()
    world.append(entry(0), b"not an entry")
    with pytest.raises(IntegrityError, match="entry 1"):
        publisher.publish_once()
    assert publisher.published.size == 0


def test_partial_tiles_go_when_the_full_one_is_published(world: World) -> None:
    publisher = world.running()
    for i in range(3):
        world.append(entry(i))
        world.publish(publisher)
    assert len(list(world.store.list("tile/entries/000.p/"))) == 3
    again = world.running()  # a new process finds what the first one left
    world.append(*[entry(i) for i in range(3, 256)])
    world.publish(again)
    assert list(world.store.list("tile/")) == ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]
    assert list(world.store.list("documents/")) == ["documents/000"]
    assert len(read_log(world.path / "log")) == 256


def test_a_witness_that_was_away_catches_up(world: World) -> None:
    publisher = world.running()
    world.witnesses[0].down = True
    for i in range(3):
        world.append(entry(i))
        world.publish(publisher)
    world.witnesses[0].down, world.witnesses[1].down = False, True
    world.append(entry(3))
    world.publish(publisher)
    assert set(world.policy.check(publisher.published.checkpoint).cosigned) == {"w1", "w3"}
    assert world.witnesses[0].sizes[-1] == 4


def named(prefix: str, signers: Sequence[NoteSigner]) -> tuple[PolicyWitness, ...]:
    return tuple(PolicyWitness(f"{prefix}{i}", signer.vkey) for i, signer in enumerate(signers, start=1))


def test_a_change_of_witnesses_is_published_under_both_policies(world: World) -> None:
    asked: list[tuple[int, int]] = []
    in_force = [world.policy]

    def policies(old: int, new: int) -> Sequence[Policy]:
        asked.append((old, new))
        return in_force

    publisher = world.publisher(policies=policies)
    publisher.recover()
    world.publish(publisher)
    world.append(entry(0))
    world.publish(publisher)
    assert asked == [(0, 0), (0, 1)]
    # The next root names other witnesses: the checkpoint that covers it needs the old quorum and the new one.
    fresh = [witness_signer(i) for i in (4, 5, 6)]
    newer = [LocalWitness(f"n{i}", s, [world.signer.vkey], lambda: world.now) for i, s in enumerate(fresh, 1)]
    in_force.append(replace(world.policy, witnesses=named("n", fresh), groups=(Group("all", 2, ("n1", "n2", "n3")),)))
    world.witnesses += newer
    newer[0].down = newer[1].down = True
    world.append(entry(1))
    with pytest.raises(UnavailableError, match="witness n1 fails"):
        publisher.publish_once()
    newer[0].down = False
    world.publish(publisher)
    for policy in in_force:
        assert policy.check(publisher.published.checkpoint).checkpoint.size == 2


def test_without_a_policy_nothing_is_published(world: World) -> None:
    publisher = world.publisher(policies=lambda _old, _new: [])
    publisher.recover()
    with pytest.raises(ConfigError, match="no witness policy"):
        publisher.publish_once()


# ---------------------------------------------------------------------------------------------------------- the thread


@pytest.fixture
def started(world: World) -> Publisher:
    publisher = world.publisher()
    publisher.recover()
    publisher.start()
    return publisher


def test_who_waits_gets_the_receipt_of_the_own_entry(world: World, started: Publisher) -> None:
    def work(number: int) -> None:
        (index,) = world.append(entry(number))
        started.notify(index + 1)
        verified = world.verify(started.wait(index, 30))
        assert verified.entry.encode() == entry(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    started.stop()
    assert started.failed is None
    assert len(read_log(world.path / "log")) == 40


def test_entries_that_nobody_announced_are_published_all_the_same(world: World, started: Publisher) -> None:
    world.append(entry(0))
    assert world.verify(started.wait(0, 30)).index == 0
    started.stop()


def test_listeners_hear_of_publications_and_what_they_raise_is_dropped(world: World) -> None:
    heard: list[int] = []

    def broken(_size: int) -> None:
        raise LookupError

    publisher = world.publisher()
    publisher.on_published(broken)
    forget = publisher.on_published(heard.append)
    publisher.recover()
    world.append(entry(0))
    world.publish(publisher)
    forget()
    world.append(entry(1))
    world.publish(publisher)
    assert heard == [0, 1]


def test_who_waits_while_the_publisher_stops_is_told_so(world: World, started: Publisher) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(started.wait, 99, 30)
        started.stop()
        with pytest.raises(UnavailableError, match="stopping"):
            waiting.result()


def test_stopping_does_not_wait_for_a_witness(world: World, started: Publisher) -> None:
    started.stop()
    with pytest.raises(UnavailableError, match="stopping"):
        started._panel.collect(world.witnesses, None)  # type: ignore[arg-type]


def test_a_backlog_refuses_new_grants(world: World) -> None:
    publisher = world.publisher(settings=replace(QUICK, backlog=3))
    publisher.recover()
    world.append(entry(0), entry(1))
    publisher.require_room(world.journal.size())
    world.append(entry(2))
    with pytest.raises(UnavailableError, match="3 entries behind"):
        publisher.require_room(world.journal.size())
    world.publish(publisher)
    publisher.require_room(world.journal.size())


def test_a_defect_in_the_thread_is_a_failure_not_a_silence(world: World, started: Publisher) -> None:
    started.stop()
    publisher = world.publisher()
    with pytest.raises(ValueError, match="recover first"):
        publisher.run()
    with pytest.raises(Exception, match="the publisher broke"):
        publisher.wait(0, 1)
