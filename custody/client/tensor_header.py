"""The header of a safetensors file: where each tensor lies. Bytes in, a layout out, or ``FormatError``.

::

    u64 little-endian n     length of the header, at most 100,000,000
    n bytes                 a JSON object that begins with ``{``; spaces may follow it
    the tensors' bytes      without a gap, an overlap or a byte behind the last

    {"__metadata__": {"text": "text"}, "name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}}

Offsets count from the end of the header. The file was sealed by somebody the trust root names, and its digests say that
it is the one; but a sealer may have packed a file made by somebody else, and two readers of one header must not see two
models. So what the format leaves open is closed here: a name once only, and every byte of the file in exactly one
tensor. Nothing is allocated for a file that breaks a rule.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from custody.errors import FormatError

__all__ = ["BITS", "LENGTH_SIZE", "MAX_HEADER", "Header", "Tensor", "header_length", "parse_header"]

LENGTH_SIZE: Final = 8
MAX_HEADER: Final = 100_000_000
"""Bytes, as the format's own library has it."""

BITS: Final[Mapping[str, int]] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}
"""Bits of one element, by the format's name of its type: those that torch has."""

_MAX_SIZE: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its element type, its shape, and the bytes ``start`` to ``end`` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    def rows(self, wanted: slice) -> "Tensor":
        """Return a slice of the first dimension as a tensor of its own. ``FormatError`` for one with a step."""
        if not self.shape or wanted.step not in (None, 1):
            raise FormatError(f"{self.name[:100]!a}: only rows that follow one another can be loaded")
        first, last, _ = wanted.indices(self.shape[0])
        last = max(first, last)
        row = self.size // self.shape[0] if self.shape[0] else 0
        start = self.start + first * row
        return Tensor(self.name, self.dtype, (last - first, *self.shape[1:]), start, start + (last - first) * row)


@dataclass(frozen=True, slots=True)
class Header:
    """All tensors in the order of the file, and where their bytes begin."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    start: int


def header_length(data: bytes, size: int) -> int:
    """Return how many bytes of JSON follow the first 8, ``data``, of a file of ``size`` bytes."""
    if len(data) != LENGTH_SIZE:
        raise FormatError("safetensors: the file has no room for a header")
    length = int.from_bytes(data, "little")
    if length > MAX_HEADER or length > size - LENGTH_SIZE:
        raise FormatError(f"safetensors: a header of {length} bytes in a file of {size}")
    return length


def parse_header(data: bytes, size: int) -> Header:
    """Parse the JSON of the header of a file of ``size`` bytes; ``data`` is exactly as long as the file says."""
    start = LENGTH_SIZE + len(data)
    if not data.startswith(b"{"):
        raise FormatError("safetensors: the header does not begin with {")
    try:
        fields = json.loads(data.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise FormatError("safetensors: the header is not JSON") from error
    if data.rstrip(b" ")[-1:] != b"}":
        raise FormatError("safetensors: the header does not end with }")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("safetensors: __metadata__ is not a map of texts")
    tensors = sorted(
        (_tensor(name, stated, start, size) for name, stated in fields.items()),
        key=lambda tensor: (tensor.start, tensor.end),
    )
    at = start
    for tensor in tensors:
        if tensor.start != at:
            what = "an overlap" if tensor.start < at else "a hole"
            raise FormatError(f"safetensors: {what} before tensor {tensor.name[:100]!a}")
        at = tensor.end
    if at != size:
        raise FormatError(f"safetensors: {size - at} bytes behind the last tensor")
    return Header(tuple(tensors), metadata, start)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise FormatError("safetensors: a name twice in the header")
    return fields


def _tensor(name: str, stated: object, start: int, size: int) -> Tensor:
    where = f"safetensors: tensor {name[:100]!a}"
    if not isinstance(stated, dict) or stated.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where}: not dtype, shape and data_offsets")
    dtype, shape, offsets = stated["dtype"], stated["shape"], stated["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise FormatError(f"{where}: an element type that is not known: {dtype!a:.40}")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        raise FormatError(f"{where}: shape or data_offsets are not counts")
    begin, end = offsets
    if not begin <= end <= size - start:
        raise FormatError(f"{where}: data_offsets outside the file")
    if _elements(shape) * BITS[dtype] != (end - begin) * 8:
        raise FormatError(f"{where}: {end - begin} bytes are not what its shape needs")
    return Tensor(name, dtype, tuple(shape), start + begin, start + end)


def _counts(value: object) -> bool:
    """Tell whether this is a list of integers from 0 to 2^63 - 1; JSON's true is a number to Python."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < _MAX_SIZE for item in value)


def _elements(shape: Sequence[int]) -> int:
    elements = 0 if 0 in shape else 1
    for dimension in shape if elements else ():
        elements *= dimension
        if elements >= _MAX_SIZE:  # no file is that long, and the numbers of a hostile one stay small
            break
    return elements
