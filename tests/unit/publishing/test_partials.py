"""Superseded partial tiles go, whatever an earlier process left; nothing goes while it is all there is."""

import pytest

from custody.errors import UnavailableError
from custody.publishing import partials
from custody.publishing.partials import Partials
from tests.doubles.store import FaultyStore
from tests.unit.publishing.tiny_reader import read_log
from tests.unit.publishing.world import World, entry

WHOLE = ["documents/000", "tile/0/000", "tile/1/000.p/1", "tile/entries/000"]


def grow(world: World, *sizes: int) -> None:
    """Publish a log at each of these sizes, in one process that then is gone."""
    publisher = world.running()
    for end in sizes:
        world.append(*[entry(i) for i in range(world.journal.size(), end)])
        world.publish(publisher)


def tiles(world: World) -> list[str]:
    return [*world.store.list("documents/"), *world.store.list("tile/")]


def test_what_a_crash_before_tidying_left_goes_after_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Partials, "tidy", lambda _self, _size: None)
        grow(world, 1, 2, 256, 257)
    assert len(list(world.store.list("tile/entries/000.p/"))) == 2
    grow(world, 257)
    assert tiles(world) == [
        *["documents/000", "documents/001.p/1"],
        *["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"],
        *["tile/entries/000", "tile/entries/001.p/1"],
    ]
    assert len(read_log(world.path / "log")) == 257


def test_what_could_not_be_deleted_goes_after_the_next_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_self: object, _key: str, **_: bool) -> None:
        raise UnavailableError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.store), "delete", fails)
        grow(world, 1, 256)
    assert set(tiles(world)) > set(WHOLE)
    grow(world, 256)
    assert tiles(world) == WHOLE


def test_a_large_log_is_looked_through_a_little_at_every_publication(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Partials, "tidy", lambda _self, _size: None)
        grow(world, *range(1, 12), 256)
    monkeypatch.setattr(partials, "_STEP", 5)
    left = len(tiles(world)) - len(WHOLE)
    tidying = Partials(world.store)
    tidying.tidy(256)
    assert 0 < len(tiles(world)) - len(WHOLE) < left
    for _ in range(left // 5 + 1):
        tidying.tidy(256)
    assert tiles(world) == WHOLE


def test_partial_tiles_stay_until_the_full_one_is_published_and_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Partials, "tidy", lambda _self, _size: None)
        grow(world, 1, 256)
    before = tiles(world)
    Partials(world.store).tidy(255)
    assert tiles(world) == before
    lost = world.store.get("tile/entries/000")
    world.store.delete("tile/entries/000")
    Partials(world.store).tidy(256)
    assert tiles(world) == [*WHOLE[:3], "tile/entries/000.p/1"]
    world.store.put_new("tile/entries/000", lost)
    Partials(world.store).tidy(256)
    assert tiles(world) == WHOLE


def test_trouble_while_tidying_stops_nothing(world: World) -> None:
    grow(world, 1, 255)
    for at in range(6):
        Partials(FaultyStore(world.store, at=at)).tidy(256)
    assert len(read_log(world.path / "log")) == 255
