"""What the format leaves open is closed: every broken header is refused, by name, before anything is allocated."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from custody.client.tensor_header import MAX_HEADER, Header, Tensor, header_length, parse_header
from custody.errors import FormatError

GOOD: dict[str, Any] = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
    "empty": {"dtype": "I64", "shape": [0, 7], "data_offsets": [26, 26]},
}
SIZE = 26


def parse(text: str, data: int = SIZE) -> Header:
    raw = text.encode("utf-8", "surrogatepass")
    return parse_header(raw, 8 + len(raw) + data)


def changed(**changes: Any) -> str:
    return json.dumps(GOOD | changes)


def test_a_header_says_where_each_tensor_lies() -> None:
    header = parse(changed(__metadata__={"format": "pt"}) + "   ")
    start = header.start
    assert header.tensors == (
        Tensor("a", "F32", (2, 3), start, start + 24),
        Tensor("b", "BF16", (), start + 24, start + 26),
        Tensor("empty", "I64", (0, 7), start + 26, start + 26),
    )
    assert header.metadata == {"format": "pt"}
    assert parse("{}", 0).tensors == ()


@given(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5), st.sampled_from(["<f4", "<i8", "|u1", "|b1"]))
def test_what_the_formats_own_library_writes_is_read(shapes: list[list[int]], dtype: str) -> None:
    data = save({f"t{i}": np.zeros(shape, dtype) for i, shape in enumerate(shapes)}, {"made": "by the library"})
    length = header_length(data[:8], len(data))
    header = parse_header(data[8 : 8 + length], len(data))
    assert {tensor.name: list(tensor.shape) for tensor in header.tensors} == {f"t{i}": s for i, s in enumerate(shapes)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" " + changed(), "begin with"),
        ("\ufeff" + changed(), "begin with"),
        ("[]", "begin with"),
        ("", "begin with"),
        (changed()[:-1], "not JSON"),
        (changed() + "x", "not JSON"),
        (changed() + "\n", "end with"),
        (changed().replace("{", "{\0", 1), "not JSON"),
        ("{" + '"a":' * 5 + "[" * 100_000, "not JSON"),
        (json.dumps({"a": int("9" * 4000)}), "not dtype"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        (changed()[:-1] + ', "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}', "twice"),
        ('{"a": {"dtype": "F32", "dtype": "F32", "shape": [], "data_offsets": [0, 4]}}', "twice"),
        (changed(__metadata__=[]), "__metadata__"),
        (changed(__metadata__={"format": 1}), "__metadata__"),
        (changed(a=[]), "not dtype"),
        (changed(a={"dtype": "F32", "shape": [2, 3]}), "not dtype"),
        (changed(a=GOOD["a"] | {"more": 1}), "not dtype"),
        (changed(a=GOOD["a"] | {"dtype": "Q4"}), "element type"),
        (changed(a=GOOD["a"] | {"dtype": ["F32"]}), "element type"),
        (changed(a=GOOD["a"] | {"shape": [2, -3]}), "not counts"),
        (changed(a=GOOD["a"] | {"shape": [2, 3.0]}), "not counts"),
        (changed(a=GOOD["a"] | {"shape": [True, 6]}), "not counts"),
        (changed(a=GOOD["a"] | {"shape": [1 << 63]}), "not counts"),
        (changed(a=GOOD["a"] | {"data_offsets": [0]}), "not counts"),
        (changed(a=GOOD["a"] | {"data_offsets": [24, 0]}), "outside"),
        (changed(a=GOOD["a"] | {"data_offsets": [0, 1 << 40]}), "outside"),
        (changed(a=GOOD["a"] | {"shape": [2, 4]}), "shape needs"),
        (changed(a=GOOD["a"] | {"shape": [1 << 62] * 30_000}), "shape needs"),
        (changed(b={"dtype": "BF16", "shape": [], "data_offsets": [22, 24]}), "an overlap"),
        (changed(c={"dtype": "U8", "shape": [1], "data_offsets": [25, 26]}), "an overlap"),
        (changed(a={"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}), "a hole"),
        (changed(a={"dtype": "F32", "shape": [5], "data_offsets": [4, 24]}), "a hole"),
        (json.dumps({"a": GOOD["a"]}), "behind the last"),
        ("{}", "behind the last"),
    ],
    ids=lambda value: value if len(value) < 30 else None,
)
def test_a_header_that_breaks_a_rule_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse(text)


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 1 << 63, 93])
def test_a_length_that_cannot_be_is_refused_before_anything_is_read(length: int) -> None:
    with pytest.raises(FormatError, match="a header of"):
        header_length(length.to_bytes(8, "little"), 100)


def test_a_file_without_room_for_a_length_is_refused() -> None:
    with pytest.raises(FormatError, match="no room"):
        header_length(b"1234567", 7)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_garbage_is_refused_and_never_breaks_the_parser(garbage: bytes, at: int) -> None:
    raw = json.dumps(GOOD).encode()
    raw = raw[:at] + garbage + raw[at + len(garbage) :]
    data = len(raw).to_bytes(8, "little") + raw + bytes(SIZE)
    try:
        parsed = parse_header(raw, len(data))
    except FormatError:
        return
    try:
        theirs = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError:
        return  # the library knows fewer types, or is stricter still
    assert {tensor.name: (tensor.dtype, list(tensor.shape)) for tensor in parsed.tensors} == {
        name: (item["dtype"], item["shape"]) for name, item in theirs.items()
    }


@pytest.mark.parametrize(
    ("rows", "shape", "start", "end"),
    [
        (slice(0, 2), (2, 3), 0, 24),
        (slice(1, 2), (1, 3), 12, 24),
        (slice(-1, None), (1, 3), 12, 24),
        (slice(1, 1), (0, 3), 12, 12),
        (slice(2, 1), (0, 3), 24, 24),
        (slice(0, 99), (2, 3), 0, 24),
    ],
)
def test_rows_are_a_part_of_the_bytes(rows: slice, shape: tuple[int, ...], start: int, end: int) -> None:
    part = parse(changed()).tensors[0].rows(rows)
    base = parse(changed()).start
    assert (part.shape, part.start - base, part.end - base) == (shape, start, end)


def test_rows_with_a_step_and_rows_of_a_scalar_are_refused() -> None:
    a, b, _ = parse(changed()).tensors
    for tensor, rows in ((a, slice(0, 2, 2)), (b, slice(0, 1))):
        with pytest.raises(FormatError, match="rows"):
            tensor.rows(rows)
