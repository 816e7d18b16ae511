"""Where things lie: names in the store, segments in a file."""

import pytest

from custody.crypto.floe import HEADER_SIZE, OVERHEAD
from custody.errors import FormatError
from custody.segments.layout import FilePlan, manifest_key, version_prefix

VID = bytes(range(32))


def plan(size: int, segment: int = 4096, index: int = 7) -> FilePlan:
    return FilePlan(VID, index, size, segment, "weights/model.safetensors")


def test_keys_are_made_of_the_vid_and_the_index() -> None:
    assert version_prefix(VID) == f"versions/{VID.hex()}/"
    assert manifest_key(VID) == f"versions/{VID.hex()}/manifest.json"
    assert plan(1).ciphertext_key == f"versions/{VID.hex()}/7.floe"
    assert plan(1).digests_key == f"versions/{VID.hex()}/7.digests"


@pytest.mark.parametrize(
    ("size", "count", "stored", "last"),
    [
        (0, 1, 74 + 32, 0),
        (1, 1, 74 + 33, 1),
        (4095, 1, 74 + 4127, 4095),
        (4096, 1, 74 + 4128, 4096),
        (4097, 2, 74 + 4097 + 64, 1),
        (3 * 4096, 3, 74 + 3 * 4128, 4096),
    ],
)
def test_a_file_has_at_least_one_segment_and_the_last_holds_the_rest(
    size: int, count: int, stored: int, last: int
) -> None:
    file = plan(size)
    assert (file.count, file.stored_size, file.digests_size) == (count, stored, 32 * count)
    where = file.locate(count - 1)
    assert where.is_final
    assert (where.length, where.stored_length) == (last, last + OVERHEAD)
    assert where.stored_offset + where.stored_length == stored


def test_a_range_is_covered_by_the_segments_it_touches() -> None:
    file = plan(10_000)
    assert file.covering(0, 0) == range(0)
    assert file.covering(10_000, 0) == range(0)
    assert file.covering(0, 1) == range(1)
    assert file.covering(4095, 2) == range(2)
    assert file.covering(4096, 4096) == range(1, 2)
    assert file.covering(0, 10_000) == range(3)
    assert file.covering(9_999, 1) == range(2, 3)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 10_001), (10_001, 0), (9_999, 2)])
def test_a_range_outside_the_file_is_refused(offset: int, length: int) -> None:
    with pytest.raises(ValueError):
        plan(10_000).covering(offset, length)


def test_a_segment_outside_the_file_is_refused() -> None:
    for i in (-1, 3, 1 << 40):
        with pytest.raises(ValueError):
            plan(10_000).locate(i)


def test_a_stored_byte_names_its_segment() -> None:
    file = plan(10_000)
    assert file.segment_at(0) == 0
    assert file.segment_at(HEADER_SIZE + 4127) == 0
    assert file.segment_at(HEADER_SIZE + 4128) == 1
    assert file.segment_at(file.stored_size) == 2
    assert file.segment_at(1 << 50) == 2


def test_the_aad_binds_version_place_size_and_count() -> None:
    aads = {
        plan(10_000).aad,
        plan(10_001).aad,
        plan(10_000, index=8).aad,
        plan(10_000, segment=8192).aad,
        FilePlan(bytes(32), 7, 10_000, 4096, "").aad,
    }
    assert len(aads) == 5
    assert FilePlan(VID, 7, 10_000, 4096, "another name").aad in aads, "a path is no part of it: the content signs that"


@pytest.mark.parametrize(
    ("vid", "index", "size", "segment"),
    [(b"short", 0, 1, 4096), (VID, -1, 1, 4096), (VID, 0, -1, 4096), (VID, 1 << 64, 1, 4096), (VID, 0, 1, 0)],
)
def test_what_no_content_can_say_is_refused(vid: bytes, index: int, size: int, segment: int) -> None:
    with pytest.raises(ValueError):
        FilePlan(vid, index, size, segment, "x")
    with pytest.raises(ValueError):
        version_prefix(b"short")


def test_a_file_beyond_the_segments_of_floe_is_refused() -> None:
    assert plan(4096 << 40).count == 1 << 40
    with pytest.raises(FormatError, match="2\\^40"):
        plan((4096 << 40) + 1)
