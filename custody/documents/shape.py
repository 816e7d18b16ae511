"""The bytes of a kind of record as one regular expression: what it matches, ``decode`` accepts.

A log says nearly the same thing a million times. To parse each strictly, encode it again and compare takes five times
as long as to match it, and whoever only needs two of its members need not decode it at all. So a shape is made from the
very types that ``custody.documents.codec`` parses by, narrowed to what is common: one entry type, one document, no
member that is rare. It is sound and not complete: what it does not match may be good, and is parsed.

Strings are matched between their quotes by patterns that hold no quote, no backslash and nothing beyond ASCII; so there
is one way to read the bytes, and it is canonical: members in order, no white space, one spelling of each number and
time. What a type says beyond its members (``__post_init__``), whoever narrows it judges; and base64 too, which is
matched up to its end only, since to decode and encode it is faster than to match it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec import inspect

from custody.documents.codec import Record
from custody.values import U64, Time

__all__ = ["Narrow", "shape"]

_PIECE: Final = (
    r"\[(?:[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[._/-])+\]"  # a class of plain characters
    r"|\\[.+]|\(\?[:!=]|[()|?*+]|\{[0-9]+(?:,[0-9]+)?\}|[A-Za-z0-9/:@-]"
)
_PLAIN: Final = re.compile(rf"\\A((?:{_PIECE}|\\Z)*)\\Z")

_SPELLINGS: Final[Mapping[type, str]] = {
    U64: r"(?:0|[1-9][0-9]{0,18})",  # what has twenty digits may be too large
    Time: (  # but the 29th of February
        r"(?:19[7-9][0-9]|[2-9][0-9]{3})-"
        r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
        r"|02-(?:0[1-9]|1[0-9]|2[0-8]))T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
    ),
}


@dataclass(frozen=True, slots=True)
class Narrow:
    """What of a kind is matched. Members are named by path, such as ``documents.kind``.

    ``says``: what a text must be. ``must`` and ``may``: optional members that stand there, and that may; others do not.
    ``most``: how many items of a list. ``caught``: texts that are groups of the match, without their quotes; the group
    of ``documents.kind`` is ``documents_kind``. ``raw``: base64 and lists of it that are groups as they stand; what is
    in them was not judged.
    """

    says: Mapping[str, str] = field(default_factory=dict)
    must: Collection[str] = ()
    may: Collection[str] = ()
    most: Mapping[str, int] = field(default_factory=dict)
    caught: Collection[str] = ()
    raw: Collection[str] = ()


def shape(kind: type[Record], narrow: Narrow = Narrow()) -> "re.Pattern[bytes]":
    """Return the shape of ``kind``, for ``fullmatch``. ``TypeError`` for a type of which it cannot be told."""
    return re.compile(_Shaper(narrow).value(inspect.type_info(kind), "").encode("ascii"))


@dataclass(frozen=True, slots=True)
class _Shaper:
    narrow: Narrow

    def value(self, kind: inspect.Type, path: str) -> str:
        match kind:
            case inspect.BytesType() if path in self.narrow.raw:
                return rf'(?P<{_group(path)}>"[^"]*")'
            case inspect.VarTupleType(item_type=inspect.BytesType()) if path in self.narrow.raw:
                return rf"(?P<{_group(path)}>\[[^]]*\])"
            case inspect.StructType():
                return self._struct(kind, path)
            case inspect.VarTupleType():
                return self._list(kind, path, kind.min_length or 0)
            case inspect.UnionType(types=(inspect.BytesType(), inspect.NoneType())):
                return "null"  # for short: there are none in what is common
            case inspect.UnionType(types=(other, inspect.NoneType())):
                return f"(?:null|{self.value(other, path)})"
            case _:
                text = self._text(kind, path)
                return f'"(?P<{_group(path)}>{text})"' if path in self.narrow.caught else f'"{text}"'

    def _struct(self, kind: inspect.StructType, path: str) -> str:
        members = [(kind.tag_field, f'"{kind.tag}"', True)] if isinstance(kind.tag_field, str) else []
        members += self._members(kind, path)
        # A comma belongs to a member that may be left out: before it, where a member that stands there comes first.
        source, begun = "", False
        for name, value, always in sorted(members):
            member = f'"{name}":{value}'
            if always:
                source += f",{member}" if begun else member
            else:
                source += f"(?:,{member})?" if begun else f"(?:{member},)?"
            begun = begun or always
        if not begun:
            message = f"{kind.cls.__name__}: has no member that always stands there"
            raise TypeError(message)
        return rf"\{{{source}\}}"

    def _members(self, kind: inspect.StructType, path: str) -> Iterator[tuple[str, str, bool]]:
        """Yield the members: name, what it is, whether it always stands there."""
        sparse = kind.cls.__struct_config__.omit_defaults
        for member in kind.fields:
            place = f"{path}.{member.encode_name}" if path else member.encode_name
            if member.required or not sparse:
                yield member.encode_name, self.value(member.type, place), True
            elif place in self.narrow.must or place in self.narrow.may:
                yield member.encode_name, self._unlike_default(member, place), place in self.narrow.must

    def _unlike_default(self, member: inspect.Field, place: str) -> str:
        """What is like the default would have been left out."""
        match member.type, member.default:
            case inspect.UnionType(types=(other, inspect.NoneType())), None:
                return self.value(other, place)
            case inspect.VarTupleType() as several, ():
                return self._list(several, place, 1)
        message = f"{place}: its default cannot be told apart"
        raise TypeError(message)

    def _list(self, kind: inspect.VarTupleType, path: str, least: int) -> str:
        item = self.value(kind.item_type, path)
        most = min(self.narrow.most.get(path, kind.max_length or 0), kind.max_length or 0)
        if most < max(1, least):
            message = f"{path}: a list without end"
            raise TypeError(message)
        source = f"{item}(?:,{item}){{{max(least - 1, 0)},{most - 1}}}" if most > 1 else item
        return rf"\[{source}\]" if least else rf"\[(?:{source})?\]"

    def _text(self, kind: inspect.Type, path: str) -> str:
        match kind:
            case inspect.LiteralType(values=values) if all(isinstance(value, str) for value in values):
                said = [self.narrow.says[path]] if path in self.narrow.says else [str(value) for value in values]
                if not set(said) <= set(values):
                    message = f"{path}: cannot say {said[0]}"
                    raise TypeError(message)
                return f"(?:{'|'.join(map(re.escape, said))})"
            case inspect.CustomType(cls=of) if of in _SPELLINGS:
                return _SPELLINGS[of]
            case inspect.StrType(pattern=str(pattern), min_length=None, max_length=most):
                if path in self.narrow.says:
                    return _said(self.narrow.says[path], pattern, most)
                return (rf'(?=[^"]{{0,{most}}}")' if most else "") + _within_quotes(pattern)
        message = f"{path}: {kind} has no shape"
        raise TypeError(message)


def _group(path: str) -> str:
    return path.replace(".", "_")


def _within_quotes(pattern: str) -> str:
    """Return what a pattern matches as a whole, before a quote. ``TypeError`` where it might match a quote."""
    plain = _PLAIN.fullmatch(pattern)
    if plain is None:
        message = f"{pattern}: not a pattern of plain characters"
        raise TypeError(message)
    return "(?:" + plain[1].replace(r"\Z", '(?=")') + ")"


def _said(text: str, pattern: str, most: int | None) -> str:
    if not re.search(pattern, text) or (most is not None and len(text) > most) or _PLAIN.fullmatch(pattern) is None:
        message = f"{text} is not of the form {pattern}"
        raise TypeError(message)
    return re.escape(text)
