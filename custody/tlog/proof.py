r"""A receipt that can be verified offline (tlog-proof).

::

    "c2sp.org/tlog-proof@v1\n"
    ["extra " base64 "\n"]
    "index " decimal "\n"
    base64(32-byte hash) "\n"        up to 63 times, from the leaf's sibling upwards
    "\n"
    the checkpoint, a signed note, byte for byte

The extra data is authenticated by nothing. A valid proof of *another* entry is still a valid proof (CVE-2026-22703,
CVE-2022-36056): the caller makes the leaf hash from the bytes that it means, never from the proof.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from custody.crypto.encoding import b64decode_strict, b64encode
from custody.errors import FormatError
from custody.tlog.lines import HASH_SIZE, MAX_PROOF_HASHES, SIZE_END, decimal, hash_line
from custody.tlog.merkle import verify_inclusion
from custody.tlog.note import MAX_NOTE_SIZE, Note
from custody.tlog.policy import CheckedCheckpoint

__all__ = ["MAX_PROOF_SIZE", "Proof", "verify_proof"]

MAX_PROOF_SIZE = 2 * MAX_NOTE_SIZE  # bytes
_HEADER = b"c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's ``index``, its inclusion ``hashes``, the ``checkpoint`` note, and ``extra`` data or ``None``.

    Raises ``FormatError`` for values that could not be encoded.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what ``parse`` would refuse."""
        if not 0 <= self.index < SIZE_END:
            raise FormatError("proof: index is not within 0..2^63-1")
        if len(self.hashes) > MAX_PROOF_HASHES or any(len(value) != HASH_SIZE for value in self.hashes):
            raise FormatError(f"proof: more than {MAX_PROOF_HASHES} hashes, or one that is not {HASH_SIZE} bytes")
        if self.extra == b"":
            raise FormatError("proof: empty extra data is left out")
        _require_note(self.checkpoint)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a proof; ``FormatError`` for any deviation. ``parse(data).encode() == data`` always holds."""
        if len(data) > MAX_PROOF_SIZE:
            raise FormatError(f"proof: longer than {MAX_PROOF_SIZE} bytes")
        head, empty_line, checkpoint = data.partition(b"\n\n")
        lines = head.split(b"\n")
        if not empty_line or lines.pop(0) != _HEADER:
            raise FormatError("proof: no tlog-proof@v1 header, or no empty line before the checkpoint")
        extra = None
        if lines and lines[0].startswith(b"extra "):
            extra = b64decode_strict(lines.pop(0)[len(b"extra ") :], "proof: extra")
        if not lines or not lines[0].startswith(b"index "):
            raise FormatError("proof: no index line")
        index = decimal(lines.pop(0)[len(b"index ") :], "proof: index")
        if len(lines) > MAX_PROOF_HASHES:
            raise FormatError(f"proof: more than {MAX_PROOF_HASHES} hashes")
        return cls(index, tuple(hash_line(line, "proof: hash") for line in lines), checkpoint, extra)

    def encode(self) -> bytes:
        """Return the bytes of the proof."""
        extra = "" if self.extra is None else f"extra {b64encode(self.extra)}\n"
        hashes = "".join(f"{b64encode(value)}\n" for value in self.hashes)
        return _HEADER + f"\n{extra}index {self.index}\n{hashes}\n".encode() + self.checkpoint


@lru_cache(maxsize=16)
def _require_note(checkpoint: bytes) -> None:
    """A log proves many entries under one checkpoint."""
    Note.parse(checkpoint)


def verify_proof(proof: Proof, leaf: bytes, check: Callable[[bytes], CheckedCheckpoint]) -> CheckedCheckpoint:
    """Verify that the entry with this leaf hash is in the log; return the checkpoint that says so.

    ``check`` opens the checkpoint under a policy (``Policy.check``) and raises where that is not met. Raises
    ``IntegrityError`` where the proof does not lead to its root.
    """
    checked = check(proof.checkpoint)
    tree = checked.checkpoint
    verify_inclusion(leaf, proof.index, tree.size, proof.hashes, tree.root)
    return checked
