import pytest

from custody.errors import CustodyError, FormatError, IntegrityError, NotFoundError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, leaf_hash, verify_consistency, verify_inclusion
from custody.tlog.reader import TileReader
from custody.tlog.tiles import Tile, encode_bundle, encode_tile
from tests.doubles.tlog import Fetch, Log

_LOG = Log(1100)
_FILES = _LOG.files()


def _reader(files: dict[str, bytes], head: Checkpoint | None = None) -> TileReader:
    return TileReader(Fetch(files), head or _LOG.head())


def _read_all(files: dict[str, bytes]) -> list[bytes]:
    reader = _reader(files)
    return [entry for index in range(5) for entry in reader.bundle(index)]


def test_proofs_from_tiles_verify() -> None:
    reader = _reader(_FILES)
    head = _LOG.head()
    for index in (0, 255, 256, 1023, 1024, 1099):
        leaf = leaf_hash(_LOG.entries[index])
        verify_inclusion(leaf, index, head.size, reader.inclusion_proof(index), head.root)
    for old in (1, 255, 256, 257, 1024, 1099, 1100):
        verify_consistency(old, head.size, reader.consistency_proof(old), _LOG.tree.root(old), head.root)


def test_every_size_up_to_two_levels_is_readable() -> None:
    for size in (0, 1, 2, 255, 256, 257, 511, 512, 513):
        log = Log(size)
        reader = TileReader(Fetch(log.files()), log.head())
        assert [entry for index in range(-(-size // 256)) for entry in reader.bundle(index)] == log.entries


def test_a_tree_of_three_levels_is_readable() -> None:
    tree = MemoryTree([leaf_hash(b"%d" % i) for i in range(65_536 + 300)])
    head = Checkpoint("o", tree.size, tree.root())

    def fetch(path: str) -> bytes:
        return encode_tile(Tile.parse(path), tree.hash_at)

    reader = TileReader(fetch, head)
    for index in (0, 65_535, 65_536, tree.size - 1):
        verify_inclusion(leaf_hash(b"%d" % index), index, tree.size, reader.inclusion_proof(index), head.root)
    assert reader.hash_at(16, 0) == tree.hash_at(16, 0)


def test_entries_are_those_that_were_logged() -> None:
    assert _read_all(_FILES) == _LOG.entries


def test_a_flipped_bit_in_any_tile_or_bundle_is_caught() -> None:
    for path in _FILES:
        for place in (0, len(_FILES[path]) // 2, -1):
            data = bytearray(_FILES[path])
            data[place] ^= 1
            with pytest.raises(CustodyError):
                _read_all(_FILES | {path: bytes(data)})


def test_a_forged_full_tile_is_not_believed_even_where_it_agrees_with_itself() -> None:
    # CVE-2026-56865: entry, bundle and full tile are forged consistently; only the tile above contradicts them.
    entries = [b"forged", *_LOG.entries[1:256]]
    forged = MemoryTree([leaf_hash(entry) for entry in entries])
    files = _FILES | {
        Tile(0, 0).path(): encode_tile(Tile(0, 0), forged.hash_at),
        "tile/entries/000": encode_bundle(entries),
    }
    reader = _reader(files)
    assert reader.bundle(1) == _LOG.entries[256:512]
    for ask in (lambda: reader.bundle(0), lambda: reader.hash_at(0, 0), lambda: reader.inclusion_proof(3)):
        with pytest.raises(IntegrityError, match=r"tile/0/000 does not hash"):
            ask()


def test_a_forged_full_tile_with_an_untouched_hash_asked_for_is_refused_as_a_whole() -> None:
    data = bytearray(_FILES["tile/0/000"])
    data[32 * 200] ^= 1
    reader = _reader(_FILES | {"tile/0/000": bytes(data)})
    with pytest.raises(IntegrityError):
        reader.hash_at(0, 3)


def test_forging_the_tile_above_as_well_contradicts_the_checkpoint() -> None:
    forged = Log(1100, branch=0)
    with pytest.raises(IntegrityError, match="root of its checkpoint"):
        _reader(forged.files())
    mixed = _FILES | {path: data for path, data in forged.files().items() if path.startswith("tile/1/")}
    with pytest.raises(IntegrityError, match="root of its checkpoint"):
        _reader(mixed)


def test_a_tile_of_the_wrong_length_is_refused() -> None:
    for path in ("tile/0/004.p/76", "tile/1/000.p/4"):
        for data in (_FILES[path][:-1], _FILES[path] + bytes(32), b""):
            with pytest.raises(FormatError, match="bytes instead of"):
                _reader(_FILES | {path: data})


def test_an_entry_moved_within_its_bundle_is_refused() -> None:
    swapped = [_LOG.entries[1], _LOG.entries[0], *_LOG.entries[2:256]]
    reader = _reader(_FILES | {"tile/entries/000": encode_bundle(swapped)})
    with pytest.raises(IntegrityError, match="entry 0 is not"):
        reader.bundle(0)


def test_a_partial_tile_that_was_replaced_is_read_from_the_full_one() -> None:
    grown = Log(1300)
    files = {path: data for path, data in grown.files().items() if ".p/" not in path}
    files |= {path: data for path, data in _FILES.items() if path.startswith("tile/1/")}
    assert TileReader(Fetch(files), _LOG.head()).bundle(4) == _LOG.entries[1024:]


def test_a_missing_tile_is_named() -> None:
    for path in _FILES:
        files = {name: data for name, data in _FILES.items() if name != path}
        with pytest.raises(NotFoundError, match=path):
            _read_all(files)


def test_a_checkpoint_of_an_empty_tree_with_another_root_is_refused() -> None:
    with pytest.raises(IntegrityError, match="empty tree"):
        _reader({}, Checkpoint("o", 0, bytes(32)))


def test_what_the_tree_does_not_have_is_the_callers_mistake() -> None:
    reader = _reader(_FILES)
    for level, index in ((0, 1100), (3, 137), (11, 0), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="no complete node"):
            reader.hash_at(level, index)
    for index in (5, -1):
        with pytest.raises(ValueError, match="no entry bundle"):
            reader.bundle(index)


def test_authenticated_tiles_are_fetched_once() -> None:
    fetch = Fetch(_FILES)
    reader = TileReader(fetch, _LOG.head())
    for index in range(256):
        reader.hash_at(0, index)
    assert fetch.fetched.count("tile/0/000") == 1
