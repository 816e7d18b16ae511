"""One request to a witness: compare with the record, sign, persist, and only then answer (tlog-witness)."""

from collections.abc import Callable, Iterable

from custody.errors import ConfigError, FormatError, UnavailableError
from custody.tlog.note import COSIGNATURE, ED25519, Note, NoteSigner, SignatureLine, VKey
from custody.tlog.witness_protocol import AddCheckpoint, Refused, origin_of, update
from custody.witness.state import CheckpointStore, origin_hash

__all__ = ["Cosigner"]

_BAD_REQUEST = 400
_NOT_FOUND = 404


class Cosigner:
    """A witness without its HTTP. Safe for many threads.

    ``clock`` returns POSIX seconds. ``logs`` are the keys of the logs it follows, several for one origin while a log
    changes its key.
    """

    def __init__(
        self, signer: NoteSigner, logs: Iterable[VKey], store: CheckpointStore, clock: Callable[[], int]
    ) -> None:
        """Take the key (type 0x04) and the logs (type 0x01). ``ConfigError`` for keys of other types."""
        self._signer = signer
        self._logs = tuple(logs)
        self._store = store
        self._clock = clock
        if signer.vkey.type != COSIGNATURE or any(log.type != ED25519 for log in self._logs):
            raise ConfigError("a witness signs with a key of type 0x04 and follows logs with keys of type 0x01")
        self._origins = {origin_hash(log.name): log.name for log in self._logs}

    @property
    def origins(self) -> tuple[str, ...]:
        """The logs that it follows."""
        return tuple(self._origins.values())

    @property
    def failed(self) -> str | None:
        """Why it signs nothing any more, or ``None``."""
        return self._store.failed

    def latest(self, name: str) -> bytes | None:
        """Return the last cosigned checkpoint of a followed log, named by the hex SHA-256 of its origin."""
        origin = self._origins.get(name)
        return None if origin is None else self._store.latest(origin)

    def add_checkpoint(self, body: bytes) -> bytes | Refused:
        """Answer an add-checkpoint request: our cosignature line, or why not.

        Raises ``UnavailableError`` where the record can't be stored or the clock can't be right: nothing is signed.
        """
        try:
            request = AddCheckpoint.parse(body)
            origin = origin_of(request)
        except FormatError as error:
            return Refused(_BAD_REQUEST, error.message)
        if origin_hash(origin) not in self._origins:
            return Refused(_NOT_FOUND, "unknown log")
        with self._store.slot(origin) as slot:
            decision = update(slot.state, request, self._logs)
            if isinstance(decision, Refused):
                return decision
            time = self._clock()
            if time <= 0 or (slot.time is not None and time < slot.time):
                raise UnavailableError("the clock of the witness is behind its last cosignature")
            text = decision.checkpoint.encode()
            line = self._signer.sign(text, time)
            ours = SignatureLine.parse(line[:-1])
            slot.replace(Note(text, (*decision.log_lines, ours)).encode(), decision.checkpoint, time)
        return line
