"""Asking the witnesses, all at once, and believing none of them further than its signature goes.

Each witness has a seat: the size it last told us or cosigned. It is asked in a thread of its own, one call at a time;
one that hangs keeps only its own seat. A witness counts when its cosignature verifies under its key in the policy, at a
time near our clock and not before its last one. What it says otherwise (a size, a refusal) never stops the log, except
by proof: a checkpoint with our own signature that contradicts the ledger.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final, Protocol

from custody.errors import ConfigError, ConflictError, CustodyError, IntegrityError, UnavailableError
from custody.ports import Clock, Witness
from custody.publishing.history import History
from custody.tlog.note import MAX_SIGNATURES, Note, SignatureLine, VKey

__all__ = ["MonitoredWitness", "Submission", "WitnessPanel"]

_ATTEMPTS: Final = 3  # first guess, the size it states, once more if that moved meanwhile


class MonitoredWitness(Witness, Protocol):
    """A witness that also shows what it last cosigned (tlog-witness, Monitor Retrieval Mechanism)."""

    def latest(self, origin: str) -> bytes | None:
        """Return the checkpoint of a log that the witness last cosigned, or ``None`` where it has none. Raises
        ``IntegrityError`` and ``UnavailableError`` as ``add_checkpoint`` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class Submission:
    """A signed checkpoint to be cosigned.

    ``note`` bears the log's signature only; ``history`` is its tree; ``log_keys`` are those of this log; ``keys`` maps
    a witness's name to the keys that its policies give it; ``enough`` decides whether the keys that have cosigned do.
    """

    note: bytes
    history: History
    log_keys: Collection[VKey]
    keys: Mapping[str, Collection[VKey]]
    enough: Callable[[Collection[VKey]], bool]


@dataclass(slots=True)
class _Seat:
    """What we know of a witness. ``size`` is a guess until it has answered: a wrong one costs one more request."""

    size: int = 0
    times: dict[VKey, int] = field(default_factory=dict)
    busy: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of asking one witness: its lines by key, or why not; ``fatal`` where it proved a contradiction."""

    name: str
    lines: Mapping[VKey, bytes] = field(default_factory=dict)
    problem: str = ""
    fatal: CustodyError | None = None


class WitnessPanel:
    """The witnesses of one log. ``timeout`` in seconds bounds a round, ``skew`` in seconds a stated time."""

    def __init__(self, clock: Clock, timeout: float, skew: int) -> None:
        self._clock = clock
        self._timeout = timeout
        self._skew = skew
        self._seats: dict[str, _Seat] = {}
        self._lock = threading.Lock()
        self._proof: CustodyError | None = None
        self._cancelled = False
        self._waiting: frozenset[str] = frozenset()
        self._answers: SimpleQueue[_Answer | None] = SimpleQueue()

    def collect(self, witnesses: Iterable[MonitoredWitness], submission: Submission) -> Sequence[bytes]:
        """Return cosignature lines as soon as they are enough.

        Raises ``UnavailableError`` that names each witness which is missing and why; ``IntegrityError`` or
        ``ConfigError`` where a witness holds proof that this ledger was rolled back or forked.
        """
        if self._proof is not None:  # it came after an earlier round had enough without this witness
            raise self._proof
        answers: SimpleQueue[_Answer | None] = SimpleQueue()
        self._answers = answers
        if self._cancelled:
            raise UnavailableError("the log is stopping")
        deadline = monotonic() + self._timeout
        problems: dict[str, str] = {}
        pending: set[str] = set()
        for witness in witnesses:
            if submission.keys.get(witness.name) and self._start(witness, submission, answers):
                pending.add(witness.name)
            else:
                unknown = not submission.keys.get(witness.name)
                problems[witness.name] = (
                    "is not in the quorum of the policy" if unknown else "has not answered an earlier request"
                )
        lines: dict[VKey, bytes] = {}
        while not submission.enough(lines) and pending:
            self._waiting = frozenset(pending)
            try:
                answer = answers.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                break
            finally:
                self._waiting = frozenset()
            if answer is None:
                raise UnavailableError("the log is stopping")
            if answer.fatal is not None:
                raise answer.fatal
            pending.discard(answer.name)
            if answer.problem:
                problems[answer.name] = answer.problem
            lines.update(answer.lines)
        if submission.enough(lines):
            return list(lines.values())
        problems |= dict.fromkeys(pending, f"does not answer within {self._timeout:g} s")
        asked = problems.keys() | pending
        problems |= {
            name: "is not connected"
            for name, keys in submission.keys.items()
            if name not in asked and lines.keys().isdisjoint(keys)
        }
        missing = "; ".join(f"witness {name} {problem}" for name, problem in sorted(problems.items()))
        size = submission.history.size
        raise UnavailableError(f"no witness quorum for size {size}: {missing or 'too few witnesses'}")

    @property
    def waiting(self) -> Sequence[str]:
        """The names of the witnesses whose answers the round under way still lacks."""
        return sorted(self._waiting)

    def cancel(self) -> None:
        """Make the ``collect`` that is under way, and every later one, raise ``UnavailableError`` soon."""
        self._cancelled = True  # before the queue is looked up: whichever comes first, ``collect`` sees one of the two
        self._answers.put(None)

    def _start(self, witness: MonitoredWitness, submission: Submission, answers: SimpleQueue[_Answer | None]) -> bool:
        """Ask in a thread of its own, unless an earlier call to this witness still runs."""
        with self._lock:
            seat = self._seats.setdefault(witness.name, _Seat())
            if seat.busy:
                return False
            seat.busy = True
        # Daemon threads: a witness that never answers must not keep the process from ending.
        thread = threading.Thread(
            target=self._ask, args=(witness, seat, submission, answers), name=f"witness {witness.name}", daemon=True
        )
        thread.start()
        return True

    def _ask(
        self,
        witness: MonitoredWitness,
        seat: _Seat,
        submission: Submission,
        answers: SimpleQueue[_Answer | None],
    ) -> None:
        name = witness.name
        try:
            answer = _Answer(name, lines=self._converse(witness, seat, submission))
        except _ContradictionError as error:
            self._proof = error.proof
            answer = _Answer(name, fatal=error.proof)
        except CustodyError as error:
            answer = _Answer(name, problem=_problem(name, error.message))
        except Exception as error:  # noqa: BLE001 - a defect in one adapter costs that witness, not the log
            answer = _Answer(name, problem=f"fails: {type(error).__name__}")
        seat.busy = False
        answers.put(answer)

    def _converse(self, witness: MonitoredWitness, seat: _Seat, submission: Submission) -> Mapping[VKey, bytes]:
        """Submit, from the size that the witness is at."""
        size = submission.history.size
        for _ in range(_ATTEMPTS):
            old = min(seat.size, size)
            proof = _prove(submission.history, old)
            try:
                lines = witness.add_checkpoint(old, proof, submission.note)
            except ConflictError as error:
                stated = getattr(error, "size", None)
                if not isinstance(stated, int) or not 0 <= stated <= size or stated == old:
                    _suspect(witness, submission)
                    raise IntegrityError(f"claims to be at size {stated}, against {old} and {size}") from error
                seat.size = stated
            except IntegrityError:
                _suspect(witness, submission)
                raise
            else:
                verified = self._verified(lines, seat, submission.keys[witness.name], Note.parse(submission.note).text)
                seat.size = size
                return verified
        raise IntegrityError("changes the size it claims to be at with every request")

    def _verified(
        self, lines: Sequence[bytes], seat: _Seat, keys: Collection[VKey], text: bytes
    ) -> Mapping[VKey, bytes]:
        """Keep the lines by this witness's keys, each verified; lines by others are nobody's here."""
        known = {(vkey.name, vkey.key_id): vkey for vkey in keys}
        found: dict[VKey, bytes] = {}
        for line in lines[:MAX_SIGNATURES]:
            parsed = SignatureLine.parse(line.removesuffix(b"\n"))
            vkey = known.get((parsed.name, parsed.key_id))
            if vkey is None:
                continue
            time = vkey.verify(text, parsed.signature)
            now = self._clock()
            if time is None or abs(time - now) > self._skew:
                raise IntegrityError(f"states time {time}, our clock says {now}")
            if time < seat.times.get(vkey, 0):
                raise IntegrityError(f"states time {time}, earlier than its last one")
            seat.times[vkey] = time
            found[vkey] = parsed.encode()
        if not found:
            raise IntegrityError("answers without a cosignature of its key")
        return found


class _ContradictionError(Exception):
    """Carries the proof out of a witness's thread; it never leaves this module."""

    def __init__(self, proof: CustodyError) -> None:
        super().__init__(proof.message)
        self.proof = proof


def _prove(history: History, old: int) -> Sequence[bytes]:
    """Make the consistency proof. Tiles that do not lead to our root are our own trouble, not the witness's."""
    try:
        return history.consistency_proof(old)
    except IntegrityError as error:
        raise _ContradictionError(error) from error


def _suspect(witness: MonitoredWitness, submission: Submission) -> None:
    """After a refusal, look whether the witness holds a checkpoint that we signed and no longer know of.

    The refusal itself proves nothing: a witness may claim any size. This is how a ledger that was restored from an
    older copy together with its log store is found out.
    """
    note = witness.latest(submission.history.checkpoint.origin)
    if note is None:
        return
    try:
        submission.history.require_no_contradiction(note, submission.log_keys, f"witness {witness.name}")
    except (IntegrityError, ConfigError) as error:
        raise _ContradictionError(error) from error


def _problem(name: str, message: str) -> str:
    """Say what is wrong with a witness, after its name, which its own message may begin with."""
    told = message.removeprefix(f"witness {name} ")
    return told if told != message else f"fails: {message.removeprefix(f'witness {name}: ')}"
