"""The opener: a short-lived process in which a key is rebuilt, and which then ends.

Libraries that open shares return them as ``bytes``, which linger in a process's memory; this process does one thing
and exits, and the kernel clears its pages. It is exec'd, not forked, so it inherits no memory. It talks over standard
input and output, one exchange::

    keygen:   in   u32 length || {"do": "keygen"}
              out  u32 length || {"ok": true, "public": hex} || release-key seed (32)
    open:     in   u32 length || Job || release-key seed (32)
              out  u32 length || {"ok": true} || for each file of the job: file key (32) || digest key (32)
    into a pipe: the same, with the keys written to the descriptor that the one argument names (``keeper_child``)
    failure:  out  u32 length || {"ok": false, "error": class, "message": text, "slot": [g, i] or null}

Lengths are big-endian. Secrets stand outside the JSON and go straight into ``SecretBytes``.
"""

import hashlib
import os
import struct
import sys
from typing import Final, Literal

import msgspec

from custody.crypto import hpke
from custody.crypto.rebuild import Target, rebuild
from custody.crypto.schedule import digest_key, file_key
from custody.crypto.secret import SecretBytes, harden_process
from custody.crypto.sharing import Group, Share, share_commitment
from custody.crypto.sodium import random_into
from custody.errors import CustodyError, FormatError, IntegrityError

__all__ = ["Answer", "Job", "JobShare", "main", "read_frame", "write_frame"]

_LENGTH: Final = struct.Struct(">I")
_MAX_FRAME: Final = 64 << 20
_SHARE: Final = 32


class JobShare(msgspec.Struct, frozen=True):
    """One wrapped share, SHA-256 of the one that its custodian signed, and the HPKE info it was wrapped with."""

    group: int
    index: int
    info: bytes
    wrapped: bytes
    signed: bytes


class Job(msgspec.Struct, frozen=True):
    """What to open, all of it public but worthless without the seed."""

    do: Literal["keygen", "open"]
    deployment: str = ""
    version: str = ""
    vid: bytes = b""
    key_commit: bytes = b""
    groups: tuple[tuple[int, int], ...] = ()
    commitments: tuple[tuple[int, int, bytes], ...] = ()
    shares: tuple[JobShare, ...] = ()
    files: tuple[int, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """How it went."""

    ok: bool
    public: bytes = b""
    error: str = ""
    message: str = ""
    slot: tuple[int, int] | None = None


def read_frame(fd: int) -> bytes:
    """Read one length-prefixed frame. Raises ``FormatError`` at end of file or for a frame too long."""
    (length,) = _LENGTH.unpack(_read(fd, _LENGTH.size))
    if length > _MAX_FRAME:
        message = f"opener: a frame of {length} bytes"
        raise FormatError(message)
    return _read(fd, length)


def write_frame(fd: int, data: bytes) -> None:
    """Write one length-prefixed frame."""
    _write(fd, _LENGTH.pack(len(data)) + data)


def main() -> int:
    """Serve one exchange on standard input and output."""
    harden_process()
    try:
        job = msgspec.json.decode(read_frame(0), type=Job)
    except FormatError:
        return 0  # the broker ended before it had a job
    try:
        if job.do == "keygen":
            with SecretBytes.random(hpke.SEED_SIZE, random_into) as seed:
                write_frame(1, msgspec.json.encode(Answer(ok=True, public=hpke.public_key(seed))))
                _write(1, seed.view)
            return 0
        with SecretBytes.read_from(0, hpke.SEED_SIZE) as seed:
            _open(job, seed)
    except CustodyError as error:
        slot = getattr(error, "slot", None)
        write_frame(
            1,
            msgspec.json.encode(Answer(ok=False, error=type(error).__name__, message=error.message, slot=slot)),
        )
        return 1
    return 0


def _open(job: Job, seed: SecretBytes) -> None:
    target = Target(
        job.deployment,
        job.version,
        job.vid,
        job.key_commit,
        tuple(Group(threshold, size) for threshold, size in job.groups),
        {(g, i): commitment for g, i, commitment in job.commitments},
    )
    for item in job.shares:
        # Anybody can wrap a share to the release key: one exchanged in the ledger is not its custodian's fault.
        if hashlib.sha256(item.wrapped).digest() != item.signed:
            message = f"share of slot {item.group}/{item.index}: the ledger does not hold the one that was signed"
            raise IntegrityError(message)
    shares: list[Share] = []
    try:
        for item in job.shares:
            y = SecretBytes(_SHARE)
            shares.append(Share(item.group, item.index, y))
            try:
                hpke.open_into(seed, item.info, item.wrapped, y)
            except CustodyError as error:
                message = f"share of slot {item.group}/{item.index}: {error.message}"
                raise _named(IntegrityError(message), item.group, item.index) from None
        _check_each(target, shares)
        with rebuild(target, shares) as key:
            write_frame(1, msgspec.json.encode(Answer(ok=True)))
            out = int(sys.argv[1]) if sys.argv[1:] else 1
            for file in job.files:
                with file_key(key, file) as secret, digest_key(key, file) as check:
                    _write(out, secret.view)
                    _write(out, check.view)
    finally:
        for share in shares:
            share.value.close()


def _check_each(target: Target, shares: list[Share]) -> None:
    """Name the slot of a share that is not the one committed to, so that its custodian can be told."""
    for group, index, y in shares:
        if share_commitment(target.vid, group, index, y.view) != target.commitments.get((group, index)):
            message = f"share of slot {group}/{index}: does not match its commitment"
            raise _named(IntegrityError(message), group, index)


def _named(error: CustodyError, group: int, index: int) -> CustodyError:
    error.slot = (group, index)  # type: ignore[attr-defined]  # crosses the process boundary in Answer.slot
    return error


def _read(fd: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            message = "opener: the other end closed the pipe"
            raise FormatError(message)
        data += piece
    return bytes(data)


def _write(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    os._exit(main())  # at once: the kernel clears what is left, and nobody waits for Python to take itself apart
