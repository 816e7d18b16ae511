"""Canonical JSON: one document, one byte string.

Every document and entry is RFC 8785 JSON, restricted: keys ASCII and sorted, no floats, u64 as decimal strings, times
as RFC 3339 UTC, digests as lower-case hex, keys and signatures as base64 with padding. Parsing decodes strictly
(unknown key, missing key, wrong type and range are refused, the field named), then encodes again and requires the same
bytes; so duplicate keys, white space, other escapes, other number spellings and trailing bytes are all refused.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final, TypeVar, cast, get_type_hints

import msgspec

from custody.errors import FormatError
from custody.values import U64, Time, check_text

__all__ = ["Record", "decode", "encode", "recall"]

_T = TypeVar("_T")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of everything that is written as canonical JSON: immutable, keyword-only, no unknown fields."""


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record. Raises ``FormatError`` for text that UTF-8 cannot say.

    What a caller put together in Python is not checked here beyond that; ``decode`` refuses what must not be.
    """
    try:
        return msgspec.json.encode(record, enc_hook=_enc_hook, order="sorted")
    except UnicodeEncodeError:
        message = "text holds half a surrogate pair, which UTF-8 cannot say"
        raise FormatError(message) from None


def decode(data: bytes, kind: type[_T], what: str) -> _T:
    """Parse canonical bytes as ``kind``; ``what`` names the thing in messages. Raises ``FormatError``."""
    try:
        record: object = _decoder(cast("Any", kind)).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"{what}: {_reason(error)}"
        raise FormatError(message) from None
    if msgspec.json.encode(record, enc_hook=_enc_hook, order="sorted") != data:
        message = f"{what}: {_duplicate(data) or 'not canonical JSON (order, white space, escapes or number spelling)'}"
        raise FormatError(message)
    if not data.isascii() or b"\x7f" in data or b"\\" in data:
        _check_strings(json.loads(data), what)
    return cast("_T", record)


def recall(data: bytes, kind: type[_T]) -> _T:
    """Parse bytes that ``decode`` has accepted as ``kind`` before, perhaps in another process.

    They are canonical, and every value in them is what its field may hold; so neither is looked at again, which takes
    most of the time. What is returned is of a subclass of ``kind``.
    """
    return cast("_T", _recaller(cast("Any", kind)).decode(data))


@cache
def _recaller(kind: type[Any]) -> "msgspec.json.Decoder[Any]":
    """Return a decoder of the same struct whose own fields have types but no patterns and ranges."""
    plain = get_type_hints(kind)
    fields: list[Any] = [
        (field.name, plain[field.name]) if field.required else (field.name, plain[field.name], field.default)
        for field in msgspec.structs.fields(kind)
    ]
    unchecked = {"__post_init__": lambda _: None}
    again = msgspec.defstruct(kind.__name__, fields, bases=(kind,), namespace=unchecked, frozen=True, kw_only=True)
    return msgspec.json.Decoder(again, dec_hook=_recalled, strict=True)


@cache
def _decoder(kind: type[Any]) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind, dec_hook=_dec_hook, strict=True)


# A value that was read just now is not read again: values are immutable, and a log says the same ones over and over.
_PARSERS: Final[Mapping[type, Callable[[str], object]]] = {
    Time: lru_cache(maxsize=4096)(Time.parse),
    U64: lru_cache(maxsize=4096)(U64.parse),
}


def _enc_hook(value: object) -> str:
    if isinstance(value, Time | U64):
        return str(value)
    message = f"no canonical form for {type(value).__name__}"
    raise TypeError(message)


def _dec_hook(kind: type, value: object) -> object:
    parse = _PARSERS.get(kind)
    if parse is None or not isinstance(value, str):
        message = f"expected a string, got {type(value).__name__}"
        raise ValueError(message)
    return parse(value)


@lru_cache(maxsize=8192)  # asked without a Python function in between: a million entries have nine million values
def _recalled(kind: type, value: str) -> object:
    return _PARSERS[kind](value)


def _reason(error: Exception) -> str:
    """Say where as a path into the document. The message may quote the input, so it is cut and made printable."""
    if isinstance(error, UnicodeDecodeError):
        return "text that is not UTF-8"
    text = re.sub(r"matching regex '.*?'(?= - at|$)", "of the required form", str(error)[:2000])
    text = text.replace("`$.", "`").replace("`$`", "the top level")[:300]
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def _duplicate(data: bytes) -> str:
    """Name a duplicate key, if that is what is wrong."""
    found: list[str] = []

    def pairs(items: Sequence[tuple[str, object]]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for key, value in items:
            if key in seen:
                found.append(key)
            seen[key] = value
        return seen

    try:
        json.loads(data, object_pairs_hook=pairs)
    except ValueError:
        return "trailing or malformed bytes"
    return f"duplicate key {found[0][:60]!r}" if found else ""


def _check_strings(value: object, what: str) -> None:
    """Refuse text that could redraw a screen, wherever it stands, naming its place."""
    if isinstance(value, str):
        check_text(value, what)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_strings(item, f"{what}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(item, f"{what}.{key}")
