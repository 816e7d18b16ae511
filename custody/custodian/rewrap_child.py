"""Re-wraps a custodian's share, in a process that does this one thing and ends.

The share is in the clear only here: HPKE returns it as ``bytes``, which linger in a process's memory, so it must not be
a process that lives on. It is exec'd, not forked, and inherits no memory. One exchange on standard input and output::

    in    u32 length || Job || X-Wing seed of the custodian's device (32)
    out   u32 length || Answer

Before the share is sealed to anybody it is compared with the commitment of its slot: a share that is not the one the
sealer dealt leaves nothing but an error behind. Nothing secret is in the answer.
"""

import hmac
import os
import struct
from typing import Final

import msgspec

from custody.crypto import hpke
from custody.crypto.secret import SecretBytes, harden_process
from custody.crypto.sharing import share_commitment
from custody.errors import CustodyError, FormatError, IntegrityError

__all__ = ["MAX_FRAME", "Answer", "Job", "Target", "main", "read_exactly", "rewrap", "write_all"]

MAX_FRAME: Final = 1 << 20
_LENGTH: Final = struct.Struct(">I")
_SHARE: Final = 32


class Target(msgspec.Struct, frozen=True):
    """Whom to wrap the share to: an X-Wing public key, and the HPKE info that says for what."""

    xwing: bytes
    info: bytes


class Job(msgspec.Struct, frozen=True):
    """A wrapped share of slot (``group``, ``index``), how it was wrapped, what it must be, and for whom it is now."""

    vid: bytes
    group: int
    index: int
    commitment: bytes
    info: bytes
    wrapped: bytes
    targets: tuple[Target, ...]


class Answer(msgspec.Struct, frozen=True):
    """The share wrapped to each target, in order; or what was wrong: the class of the error and its line."""

    wrapped: tuple[bytes, ...] = ()
    error: str = ""
    message: str = ""


def rewrap(job: Job, seed: SecretBytes) -> tuple[bytes, ...]:
    """Open the share, require that it is the committed one, and seal it to every target.

    Raises ``IntegrityError`` for a wrap of another slot, sharing or device, and for a share that is not the committed
    one; ``FormatError`` for a target key that is none.
    """
    with SecretBytes(_SHARE) as y:
        try:
            hpke.open_into(seed, job.info, job.wrapped, y)
        except CustodyError:
            raise IntegrityError(
                "your wrapped share does not open: it was made for another slot, sharing or device, or altered"
            ) from None
        stated = share_commitment(job.vid, job.group, job.index, y.view)
        if not hmac.compare_digest(stated, job.commitment):
            raise IntegrityError(
                f"your share of slot {job.group}/{job.index} is not the one that the sealer committed to"
            )
        return tuple(hpke.seal(target.xwing, target.info, y.view) for target in job.targets)


def main() -> int:
    """Serve one exchange."""
    harden_process()
    try:
        (length,) = _LENGTH.unpack(read_exactly(0, _LENGTH.size))
        if length > MAX_FRAME:
            return 1
        job = msgspec.json.decode(read_exactly(0, length), type=Job)
        with SecretBytes.read_from(0, hpke.SEED_SIZE) as seed:
            answer = Answer(wrapped=rewrap(job, seed))
    except CustodyError as error:
        answer = Answer(error=type(error).__name__, message=error.message)
    data = msgspec.json.encode(answer)
    write_all(1, _LENGTH.pack(len(data)) + data)
    return 0


def read_exactly(fd: int, size: int) -> bytes:
    """Read ``size`` bytes that are not secret. ``FormatError`` where the other end closes before."""
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            raise FormatError("the other end closed the pipe")
        data += piece
    return bytes(data)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    os._exit(main())  # at once: the kernel clears what is left, and nobody waits for Python to take itself apart
