r"""What a witness is asked, and what it must answer (tlog-witness, add-checkpoint).

::

    request = "old " decimal "\n" || up to 63 lines of base64(32-byte hash) || "\n" || the checkpoint, a signed note
    answer  = 200 and cosignature lines, or

    400  malformed, or old above the new size       409  old is not the size last cosigned; body: that size, newline
    403  not signed by a key trusted for the log    422  the new tree does not continue the last one
    404  unknown log

Pure: ``update`` decides from the last state. Whoever calls it keeps check and storage atomic and answers only after the
new state is durable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from custody.crypto.encoding import b64encode
from custody.errors import FormatError, IntegrityError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.lines import HASH_SIZE, MAX_PROOF_HASHES, SIZE_END, decimal, hash_line
from custody.tlog.merkle import verify_consistency
from custody.tlog.note import ED25519, Note, SignatureLine, VKey, open_note

__all__ = [
    "MAX_BODY_SIZE",
    "SIZE_CONTENT_TYPE",
    "Accepted",
    "AddCheckpoint",
    "LogState",
    "Refused",
    "origin_of",
    "update",
]

MAX_BODY_SIZE = 16 * 1024  # bytes
SIZE_CONTENT_TYPE = "text/x.tlog.size"
_BAD_REQUEST = 400
_FORBIDDEN = 403
_NOT_FOUND = 404
_CONFLICT = 409
_UNPROCESSABLE = 422


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: the ``old`` size, the consistency ``proof`` from it, and the new checkpoint as a signed note."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def __post_init__(self) -> None:
        """Refuse what ``parse`` would refuse: ``FormatError``."""
        if not 0 <= self.old < SIZE_END:
            raise FormatError("add-checkpoint: old size is not within 0..2^63-1")
        if len(self.proof) > MAX_PROOF_HASHES or any(len(value) != HASH_SIZE for value in self.proof):
            raise FormatError(
                f"add-checkpoint: more than {MAX_PROOF_HASHES} hashes, or one that is not {HASH_SIZE} bytes"
            )
        Note.parse(self.checkpoint)
        if len(self.encode()) > MAX_BODY_SIZE:
            raise FormatError(f"add-checkpoint: longer than {MAX_BODY_SIZE} bytes")

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request body; ``FormatError`` for any deviation. ``parse(body).encode() == body`` always holds."""
        if len(body) > MAX_BODY_SIZE:
            raise FormatError(f"add-checkpoint: longer than {MAX_BODY_SIZE} bytes")
        head, empty_line, checkpoint = body.partition(b"\n\n")
        lines = head.split(b"\n")
        first = lines.pop(0)
        if not empty_line or not first.startswith(b"old ") or len(lines) > MAX_PROOF_HASHES:
            raise FormatError("add-checkpoint: not an old size, at most 63 hashes, an empty line and a checkpoint")
        old = decimal(first[len(b"old ") :], "add-checkpoint: old size")
        return cls(old, tuple(hash_line(line, "add-checkpoint: proof") for line in lines), checkpoint)

    def encode(self) -> bytes:
        """Return the request body."""
        proof = "".join(f"{b64encode(value)}\n" for value in self.proof)
        return f"old {self.old}\n{proof}\n".encode() + self.checkpoint


def origin_of(request: AddCheckpoint) -> str:
    """Read which log the request names, verified by nothing: only for finding its state. ``FormatError`` if none."""
    return Checkpoint.parse(Note.parse(request.checkpoint).text).origin


@dataclass(frozen=True, slots=True)
class LogState:
    """What a witness remembers of a log: the ``size`` and ``root`` it last cosigned."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The checkpoint to store and cosign, and the log's own lines over it that verified.

    Cosign ``checkpoint.encode()``, a re-encoding of what was parsed. Lines by others were verified by nobody; they are
    not here, so that a forged one can't come back from storage later.
    """

    checkpoint: Checkpoint
    log_lines: tuple[SignatureLine, ...]

    @property
    def state(self) -> LogState:
        """The state to remember."""
        return LogState(self.checkpoint.size, self.checkpoint.root)


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer other than 200: the HTTP ``status``, a ``reason`` fit for strangers, and for 409 the known ``size``."""

    status: int
    reason: str
    size: int | None = None


def update(state: LogState | None, request: AddCheckpoint, logs: Iterable[VKey]) -> Accepted | Refused:
    """Decide about a request. ``logs`` are the trusted keys; ``state`` is that of the log which the request names.

    ``None`` as state means that nothing was ever cosigned. Use ``origin_of`` on the request to find the state.
    """
    note = Note.parse(request.checkpoint)
    try:
        checkpoint = Checkpoint.parse(note.text)
    except FormatError as error:
        return Refused(_BAD_REQUEST, error.message)
    trusted = {vkey for vkey in logs if vkey.name == checkpoint.origin and vkey.type == ED25519}
    if not trusted:
        return Refused(_NOT_FOUND, "unknown log")
    try:
        signed = {vkey for vkey, _ in open_note(request.checkpoint, trusted).verified}
    except IntegrityError as error:
        return Refused(_FORBIDDEN, error.message)
    known = {(vkey.name, vkey.key_id) for vkey in signed}
    lines = {(line.name, line.key_id): line for line in note.signatures if (line.name, line.key_id) in known}
    refused = _compare(state, request, checkpoint)
    return refused or Accepted(checkpoint, tuple(lines.values()))


def _compare(state: LogState | None, request: AddCheckpoint, checkpoint: Checkpoint) -> Refused | None:
    """Compare a checkpoint that its log has signed with what was cosigned last."""
    if request.old > checkpoint.size:
        return Refused(_BAD_REQUEST, "the old size is above the size of the checkpoint")
    size = state.size if state else 0
    if request.old != size:
        return Refused(_CONFLICT, "the old size is not the one last cosigned", size)
    try:
        checkpoint.require_sound_root()
        if state is not None and size:
            verify_consistency(size, checkpoint.size, request.proof, state.root, checkpoint.root)
        elif request.proof:  # the empty tree is consistent with every tree and needs no proof
            return Refused(_UNPROCESSABLE, "a proof from size 0 must be empty")
    except IntegrityError as error:
        return Refused(_UNPROCESSABLE, error.message)
    return None
