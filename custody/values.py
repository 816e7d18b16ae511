"""The vocabulary of every document and entry: names, identities, times and text, each with its one spelling.

Types here are ``msgspec`` annotations, so a wrong value is refused while bytes are parsed, with the field's name.
What an annotation cannot say (text that could redraw a screen) is said by ``check_text`` and ``check_path``.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Self

from msgspec import Meta

from custody.errors import FormatError

__all__ = [
    "MAX_TIME",
    "MAX_U64",
    "U64",
    "Deployment",
    "Digest",
    "Ed25519Key",
    "Hex16",
    "Hex32",
    "Name",
    "NamePattern",
    "PersonId",
    "SealerId",
    "SpiffeId",
    "Text",
    "Time",
    "Title",
    "VersionId",
    "WorkloadPattern",
    "XWingKey",
    "check_path",
    "check_text",
    "covering",
    "matches",
]

_WORD: Final = r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*"
_NAME: Final = rf"{_WORD}(?:/{_WORD}){{0,3}}"

Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""A SHA-256 or BLAKE3 digest, 64 lower-case hex digits."""

Hex32 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""32 random bytes (a nonce, a vid) as 64 lower-case hex digits."""

Hex16 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""16 random bytes as 32 lower-case hex digits."""

Ed25519Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
XWingKey = Annotated[bytes, Meta(min_length=1216, max_length=1216)]

Deployment = Annotated[str, Meta(pattern=r"\A[a-z0-9]+(?:[./_-][a-z0-9]+)*\Z", max_length=128)]
"""The deployment id: the origin of the deployment's first log, a schema-less URL like ``custody.example.org/log``."""

Name = Annotated[str, Meta(pattern=r"\A[a-z0-9]+(?:-[a-z0-9]+)*\Z", max_length=40)]
"""A short identifier: a roster, a group, a device, a purpose."""

_PERSON: Final = r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*"

PersonId = Annotated[str, Meta(pattern=rf"\A{_PERSON}\Z", max_length=40)]
"""A person of the trust root, such as ``alice``."""

VersionId = Annotated[str, Meta(pattern=rf"\A{_NAME}@{_WORD}\Z", max_length=200)]
"""A model version, ``name@label``. A name may have up to four parts: ``frontier/llm@2026-11``."""

NamePattern = Annotated[str, Meta(pattern=rf"\A(?:\*|{_NAME}(?:/\*)?)\Z", max_length=200)]
"""Which names a roster guards or a sealer seals: a name, ``prefix/*``, or ``*``."""

_SEGMENT: Final = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+"
_TRUST_DOMAIN: Final = r"spiffe://[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?"

SpiffeId = Annotated[str, Meta(pattern=rf"\A{_TRUST_DOMAIN}(?:/{_SEGMENT})+\Z", max_length=512)]
"""A SPIFFE ID with a path (SPIFFE-ID section 2)."""

WorkloadPattern = Annotated[
    str, Meta(pattern=rf"\A{_TRUST_DOMAIN}(?:(?:/{_SEGMENT})+|(?:/{_SEGMENT})*/\*)\Z", max_length=512)
]
"""A SPIFFE ID, or a prefix that ends in ``/*``."""

SealerId = Annotated[
    str,
    Meta(
        pattern=rf"\A(?:{_PERSON}|{_TRUST_DOMAIN}(?:/{_SEGMENT})+|{_TRUST_DOMAIN}(?:/{_SEGMENT})*/\*)\Z", max_length=512
    ),
]
"""A person, a SPIFFE ID, or a prefix of SPIFFE IDs that ends in ``/*``."""

Text = Annotated[str, Meta(max_length=1000)]
"""Free text by a person, one line; see ``check_text`` for what it may hold."""

Title = Annotated[str, Meta(max_length=100)]

MAX_U64: Final = 2**64 - 1
_MAX_PATH: Final = 1024  # bytes of UTF-8: what Linux calls PATH_MAX allows 4096
_MAX_PART: Final = 255  # bytes: NAME_MAX
MAX_TIME: Final = 253402300799  # 9999-12-31T23:59:59Z
_RFC3339: Final = re.compile(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z", re.ASCII)
_DECIMAL: Final = re.compile(r"\A(?:0|[1-9][0-9]{0,19})\Z", re.ASCII)

# Categories that move the cursor, reorder or hide text, or have no agreed look. Of the spaces only U+0020 is allowed.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})

# Letters and marks that show nothing: the rest of Unicode's Default_Ignorable_Code_Point, and the empty braille cell.
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

_SLASH_ALIKE: Final = re.compile("[\u2044\u2215\u2216\u2571\u2572\u27cb\u27cd\u29f5\u29f8\u29f9]")


class U64(int):
    """An unsigned 64-bit integer; in JSON a decimal string, since JSON numbers are exact only below 2**53."""

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Refuse what does not fit."""
        if not 0 <= value <= MAX_U64:
            message = "a u64 is between 0 and 2**64 - 1"
            raise ValueError(message)
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the one decimal spelling: ASCII digits, no sign, no leading zero."""
        if not _DECIMAL.match(text):
            message = "expected a decimal string without sign or leading zero"
            raise ValueError(message)
        return cls(int(text))


class Time(int):
    """Seconds since 1970-01-01T00:00:00Z; in JSON an RFC 3339 string in UTC with whole seconds."""

    __slots__ = ()

    def __new__(cls, seconds: int) -> Self:
        """Refuse times before 1970 or after 9999."""
        if not 0 <= seconds <= MAX_TIME:
            message = "a time is between 1970 and 9999"
            raise ValueError(message)
        return super().__new__(cls, seconds)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``2026-11-22T17:00:00Z`` and nothing else."""
        if not _RFC3339.match(text):
            message = "expected a time such as 2026-11-22T17:00:00Z"
            raise ValueError(message)
        return cls(int(datetime.fromisoformat(text).timestamp()))

    def __str__(self) -> str:
        """Return the RFC 3339 spelling."""
        return _spelling(int(self))

    def __repr__(self) -> str:
        """Show the time as it is written in documents."""
        return f"Time({self!s})"


# Entries of a log come by the thousand in one second: a time that was written just now is not put together again.
@lru_cache(maxsize=4096)
def _spelling(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_text(text: str, what: str) -> str:
    """Return ``text`` if a terminal shows it as it is: NFC, and no control, bidi, zero-width or private character, no
    unusual space.

    Which characters are assigned grows with Unicode: a text that uses the newest ones may be refused by older tools.
    Raises ``FormatError`` naming ``what`` and the first bad character by its code point.
    """
    if text.isascii() and text.isprintable():
        return text
    for position, character in enumerate(text):
        if (unicodedata.category(character) in _INVISIBLE and character != " ") or _BLANK.match(character):
            message = f"{what}: character U+{ord(character):04X} at position {position} is not allowed"
            raise FormatError(message, hint="use plain, visible text")
    if not unicodedata.is_normalized("NFC", text):
        message = f"{what}: text is not in Unicode normalization form NFC"
        raise FormatError(message)
    return text


def check_path(path: str) -> str:
    """Return ``path`` if it names a file inside a version: relative, ``/`` between parts, no part ``.`` or ``..``.

    At most 1,024 bytes of UTF-8, parts at most 255; NFKC and none of the slashes of mathematics, so that no look-alike
    of ``/`` or ``.`` passes; no backslash and no drive letter, so that it means the same on every system. Raises
    ``FormatError``.
    """
    check_text(path, "path")
    parts = path.split("/")
    bad = (
        not path
        or len(path.encode()) > _MAX_PATH
        or any(part in ("", ".", "..") or len(part.encode()) > _MAX_PART for part in parts)
        or "\\" in path
        or path[1:2] == ":"
        or (not path.isascii() and (_SLASH_ALIKE.search(path) or not unicodedata.is_normalized("NFKC", path)))
    )
    if bad:
        message = f"path {path[:80]!a} is not a relative path inside a version"
        raise FormatError(message, hint="use names like weights/model.safetensors")
    return path


def covering(name: str) -> Iterator[str]:
    """Yield every pattern that covers ``name``, the most specific first: itself, ``a/b/*``, ``a/*``, ``*``.

    A version's label is not looked at. So patterns can be looked up in a dictionary, and of two that cover a name the
    longer always wins, an exact one over a prefix.
    """
    name = name.split("@", 1)[0]
    yield name
    while "/" in name:
        name = name.rsplit("/", 1)[0]
        yield f"{name}/*"
    yield "*"


def matches(pattern: str, name: str) -> bool:
    """Tell whether ``pattern`` (exact, ``prefix/*`` or ``*``) covers ``name``. A version's label is not looked at."""
    return pattern in covering(name)
