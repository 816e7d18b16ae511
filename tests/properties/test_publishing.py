"""The right edge against the whole tree, for any way in which entries arrive."""

from hypothesis import given
from hypothesis import strategies as st

from custody.publishing.tree import TreeWriter
from custody.tlog.merkle import MemoryTree, leaf_hash
from custody.tlog.tiles import Tile, changed_bundles, changed_tiles, encode_bundle, encode_tile

# Around the boundaries of tiles of the first two levels.
STEPS = st.lists(st.one_of(st.integers(0, 5), st.sampled_from([250, 255, 256, 257, 511, 513])), min_size=1, max_size=6)


def entries(begin: int, end: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(begin, end)]


@given(STEPS)
def test_the_right_edge_makes_the_tiles_and_the_root_of_the_whole_tree(steps: list[int]) -> None:
    writer, whole = TreeWriter(), MemoryTree()
    for step in steps:
        old, size = writer.size, writer.size + step
        made = dict(writer.extend(entries(old, size)) + writer.partial())
        for entry in entries(old, size):
            whole.append(leaf_hash(entry))
        assert writer.size == size
        assert writer.root() == whole.root()
        expected: dict[Tile, bytes] = {tile: encode_tile(tile, whole.hash_at) for tile in changed_tiles(old, size)}
        for tile in changed_bundles(old, size):
            first = tile.index * 256
            expected[tile] = encode_bundle(entries(first, first + tile.width))
        assert expected.items() <= made.items()
        # What else it gives out is the unchanged rest of the right edge.
        assert all(not tile.full for tile in made.keys() - expected.keys())


@given(st.integers(0, 600), st.integers(1, 300))
def test_a_copy_that_goes_on_leaves_the_original_as_it_was(size: int, more: int) -> None:
    writer = TreeWriter()
    writer.extend(entries(0, size))
    before = writer.root(), writer.partial()
    writer.copy().extend(entries(size, size + more))
    assert (writer.root(), writer.partial()) == before


def test_a_third_level_begins_after_65536_entries() -> None:
    writer, whole = TreeWriter(), MemoryTree()
    full = writer.extend(entries(0, 65_536 + 1))
    for entry in entries(0, 65_536 + 1):
        whole.append(leaf_hash(entry))
    assert writer.root() == whole.root()
    assert dict(full)[Tile(1, 0)] == encode_tile(Tile(1, 0), whole.hash_at)
    assert {tile for tile, _ in writer.partial()} == {Tile(-1, 256, 1), Tile(0, 256, 1), Tile(2, 0, 1)}
