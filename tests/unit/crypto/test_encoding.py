from collections.abc import Callable

import pytest

from custody.crypto.encoding import b64decode_strict, b64encode, hexdigest_strict, lp, u8, u64
from custody.errors import FormatError


def test_integers_are_big_endian_and_of_fixed_size() -> None:
    assert u8(255) == b"\xff"
    assert u64(1) == b"\0\0\0\0\0\0\0\1"


def test_a_length_prefix_keeps_parts_apart() -> None:
    assert lp(b"ab") == b"\0\0\0\0\0\0\0\2ab"
    assert lp(b"ab") + lp(b"c") != lp(b"a") + lp(b"bc")


@pytest.mark.parametrize("call", [lambda: u8(256), lambda: u8(-1), lambda: u64(1 << 64), lambda: u64(-1)])
def test_an_integer_that_does_not_fit_is_the_callers_mistake(call: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError):
        call()


def test_canonical_base64_decodes() -> None:
    for data in (b"", b"!", b"!!", b"!!!", bytes(range(256))):
        assert b64decode_strict(b64encode(data), "x") == data
        assert b64decode_strict(b64encode(data).encode(), "x") == data


@pytest.mark.parametrize(
    "text",
    [
        "IR==",
        "IQ=",
        "IQ",
        "IQ==\n",
        " IQ==",
        "I Q==",
        "IQ==IQ==",
        "_-8=",
        "I\u00e9==",
        "=",
        "====",
        "IQ===",
        "\u0661Q==",
    ],
)
def test_another_spelling_of_base64_is_refused(text: str) -> None:
    assert b64decode_strict("IQ==", "x") == b"!"
    with pytest.raises(FormatError, match="wraps"):
        b64decode_strict(text, "wraps")


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "A" + "0" * 63, "0x" + "0" * 62, " " + "0" * 63, "\u0660" * 64]
)
def test_another_spelling_of_a_digest_is_refused(text: str) -> None:
    assert hexdigest_strict("0f" * 32, "x") == b"\x0f" * 32
    with pytest.raises(FormatError, match="content digest"):
        hexdigest_strict(text, "content digest")
