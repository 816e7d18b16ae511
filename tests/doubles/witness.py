"""Witnesses in this process: an honest one, one that is down, and several that lie."""

import threading
from collections.abc import Callable, Iterable, Sequence

from custody.errors import ConflictError, IntegrityError, UnavailableError
from custody.tlog.note import Note, NoteSigner, VKey
from custody.tlog.witness_protocol import AddCheckpoint, LogState, Refused, update

__all__ = ["LIES", "LocalWitness", "LyingWitness", "WitnessAtError"]

_CONFLICT = 409


class WitnessAtError(ConflictError):
    """The witness is at another size."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness is at {size}")
        self.size = size


class LocalWitness:
    """An honest witness (``custody.tlog.witness_protocol``) with its state in memory.

    ``down`` makes every call fail; ``asked`` lists the old sizes of the calls; ``sizes`` what it cosigned.
    """

    def __init__(self, name: str, signer: NoteSigner, logs: Iterable[VKey], clock: Callable[[], int]) -> None:
        self.name = name
        self.signer = signer
        self.down = False
        self.state: LogState | None = None
        self.note: bytes | None = None
        self.asked: list[int] = []
        self.sizes: list[int] = []
        self._logs = tuple(logs)
        self._clock = clock
        self._lock = threading.Lock()

    def add_checkpoint(self, old: int, proof: Sequence[bytes], checkpoint: bytes) -> Sequence[bytes]:
        if self.down:
            raise UnavailableError("connection refused")
        with self._lock:
            self.asked.append(old)
            request = AddCheckpoint.parse(AddCheckpoint(old, tuple(proof), checkpoint).encode())
            decided = update(self.state, request, self._logs)
            if isinstance(decided, Refused):
                if decided.status == _CONFLICT:
                    raise WitnessAtError(decided.size or 0)
                raise IntegrityError(f"refused: {decided.status} {decided.reason}")
            self.state = decided.state
            self.sizes.append(decided.checkpoint.size)
            text = decided.checkpoint.encode()
            line = self.signer.sign(text, self._clock())
            self.note = Note(text, decided.log_lines).encode() + line
            return [line]

    def latest(self, origin: str) -> bytes | None:
        if self.down:
            raise UnavailableError("connection refused")
        return self.note


class LyingWitness(LocalWitness):
    """A witness that does ``lie`` (one of ``LIES``). ``release`` lets the hanging one go at the end of a test."""

    def __init__(
        self, name: str, signer: NoteSigner, logs: Iterable[VKey], clock: Callable[[], int], *, lie: str
    ) -> None:
        super().__init__(name, signer, logs, clock)
        self.lie = lie
        self.called = threading.Event()
        self.release = threading.Event()
        self.calls = 0

    def add_checkpoint(self, old: int, proof: Sequence[bytes], checkpoint: bytes) -> Sequence[bytes]:
        self.calls += 1
        self.called.set()
        return LIES[self.lie](self, checkpoint)

    def latest(self, origin: str) -> bytes | None:
        """Show a checkpoint of the log that is far ahead, signed by the witness alone."""
        text = f"{origin}\n{2**62}\n{'A' * 43}=\n".encode()
        return text + b"\n" + self.signer.sign(text, 1)

    def claim(self, size: int) -> Sequence[bytes]:
        raise WitnessAtError(size)

    def cosign(self, checkpoint: bytes, time: int) -> Sequence[bytes]:
        return [self.signer.sign(Note.parse(checkpoint).text, time)]

    def fail(self, error: Exception) -> Sequence[bytes]:
        raise error

    def hang(self) -> Sequence[bytes]:
        self.release.wait(60)
        return []


LIES: dict[str, Callable[[LyingWitness, bytes], Sequence[bytes]]] = {
    "claims a huge size": lambda witness, _: witness.claim(2**62),
    "claims a negative size": lambda witness, _: witness.claim(-1),
    "claims another size each time": lambda witness, _: witness.claim(witness.calls % 2),
    "answers garbage": lambda _, __: [b"\xff\x00\n"],
    "answers nothing": lambda _, __: [],
    "answers without end": lambda witness, note: list(witness.cosign(note, 1)) * 100_000,
    "cosigns something else": lambda witness, note: witness.cosign(note.replace(b"A", b"B"), 1),
    "states a time in the far future": lambda witness, note: witness.cosign(note, 2**62),
    "states a time in the past": lambda witness, note: witness.cosign(note, 1),
    "refuses": lambda witness, _: witness.fail(IntegrityError("refused: 422")),
    "breaks its adapter": lambda witness, _: witness.fail(RuntimeError("a defect")),
    "hangs": lambda witness, _: witness.hang(),
}
