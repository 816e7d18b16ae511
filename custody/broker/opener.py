"""The broker's side of the opener process: start it, keep one warm, hand it one job, take the keys.

See ``opener_child`` for what it does and the bytes between the two.
"""

import os
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from custody.broker.keeper import Keeper
from custody.broker.opener_child import Answer, Job, read_frame, write_frame
from custody.broker.processes import descriptors, spawn
from custody.crypto.hpke import SEED_SIZE
from custody.crypto.secret import SecretBytes
from custody.documents.sharing import Slot
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError, UnavailableError

__all__ = ["BadShareError", "FileKeys", "Opener"]

_MODULE: Final = "custody.broker.opener_child"
_TIMEOUT: Final = 30
_ERRORS: Final = {kind.__name__: kind for kind in (FormatError, IntegrityError, DeniedError)}


class BadShareError(IntegrityError):
    """A share is not the one its slot committed to. ``slot`` is whose."""

    def __init__(self, message: str, slot: Slot) -> None:
        super().__init__(message)
        self.slot = slot


@dataclass(frozen=True, slots=True)
class FileKeys:
    """The two keys of one file, 32 bytes each."""

    file_key: SecretBytes
    digest_key: SecretBytes

    def close(self) -> None:
        """Wipe both."""
        self.file_key.close()
        self.digest_key.close()


class Opener:
    """Runs jobs in fresh processes. One process waits started, since starting Python takes longer than opening."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: subprocess.Popen[bytes] | None = spawn(_MODULE)

    def keygen(self) -> tuple[SecretBytes, bytes]:
        """Return a fresh release-key seed and its public key (1,216 bytes)."""
        with self._process() as process:
            answer = _exchange(process, Job(do="keygen"), None)
            return SecretBytes.read_from(descriptors(process)[1], SEED_SIZE), answer.public

    def open(self, job: Job, seed: SecretBytes) -> dict[int, FileKeys]:
        """Rebuild the key of ``job`` and return the keys of its files by index; the caller closes them.

        Raises ``BadShareError`` naming the slot, ``IntegrityError`` and ``DeniedError`` as ``rebuild`` does,
        ``UnavailableError`` when the process died.
        """
        with self._process() as process:
            _exchange(process, job, seed)
            return _read_keys(process, job.files)

    def open_kept(self, job: Job, seed: SecretBytes) -> Keeper:
        """Rebuild the key of ``job`` into a process that keeps the keys of its files; the caller closes it.

        Not in the process that waits: the pipe between the two must be there when an opener is started. Raises what
        ``open`` raises.
        """
        keeper = Keeper()
        try:
            process = spawn(_MODULE, str(keeper.entrance), pass_fds=(keeper.entrance,))
            with _Running(process, self) as process:
                _exchange(process, job, seed)
                return keeper.take(job.files)
        except BaseException:
            keeper.close()
            raise

    def close(self) -> None:
        """Stop the process that waits."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare:
            _end(spare)

    def _process(self) -> "_Running":
        with self._lock:
            process, self._spare = self._spare, None
        if process is None or process.poll() is not None:
            process = spawn(_MODULE)
        return _Running(process, self)

    def replenish(self) -> None:
        """Start the next process that waits. Where that fails, whoever needs one tries again and is told."""
        with self._lock, suppress(UnavailableError):
            if self._spare is None:
                self._spare = spawn(_MODULE)


class _Running:
    """One process, ended when the block ends, whatever happened."""

    def __init__(self, process: "subprocess.Popen[bytes]", opener: Opener) -> None:
        self._process = process
        self._opener = opener
        # A process that hangs is killed; its reader then sees the end of the pipe.
        self._timer = threading.Timer(_TIMEOUT, process.kill)

    def __enter__(self) -> "subprocess.Popen[bytes]":
        self._timer.daemon = True
        self._timer.start()
        return self._process

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _end(self._process)
        self._opener.replenish()


def _exchange(process: "subprocess.Popen[bytes]", job: Job, seed: SecretBytes | None) -> Answer:
    into, out = descriptors(process)
    try:
        write_frame(into, msgspec.json.encode(job))
        if seed is not None:
            os.write(into, seed.view)
        answer = msgspec.json.decode(read_frame(out), type=Answer)
    except (OSError, FormatError, msgspec.MsgspecError):
        message = "the opener process ended without an answer"
        raise UnavailableError(message, hint="see the broker's log; try again") from None
    if not answer.ok:
        if answer.slot:
            raise BadShareError(answer.message, Slot(group=answer.slot[0], index=answer.slot[1]))
        raise _ERRORS.get(answer.error, CustodyError)(answer.message)
    return answer


def _read_keys(process: "subprocess.Popen[bytes]", files: Sequence[int]) -> dict[int, FileKeys]:
    fd = descriptors(process)[1]
    keys: dict[int, FileKeys] = {}
    try:
        for file in files:
            keys[file] = FileKeys(SecretBytes.read_from(fd, 32), SecretBytes.read_from(fd, 32))
    except (OSError, FormatError):
        for pair in keys.values():
            pair.close()
        message = "the opener process ended in the middle of its answer"
        raise UnavailableError(message) from None
    return keys


def _end(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
