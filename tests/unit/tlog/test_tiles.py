import pytest

from custody.errors import FormatError
from custody.tlog.merkle import MemoryTree, leaf_hash
from custody.tlog.tiles import (
    ENTRIES,
    Tile,
    changed_bundles,
    changed_tiles,
    encode_bundle,
    encode_tile,
    parse_bundle,
    parse_tile,
    tile_width,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(63, 5, 255), "tile/63/005.p/255"),
        (Tile(ENTRIES, 1234067, 1), "tile/entries/x001/x234/067.p/1"),
        (Tile(1, 2**63 - 1), "tile/1/x009/x223/x372/x036/x854/x775/807"),
    ],
)
def test_paths_round_trip(tile: Tile, path: str) -> None:
    assert tile.path() == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/tile/0/000",
        "tile/0/000/",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p/1\n",
        "tile/0/../000",
        "tile/0/\uff10\uff10\uff10",
        "tile/Entries/000",
        "tile/0/x009/x223/x372/x036/x854/x775/808",
        "tile/0/x001/x009/x223/x372/x036/x854/x775/807",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        Tile.parse(path)


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    tiles = changed_tiles(0, 70_000)
    level = [[tile for tile in tiles if tile.level == number] for number in range(4)]
    assert [len(found) for found in level] == [274, 2, 1, 0]
    assert [tile.width for tile in level[0]] == [256] * 273 + [112]
    assert [tile.width for tile in level[1]] == [256, 17]
    assert [tile.width for tile in level[2]] == [1]


def test_a_tree_of_256_has_a_full_tile_and_one_of_width_one_above_it() -> None:
    assert changed_tiles(0, 256) == [Tile(0, 0), Tile(1, 0, 1)]
    assert changed_bundles(0, 256) == [Tile(ENTRIES, 0)]


def test_growth_stores_only_what_changed() -> None:
    assert changed_tiles(0, 0) == changed_tiles(300, 300) == []
    assert changed_tiles(255, 257) == [Tile(0, 0), Tile(0, 1, 1), Tile(1, 0, 1)]
    assert changed_tiles(256, 257) == [Tile(0, 1, 1)]
    assert changed_bundles(255, 257) == [Tile(ENTRIES, 0), Tile(ENTRIES, 1, 1)]


def test_growth_in_steps_stores_all_that_a_jump_stores() -> None:
    jump = {tile for tile in changed_tiles(0, 1500) if tile.full}
    steps = {tile for size in range(1500) for tile in changed_tiles(size, size + 1)}
    assert jump == {tile for tile in steps if tile.full}
    for size in (1, 255, 256, 257, 1023, 1500):
        needed = {tile for tile in changed_tiles(0, size) if not tile.full}
        assert needed <= steps


def test_width_of_tiles_that_do_not_exist_is_zero() -> None:
    assert tile_width(0, 1, 256) == 0
    assert tile_width(1, 0, 255) == 0
    assert tile_width(ENTRIES, 1, 300) == 44


def test_a_tile_is_cut_into_exactly_its_hashes() -> None:
    leaves = [leaf_hash(b"%d" % i) for i in range(300)]
    tree = MemoryTree(leaves)
    data = encode_tile(Tile(0, 1, 44), tree.hash_at)
    assert parse_tile(data, 44) == leaves[256:]
    for bad in (data[:-1], data + b"\0", data[32:], b""):
        with pytest.raises(FormatError):
            parse_tile(bad, 44)


def test_a_bundle_is_cut_into_exactly_its_entries() -> None:
    entries = [b"", b"a", bytes(65_535)]
    data = encode_bundle(entries)
    assert data[:5] == b"\0\0\0\1a"
    assert parse_bundle(data, 3) == entries
    for bad, width in ((data, 2), (data, 4), (data[:-1], 3), (data + b"\0", 3), (b"\0", 1), (b"", 1)):
        with pytest.raises(FormatError, match="entry bundle"):
            parse_bundle(bad, width)
    with pytest.raises(ValueError, match="does not fit"):
        encode_bundle([bytes(65_536)])
