"""What an audit remembers, so that the next one costs what is new, and sees when the log is no longer the same.

::

    canonical JSON, LF      {"body": SHA-256 of the rest, "deployment", "genesis", "root", "schema", "seen", "size"}
    MessagePack             what the entries so far imply, the right edge of the tree, findings and counts

``seen`` are the size and root of each earlier run, the newest at the end (``MAX_SEEN`` of them: each run showed that
the one before it is a prefix of its own tree, so the newest root stands for all; the others tell where two histories
part). The file is the auditor's own memory: what stands in it is believed. It holds 16 bytes for each entry and
document that may occur only once, and what is known of each version and request.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import msgspec

from custody.audit.report import Finding, Remark
from custody.documents.codec import Record, decode, encode
from custody.errors import FormatError, IntegrityError
from custody.rules.state import State
from custody.rules.used import Used
from custody.values import U64, Deployment, Digest, Time

__all__ = ["MAX_SAVED", "MAX_SEEN", "Memory", "Saved", "Seen"]

MAX_SAVED: Final = 1 << 34
"""Bytes: for a thousand million entries."""

MAX_SEEN: Final = 1000


class Seen(Record, frozen=True, kw_only=True):
    """The tree that an earlier run verified."""

    size: U64
    root: Digest


@dataclass(slots=True)
class Memory:
    """What a run goes on from. ``edge`` and ``rows`` are the tree's; ``broken`` and ``unread`` the judge's."""

    state: State
    edge: list[bytes]
    rows: dict[int, list[bytes]]
    broken: dict[str, int] = field(default_factory=dict)
    unread: int | None = None
    audited: int = 0
    checkpoints: int = 0
    types: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    unasked: dict[str, int] = field(default_factory=dict)
    found: int = 0
    findings: list[Finding] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    @classmethod
    def parse(cls, data: bytes) -> "Memory":
        """Read what ``encode`` wrote. Raises ``FormatError``."""
        try:
            memory = msgspec.msgpack.decode(data, type=Memory, dec_hook=_dec_hook)
        except (msgspec.MsgspecError, ValueError) as error:
            message = "the memory of an earlier audit is of another version"
            raise FormatError(message, hint="start again with a new state file") from error
        state = memory.state
        state.live = {name: request for name, request in state.requests.items() if request.phase != "closed"}
        return memory

    def encode(self) -> bytes:
        """Return the bytes."""
        without = replace(self, state=replace(self.state, live={}))
        return msgspec.msgpack.encode(without, enc_hook=_enc_hook)


class _Head(Record, frozen=True, kw_only=True):
    schema: Literal["custody/audit/v2"] = "custody/audit/v2"
    deployment: Deployment
    genesis: Digest
    size: U64
    root: Digest
    seen: tuple[Seen, ...]
    body: Digest


@dataclass(frozen=True, slots=True)
class Saved:
    """The log as earlier runs verified it. ``seen`` are all of them, the newest last; ``memory`` is what it made.

    Without a memory everything is judged anew, and compared with what was seen.
    """

    deployment: str
    genesis: str
    seen: tuple[Seen, ...]
    memory: bytes

    @classmethod
    def parse(cls, data: bytes, what: str) -> "Saved":
        """Read the bytes of a file. Raises ``FormatError`` naming ``what``."""
        text, _, memory = data.partition(b"\n")
        head = decode(text, _Head, what)
        if hashlib.sha256(memory).hexdigest() != head.body:
            message = f"{what}: it was changed, or not written whole"
            raise FormatError(message)
        return cls(head.deployment, head.genesis, (*head.seen, Seen(size=head.size, root=head.root)), memory)

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        newest = self.seen[-1]
        head = _Head(
            deployment=self.deployment,
            genesis=self.genesis,
            size=newest.size,
            root=newest.root,
            seen=self.seen[-MAX_SEEN:-1],
            body=hashlib.sha256(self.memory).hexdigest(),
        )
        return encode(head) + b"\n" + self.memory

    @property
    def newest(self) -> Seen:
        """The tree of the last run."""
        return self.seen[-1]

    def require_pins(self, deployment: str, genesis: str) -> None:
        """Raise ``IntegrityError`` where this is the memory of another deployment's log."""
        if (self.deployment, self.genesis) != (deployment, genesis):
            raise IntegrityError(
                f"the saved state is of deployment {self.deployment}, genesis {self.genesis[:16]}…",
                hint="keep one state file for each deployment",
            )


def _enc_hook(value: object) -> object:
    if isinstance(value, Time | U64):
        return int(value)
    if isinstance(value, Used):
        return value.dump()
    message = f"no form for {type(value).__name__}"
    raise TypeError(message)


def _dec_hook(kind: type, value: object) -> object:
    if kind in (Time, U64) and isinstance(value, int):
        return kind(value)
    if kind is Used and isinstance(value, bytes):
        return Used.load(value)
    message = f"no form for {kind.__name__}"
    raise ValueError(message)
