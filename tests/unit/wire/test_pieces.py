"""Our message and protobuf's are one and the same, whoever writes and whoever reads."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from custody.errors import FormatError
from custody.wire.pieces import READ, Piece, blank_piece, join_piece, split_piece
from custody.wire.v1 import broker_pb2 as pb

U64 = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))


def plain(piece: Piece) -> tuple[int, int, bytes]:
    return piece.segment, piece.offset, bytes(piece.data)


@given(U64, U64, st.binary(max_size=300))
@example(0, 0, b"")
@example((1 << 64) - 1, (1 << 64) - 1, bytes(1 << 14))
def test_what_we_write_is_what_protobuf_writes_and_each_reads_the_other(segment: int, offset: int, data: bytes) -> None:
    theirs = pb.Segment(segment=segment, offset=offset, data=data).SerializeToString()
    ours = join_piece(segment, offset, memoryview(data))
    assert ours == theirs
    read = pb.Segment.FromString(ours)
    assert (read.segment, read.offset, read.data) == (segment, offset, data)
    assert plain(split_piece(theirs)) == (segment, offset, data)


@given(
    st.lists(st.sampled_from([b"\x08\x05", b"\x10\x07", b"\x1a\x03abc", b"\x1a\x00", b"\x08\x85\x80\x00", b"\x20\x01"]))
)
def test_forms_that_protobuf_allows_and_nobody_writes_mean_what_they_mean_to_protobuf(parts: list[bytes]) -> None:
    """Fields in any order, twice, unknown, or longer than need be."""
    message = b"".join(parts)
    read = pb.Segment.FromString(message)
    assert plain(split_piece(message)) == (read.segment, read.offset, read.data)


@given(st.binary(max_size=40))
@example(b"\x08" + b"\xff" * 9 + b"\x7f")
@example(b"\x08" + b"\xff" * 12)
@example(b"\x1a\x05abc")
def test_garbage_is_what_it_is_to_protobuf(message: bytes) -> None:
    try:
        read = pb.Segment.FromString(message)
    except Exception:  # noqa: BLE001 - whatever it raises, it is no message
        with pytest.raises(FormatError, match="none"):
            split_piece(message)
        return
    assert plain(split_piece(message)) == (read.segment, read.offset, read.data)


def test_the_payload_is_not_copied_when_it_is_read() -> None:
    message = join_piece(3, 4096, memoryview(b"weights" * 100))
    piece = split_piece(message)
    assert isinstance(piece.data, memoryview)
    assert piece.data.obj is message


def test_a_payload_is_written_into_its_message_which_lives_as_long_as_its_place() -> None:
    message, place = blank_piece(7, 0, 1 << 20)
    address = id(message)
    place[:] = bytes(range(256)) * 4096
    assert plain(split_piece(message)) == (7, 0, bytes(range(256)) * 4096)
    assert len(message) == len(join_piece(7, 0, place))
    del message
    others = [bytes(1 << 20) for _ in range(8)]  # would lie where it lay
    assert address not in map(id, others)
    assert place == bytes(range(256)) * 4096


def test_a_message_without_content_is_nobodys_memory() -> None:
    message, place = blank_piece(0, 0, 0)
    assert (message, len(place)) == (b"", 0)


def test_the_name_of_the_method_is_the_protos() -> None:
    service = pb.DESCRIPTOR.services_by_name["Broker"]
    assert f"/{service.full_name}/{service.methods_by_name['Read'].name}" == READ
