"""The keeper: a process that holds the file keys of one lease in direct mode, and gives them out sealed only.

A fleet opens many sessions of a lease, each with a key of its own to seal to, so somebody must keep the file keys while
the lease is open. That is this process and no other: the opener writes them into a pipe which ends here, the broker
gets sealed blobs, and sealing, which leaves copies in a library's memory, leaves them where the kernel clears them when
the lease ends. The process is exec'd and hardened before it is given a key. Its one argument is the number of the
pipe's descriptor. Standard input and output, in order::

    from the opener's pipe:  for each file of the lease, as in the job: file key (32) || digest key (32)
    in    u32 length || {"files": [j, ...]}                  which files they are of
    out   u32 length || {"ok": true}                         they are here
    then, again and again:
    in    u32 length || SealJob
    out   u32 length || Sealed                               for each file: HPKE of file key || digest key

Lengths are big-endian. The end of standard input is the end of the process.
"""

import os
import sys
from typing import Final

import msgspec

from custody.broker.opener_child import Answer, read_frame, write_frame
from custody.crypto import hpke
from custody.crypto.secret import SecretBytes, harden_process
from custody.errors import CustodyError, FormatError

__all__ = ["KEYS", "Kept", "SealJob", "Sealed", "main"]

KEYS: Final = 64
"""Bytes of a file key and a digest key together."""


class Kept(msgspec.Struct, frozen=True):
    """The files whose keys come through the pipe, in its order."""

    files: tuple[int, ...]


class SealJob(msgspec.Struct, frozen=True):
    """For whom to seal, and what for: the job's X-Wing key, the request, the leaf hash of the witnessed intent."""

    xwing: bytes
    request: bytes
    intent: bytes
    files: tuple[int, ...]


class Sealed(msgspec.Struct, frozen=True):
    """The sealed keys, in the order of the files asked for; none, and why, where it went wrong."""

    sealed: tuple[bytes, ...] = ()
    error: str = ""


def main() -> int:
    """Serve one lease until standard input ends."""
    harden_process()
    try:
        kept = msgspec.json.decode(read_frame(0), type=Kept)
        pipe = int(sys.argv[1])
        keys = {file: SecretBytes.read_from(pipe, KEYS) for file in kept.files}
    except FormatError:
        return 0  # the opener found no key, or the broker has gone
    write_frame(1, msgspec.json.encode(Answer(ok=True)))
    try:
        while True:
            job = msgspec.json.decode(read_frame(0), type=SealJob)
            write_frame(1, msgspec.json.encode(_seal(job, keys)))
    except FormatError:
        return 0  # the lease is over
    finally:
        for key in keys.values():
            key.close()


def _seal(job: SealJob, keys: dict[int, SecretBytes]) -> Sealed:
    try:
        return Sealed(
            sealed=tuple(
                hpke.seal(job.xwing, hpke.direct_info(job.request, job.intent, file), keys[file].view)
                for file in job.files
            )
        )
    except CustodyError as error:
        return Sealed(error=error.message)


if __name__ == "__main__":
    os._exit(main())  # at once: the kernel clears what is left, and nobody waits for Python to take itself apart
