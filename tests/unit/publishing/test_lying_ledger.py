"""A ledger that was edited, rolled back or exchanged, and a log store that was: the publisher refuses, for good."""

import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from custody.adapters.store_local import LocalStore
from custody.errors import ConfigError, CustodyError, IntegrityError, UnavailableError
from tests.doubles.tlog import log_signer
from tests.doubles.witness import LocalWitness
from tests.unit.publishing.world import World, entry

REBUILD = "custody ledger rebuild --from LOG"


def edit(world: World, *statements: str, **values: bytes) -> None:
    connection = sqlite3.connect(world.path / "ledger")
    with connection:
        for statement in statements:
            connection.execute(statement, values)
    connection.close()


def save(world: World, name: str) -> Path:
    """Back up the ledger, the log store, or both."""
    backup = world.path / name
    backup.mkdir()
    source, target = sqlite3.connect(world.path / "ledger"), sqlite3.connect(backup / "ledger")
    source.backup(target)
    source.close()
    target.close()
    (backup / "ledger").chmod(0o600)
    shutil.copytree(world.path / "log", backup / "log")
    return backup


def restore(world: World, backup: Path, *parts: str) -> None:
    world.close()
    if "ledger" in parts:
        for suffix in ("", "-wal", "-shm"):
            (world.path / f"ledger{suffix}").unlink(missing_ok=True)
        shutil.copy(backup / "ledger", world.path / "ledger")
    if "log" in parts:
        shutil.rmtree(world.path / "log")
        shutil.copytree(backup / "log", world.path / "log")
    witnesses = world.witnesses
    world.__post_init__()
    world.witnesses = witnesses


def publish(world: World, *numbers: int) -> None:
    publisher = world.running()
    world.append(*[entry(i) for i in numbers])
    world.publish(publisher)


def files(world: World) -> dict[str, bytes]:
    return {key: world.store.get(key) for key in world.store.list("")}


def refused(world: World, error: type[CustodyError], match: str, *, hint: str = "") -> None:
    """A start is refused, and refused again, and nothing was published."""
    before = files(world)
    publisher = world.publisher()
    with pytest.raises(error, match=match) as caught:
        publisher.recover()
    assert hint in caught.value.hint
    assert publisher.failed is caught.value
    for again in (publisher.recover, publisher.publish_once, lambda: publisher.wait(0, 0)):
        with pytest.raises(error, match=match):
            again()
    assert files(world) == before


@pytest.fixture
def published(world: World) -> World:
    """A log of 300 entries that starts again without complaint."""
    publish(world, *range(300))
    assert world.running().published.size == 300
    return world


@pytest.mark.parametrize(
    ("statements", "match"),
    [
        (["UPDATE entries SET entry = CAST('x' AS BLOB) WHERE idx = 7"], "entry 7 .*wrong MAC"),
        (["DELETE FROM entries WHERE idx = 7"], "lacks entry 7"),
        (["DELETE FROM entries WHERE idx > 290"], "has 291 entries and has signed 300"),
        (["DELETE FROM entries"], "has 0 entries"),
        (
            ["DELETE FROM entries WHERE idx = 299", "INSERT INTO entries VALUES (299, x'00', zeroblob(32))"],
            "entry 299 .*wrong MAC",
        ),
    ],
)
def test_edited_deleted_and_inserted_rows_are_refused_at_start(
    published: World, statements: list[str], match: str
) -> None:
    edit(published, *statements)
    refused(published, IntegrityError, match)


def test_a_good_row_of_an_older_copy_in_the_place_of_the_published_one_is_refused(world: World) -> None:
    publish(world, 0, 1)
    backup = save(world, "older")
    publish(world, 2)
    world.close()
    # In the copy another entry gets index 2, with the real row key: its MAC is good.
    twin = World(backup)
    twin.append(entry(99))
    (row,) = twin.journal.rows(2, 1)
    twin.close()
    world.__post_init__()
    edit(world, "UPDATE entries SET entry = :entry, mac = :mac WHERE idx = 2", entry=row.entry, mac=row.mac)
    assert world.journal.rows(2, 1) == [row]
    refused(world, IntegrityError, "not those that were signed", hint=REBUILD)


@pytest.mark.parametrize("fate", ["edited", "inserted far ahead", "deleted"])
def test_rows_not_yet_published_that_were_tampered_with_are_never_signed(world: World, fate: str) -> None:
    publisher = world.running()
    world.append(*[entry(i) for i in range(5)])
    edit(
        world,
        {
            "edited": "UPDATE entries SET entry = CAST('x' AS BLOB) WHERE idx = 3",
            "inserted far ahead": "INSERT INTO entries VALUES (70, x'00', zeroblob(32))",
            "deleted": "DELETE FROM entries WHERE idx = 3",
        }[fate],
    )
    with pytest.raises(IntegrityError):
        publisher.publish_once()
    with pytest.raises(IntegrityError):
        publisher.wait(0, 1)
    assert publisher.published.size == 0
    assert [witness.sizes[-1] for witness in world.witnesses[:2]] == [0, 0]


def test_rows_that_vanish_under_a_running_publisher_are_noticed(published: World) -> None:
    publisher = published.running()
    edit(published, "DELETE FROM entries WHERE idx > 250")
    with pytest.raises(IntegrityError, match="has signed 300"):
        publisher.publish_once()


def test_a_receipt_is_not_made_from_an_exchanged_row(published: World) -> None:
    publisher = published.running()
    edit(published, "DELETE FROM entries WHERE idx >= 5")
    published.append(entry(99))
    with pytest.raises(IntegrityError, match="not the one that was published"):
        publisher.receipt(5)


def test_an_older_ledger_beside_a_newer_log_is_refused_and_the_way_back_named(world: World) -> None:
    publish(world, 0, 1)
    backup = save(world, "older")
    publish(world, 2)
    restore(world, backup, "ledger")
    refused(world, ConfigError, "size 3 signed by this log, but this ledger has signed size 2", hint=REBUILD)


def test_an_empty_ledger_beside_a_log_is_refused(world: World) -> None:
    publish(world, 0)
    edit(world, "DELETE FROM entries", "DELETE FROM signed_checkpoint")
    refused(world, ConfigError, "has signed nothing", hint=REBUILD)


@pytest.mark.parametrize("down", [[], [0], [1], [2], [0, 1], [1, 2]])
def test_an_older_ledger_with_its_older_log_is_found_out_by_any_witness(world: World, down: list[int]) -> None:
    publish(world, 0, 1)
    backup = save(world, "older")
    publish(world, 2)
    assert [witness.sizes[-1] for witness in world.witnesses] == [3, 3, 3]
    restore(world, backup, "ledger", "log")
    for index in down:
        world.witnesses[index].down = True
    publisher = world.publisher()
    publisher.recover()
    world.append(entry(99))
    with pytest.raises(ConfigError, match=r"witness w. holds a checkpoint of size 3") as caught:
        publisher.publish_once()
    assert REBUILD in caught.value.hint
    assert publisher.failed is not None
    # Not even a signature of the fork exists.
    assert b"\n2\n" in (world.journal.checkpoint() or b"")


def test_an_older_ledger_signs_nothing_new_before_a_quorum_has_spoken(world: World) -> None:
    publish(world, 0, 1)
    backup = save(world, "older")
    publish(world, 2)
    restore(world, backup, "ledger", "log")
    for witness in world.witnesses:
        witness.down = True
    publisher = world.publisher()
    publisher.recover()
    world.append(entry(99))
    for _ in range(3):
        with pytest.raises(UnavailableError):
            publisher.publish_once()
    assert b"\n2\n" in (world.journal.checkpoint() or b"")
    assert world.verify(publisher.receipt(1)).index == 1  # what was published before is still provable


def test_a_fork_that_a_witness_can_prove_ends_the_log(world: World) -> None:
    publish(world, 0, 1)
    backup = save(world, "older")
    publish(world, 2)
    honest = world.witnesses
    restore(world, backup, "ledger", "log")
    # Somebody lets the copy run against witnesses that know nothing, then returns to the real ones.
    world.witnesses = [LocalWitness(w.name, w.signer, [world.signer.vkey], lambda: world.now) for w in honest]
    publish(world, 99)
    world.witnesses = honest
    publisher = world.publisher()
    publisher.recover()
    with pytest.raises(IntegrityError, match=r"fork: witness w. holds a checkpoint of size 3"):
        publisher.publish_once()


def test_a_published_checkpoint_of_equal_size_and_another_root_is_a_fork(world: World) -> None:
    publish(world, 0, 1)
    backup = save(world, "older")
    publish(world, 2)
    shutil.copytree(world.path / "log", world.path / "real")
    restore(world, backup, "ledger", "log")
    for witness in world.witnesses:
        witness.state = witness.note = None
    publish(world, 99)
    (world.path / "log/checkpoint").write_bytes((world.path / "real/checkpoint").read_bytes())
    refused(world, IntegrityError, "fork: the log store holds a checkpoint of size 3")


@pytest.mark.parametrize("name", ["tile/0/000", "tile/1/000.p/1", "tile/0/001.p/44"])
@pytest.mark.parametrize("damage", ["removed", "flipped"])
def test_a_log_store_that_lost_or_changed_tiles_of_the_right_edge_is_refused(
    published: World, name: str, damage: str
) -> None:
    path = published.path / "log" / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        data[5] ^= 1
        path.write_bytes(data)
    if name == "tile/0/000":  # not on the right edge: found when it is needed
        with pytest.raises(CustodyError):
            published.running().receipt(3)
    else:
        refused(published, IntegrityError, "log store has lost|do not lead to the root")


class FlippingStore(LocalStore):
    """A disk that flips a bit of one blob on its way, and says that all is well."""

    flip = ""

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        written = {key: bytearray(data) for key, data in blobs.items()}
        if (data := written.get(self.flip)) is not None:
            data[len(data) // 2] ^= 1
        super().put_all({key: bytes(data) for key, data in written.items()})


@pytest.mark.parametrize(
    "name",
    ["tile/entries/000", "tile/0/000", "tile/entries/001.p/44", "tile/0/001.p/44", "tile/1/000.p/1"],
)
def test_a_bit_that_flips_on_its_way_to_the_disk_is_never_signed(world: World, name: str) -> None:
    store = FlippingStore(world.path / "log")
    publisher = world.publisher(store=store)
    publisher.recover()
    world.publish(publisher)
    before = world.journal.checkpoint()
    store.flip = name
    world.append(*[entry(i) for i in range(300)])
    with pytest.raises(IntegrityError):
        publisher.publish_once()
    assert world.journal.checkpoint() == before
    assert publisher.failed is not None
    store.close()


def test_a_forged_published_checkpoint_is_refused(published: World) -> None:
    (published.path / "log/checkpoint").write_bytes(b"garbage")
    refused(published, IntegrityError, "not one that this log's key signed")


def test_another_log_key_is_refused(published: World) -> None:
    published.signer = log_signer(key="another")
    refused(published, IntegrityError, "not one that this log's key signed")


def test_other_bytes_in_the_place_of_a_new_tile_are_fatal(published: World) -> None:
    publisher = published.running()
    published.store.put_new("tile/entries/001.p/45", b"planted")
    published.append(entry(300))
    with pytest.raises(IntegrityError, match=r"other bytes under tile/entries/001\.p/45") as caught:
        publisher.publish_once()
    assert REBUILD in caught.value.hint
    assert publisher.published.size == 300


def test_another_checkpoint_in_the_place_of_the_new_one_is_fatal(published: World) -> None:
    publisher = published.running()
    planted = published.store.get("checkpoints/300").replace(b"\n300\n", b"\n301\n")
    published.store.put_new("checkpoints/301", planted)
    published.append(entry(300))
    with pytest.raises(IntegrityError, match="fork: the log store holds another checkpoint"):
        publisher.publish_once()


def test_a_bare_checkpoint_planted_in_the_place_of_the_new_one_is_not_shown(published: World) -> None:
    publisher = published.running()
    published.append(entry(300))
    published.witnesses[0].down = published.witnesses[1].down = True
    with pytest.raises(UnavailableError):
        publisher.publish_once()
    published.store.put_new("checkpoints/301", published.journal.checkpoint() or b"")
    published.witnesses[0].down = published.witnesses[1].down = False
    published.publish(publisher)
    assert published.policy.check(published.store.get("checkpoint")).checkpoint.size == 301


def test_of_two_publishers_on_one_ledger_the_second_stops_for_good(published: World) -> None:
    first, second = published.running(), published.running()
    published.append(entry(300))
    published.publish(first)
    published.append(entry(301))
    with pytest.raises(ConfigError, match="two publishers"):
        second.publish_once()
    assert second.failed is not None
    published.publish(first)
    assert first.published.size == 302
