r"""The text of a checkpoint (tlog-checkpoint).

::

    origin "\n" decimal size "\n" base64(32-byte root) "\n"

Narrower than the specification: no extension lines, sizes below 2^63, and the origin is a valid key name, because the
log's key carries it as its name.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from custody.crypto.encoding import b64encode
from custody.errors import FormatError, IntegrityError
from custody.tlog.lines import HASH_SIZE, SIZE_END, decimal, hash_line, key_name, utf8_text

__all__ = ["EMPTY_ROOT", "Checkpoint"]

EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 6962 section 2.1
_LINES = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: the log's ``origin``, the ``size`` in leaves, and the 32-byte ``root``.

    Raises ``FormatError`` for values that no checkpoint can state.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse what could not be encoded."""
        key_name(self.origin, "checkpoint: origin")
        if not 0 <= self.size < SIZE_END:
            raise FormatError("checkpoint: size is not within 0..2^63-1")
        if len(self.root) != HASH_SIZE:
            raise FormatError(f"checkpoint: root is not {HASH_SIZE} bytes")

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read a note text; ``FormatError`` for any deviation. ``parse(text).encode() == text`` always holds."""
        lines = text.split(b"\n")
        if len(lines) != _LINES + 1 or lines[_LINES]:
            raise FormatError("checkpoint: not exactly three lines")
        return cls(
            utf8_text(lines[0], "checkpoint: origin"),
            decimal(lines[1], "checkpoint: size"),
            hash_line(lines[2], "checkpoint: root"),
        )

    def encode(self) -> bytes:
        """Return the note text that a log signs."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root)}\n".encode()

    def require_sound_root(self) -> None:
        """Raise ``IntegrityError`` where an empty tree has another root than SHA-256 of nothing (tlog-witness)."""
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise IntegrityError(f"checkpoint of {self.origin}: wrong root for an empty tree")
