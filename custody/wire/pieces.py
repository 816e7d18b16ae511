"""The message that plaintext travels in, ``Segment`` of the .proto, put together and taken apart without a detour.

::

    08 varint     segment, left out where it is 0
    10 varint     offset, left out where it is 0
    1a varint     length of data, then data, left out where there is none

That is what every protobuf library writes, byte for byte. One that is asked to write a mebibyte copies it into the
message, and again to the wire; one that reads copies it twice as well. Here the payload is written where it belongs in
the message, by whoever makes it, and read where it lies. Whatever comes in another form, which protobuf allows, is left
to the library.
"""

import ctypes
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from custody.errors import FormatError
from custody.wire.v1 import broker_pb2 as pb

__all__ = ["READ", "Piece", "blank_piece", "join_piece", "split_piece"]

READ: Final = "/custody.v1.Broker/Read"

_SEGMENT: Final = 0x08  # field 1, varint
_OFFSET: Final = 0x10  # field 2, varint
_DATA: Final = 0x1A  # field 3, length-delimited
_MORE: Final = 0x80
_MAX_VARINT: Final = 10
_LONGEST: Final = 3 * (1 + _MAX_VARINT)
_U64: Final = (1 << 64) - 1


class Piece(NamedTuple):
    """A piece of one segment's plaintext, beginning at byte ``offset`` of the segment."""

    segment: int
    offset: int
    data: memoryview | bytes


# What the C API has for this: bytes of a length, whose content is written before anybody else has them.
_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.restype, _new_bytes.argtypes = ctypes.py_object, (ctypes.c_char_p, ctypes.c_ssize_t)
_address_of = ctypes.pythonapi.PyBytes_AsString
_address_of.restype, _address_of.argtypes = ctypes.c_void_p, (ctypes.py_object,)


def blank_piece(segment: int, offset: int, size: int) -> tuple[bytes, memoryview]:
    """Make a message whose payload is not written yet; return it, and the ``size`` bytes to write it to.

    Until then it holds whatever lay in that memory: send it only once all of it was written, and nothing afterwards.
    """
    head = bytearray()
    for tag, value in ((_SEGMENT, segment), (_OFFSET, offset), (_DATA, size)):
        if value:
            head.append(tag)
            while value >= _MORE:
                head.append(value & 0x7F | _MORE)
                value >>= 7  # noqa: PLW2901 - eaten up
            head.append(value)
    message: bytes = _new_bytes(None, len(head) + size)
    if not message:
        return message, memoryview(bytearray())  # every empty bytes object is the same one
    array = (ctypes.c_ubyte * len(message)).from_address(_address_of(message))
    array.message = message  # type: ignore[attr-defined]  # as long as there is a view of it, it stays
    whole = memoryview(array).cast("B")
    whole[: len(head)] = head
    return message, whole[len(head) :]


def join_piece(segment: int, offset: int, data: memoryview) -> bytes:
    """Make the message."""
    message, place = blank_piece(segment, offset, len(data))
    place[:] = data
    return message


def split_piece(message: bytes) -> Piece:
    """Take a message apart; ``data`` is a view of it. ``FormatError`` for bytes that are no such message."""
    head, at, values = message[:_LONGEST], 0, [0, 0, 0]
    for field, tag in enumerate((_SEGMENT, _OFFSET, _DATA)):
        if at == len(head) or head[at] != tag:
            continue
        at, shift = at + 1, 0
        while True:
            if at == len(head) or shift == 7 * _MAX_VARINT:
                return _any_form(message)
            byte = head[at]
            values[field] |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < _MORE:
                break
    segment, offset, length = values
    if at + length != len(message) or segment > _U64 or offset > _U64:
        return _any_form(message)
    return Piece(segment, offset, memoryview(message)[at:])


def _any_form(message: bytes) -> Piece:
    try:
        piece = pb.Segment.FromString(message)
    except DecodeError as error:
        raise FormatError("the broker sent a piece that is none") from error
    return Piece(piece.segment, piece.offset, piece.data)
