"""What people type, checked against the vocabulary of ``custody.values`` before anything is done with it."""

import re
from typing import Any, Final

import msgspec

from custody.errors import FormatError

__all__ = ["checked", "seconds"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd]?)")


def checked(kind: Any, value: str, what: str, hint: str = "") -> str:
    """Return ``value`` if it is of an annotated kind such as ``VersionId``. ``FormatError`` naming ``what``."""
    try:
        return str(msgspec.convert(value, kind))
    except msgspec.ValidationError:
        raise FormatError(f"{value[:100]!a} is not a {what}", hint=hint) from None


def seconds(text: str, what: str) -> int:
    """Read a duration: ``90``, ``90s``, ``15m``, ``24h``, ``7d``. ``FormatError`` naming ``what``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise FormatError(f"{what}: {text[:40]!a} is not a duration", hint="write 90s, 15m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2] or "s"]
