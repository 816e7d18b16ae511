"""The broker's side of a keeper: the process with the file keys of one lease in direct mode. See ``keeper_child``."""

import os
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

import msgspec

from custody.broker.keeper_child import Kept, Sealed, SealJob
from custody.broker.opener_child import Answer, read_frame, write_frame
from custody.broker.processes import descriptors, spawn
from custody.errors import FormatError, UnavailableError

__all__ = ["Keeper"]

_MODULE: Final = "custody.broker.keeper_child"
_TIMEOUT: Final = 30


class Keeper:
    """Seals file keys to jobs, and never shows them. One caller at a time is served; any thread may call.

    ``entrance`` is the descriptor into which an opener writes the keys; it is closed by ``take``.
    """

    def __init__(self) -> None:
        end, self.entrance = os.pipe()
        try:
            self._process = spawn(_MODULE, str(end), pass_fds=(end,))
        except UnavailableError:
            os.close(self.entrance)
            raise
        finally:
            os.close(end)
        self._lock = threading.Lock()

    def take(self, files: Sequence[int]) -> Self:
        """Wait until the keys of these files have come through the entrance. Raises ``UnavailableError``."""
        self._shut()
        answer = self._exchange(msgspec.json.encode(Kept(tuple(files))))
        if not msgspec.json.decode(answer, type=Answer).ok:
            raise AssertionError
        return self

    def seal(self, xwing: bytes, request: bytes, intent: bytes, files: Sequence[int]) -> dict[int, bytes]:
        """Seal the keys of ``files`` to a job for one session. ``xwing`` has been checked; digests are 32 bytes.

        Raises ``UnavailableError`` when the process has died, and the keys with it.
        """
        job = SealJob(xwing, request, intent, tuple(files))
        sealed = msgspec.json.decode(self._exchange(msgspec.json.encode(job)), type=Sealed)
        if sealed.error:
            raise FormatError(sealed.error)
        return dict(zip(files, sealed.sealed, strict=True))

    def close(self) -> None:
        """End the process at once; the kernel clears its memory. A second call does nothing."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a stop waits for nothing that the kernel has not done by then
            self._process.wait(timeout=_TIMEOUT)
        self._shut()
        with self._lock:  # whoever is being served sees the end of the pipe first
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    pipe.close()

    def _shut(self) -> None:
        entrance, self.entrance = self.entrance, -1
        if entrance >= 0:
            os.close(entrance)

    def _exchange(self, message: bytes) -> bytes:
        with self._lock:
            # A process that hangs is killed; its reader then sees the end of the pipe.
            timer = threading.Timer(_TIMEOUT, self._process.kill)
            timer.daemon = True
            timer.start()
            try:
                into, out = descriptors(self._process)
                write_frame(into, message)
                return read_frame(out)
            except (OSError, FormatError, ValueError):  # ValueError: the pipes of a closed one
                text = "the process that keeps the lease's keys has ended"
                raise UnavailableError(text, hint="try again in a moment") from None
            finally:
                timer.cancel()
