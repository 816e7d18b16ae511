"""One file on its way through sealing: plaintext in at one end; at the other its ciphertext and its digest list.

::

    read (in order) -> encrypt (any thread, any order) -> tally (in order) -> write (in order)

The caller owns the buffers, the threads and the order (``custody.segments.lanes``).
"""

import os
import stat
from typing import Final, NamedTuple

from custody.crypto.digests import DIGEST_SIZE, hasher, segment_digest
from custody.crypto.floe import OVERHEAD, Encryptor
from custody.crypto.secret import SecretBytes
from custody.errors import IntegrityError
from custody.segments.layout import FilePlan
from custody.segments.streams import Sink, Source, read_full, write_all

__all__ = ["SealedFile", "SealingFile"]

_DIGESTS_AT_ONCE: Final = 2048  # digests gathered for one write of 64 KiB: a store may charge for each


class SealedFile(NamedTuple):
    """What the content says of a stored file: BLAKE3 of its ciphertext and of its digest list, 64 hex digits each."""

    ciphertext: str
    digests: str


class SealingFile:
    """A file under way. Made by whoever reads its first segment."""

    def __init__(  # noqa: PLR0917 - from source to sinks
        self,
        plan: FilePlan,
        source: Source,
        encryptor: Encryptor,
        digest_key: SecretBytes,
        ciphertext: Sink,
        digests: Sink,
    ) -> None:
        self.plan: Final = plan
        self._source = source
        self._encryptor = encryptor
        self._digest_key = digest_key
        self._ciphertext = ciphertext
        self._digests = digests
        self._ciphertext_hash = hasher()
        self._digests_hash = hasher()
        self._gathered = bytearray()
        self._before = _state(source)
        self._ciphertext_hash.update(encryptor.header)
        write_all(ciphertext, memoryview(encryptor.header), plan.path)

    def read(self, i: int, plain: memoryview) -> None:
        """Read segment ``i``. With the last one ``IntegrityError`` where the source has changed since the first.

        A change that comes later is not in what was read, so it is nothing to us.
        """
        length = self.plan.locate(i).length
        if read_full(self._source, plain[:length], self.plan.path) != length:
            raise self._changed()
        if i == self.plan.count - 1 and (
            read_full(self._source, memoryview(bytearray(1)), self.plan.path) or _state(self._source) != self._before
        ):
            raise self._changed()

    def encrypt(self, i: int, plain: memoryview, stored: memoryview) -> bytes:
        """Encrypt segment ``i`` from one buffer into the other; return the digest of its plaintext."""
        where = self.plan.locate(i)
        plaintext = plain[: where.length]
        digest = segment_digest(self._digest_key, i, plaintext)
        self._encryptor.encrypt_into(i, where.is_final, plaintext, stored)
        return digest

    def tally(self, i: int, stored: memoryview) -> None:
        """Take segment ``i`` into the digest of the ciphertext."""
        self._ciphertext_hash.update(stored[: self.plan.locate(i).stored_length])

    def write(self, i: int, stored: memoryview, digest: bytes) -> int:
        """Write segment ``i`` and note its digest; return how many bytes of plaintext it holds."""
        where = self.plan.locate(i)
        write_all(self._ciphertext, stored[: where.stored_length], self.plan.path)
        self._gathered += digest
        if len(self._gathered) == _DIGESTS_AT_ONCE * DIGEST_SIZE:
            self._flush()
        return where.stored_length - OVERHEAD

    def finish(self) -> SealedFile:
        """Write what is left of the digest list, when all segments are written."""
        self._flush()
        return SealedFile(self._ciphertext_hash.hexdigest(), self._digests_hash.hexdigest())

    def _flush(self) -> None:
        self._digests_hash.update(self._gathered)
        write_all(self._digests, memoryview(self._gathered), self.plan.path)
        self._gathered = bytearray()

    def _changed(self) -> IntegrityError:
        hint = f"seal it when nothing writes to it; {self.plan.size} bytes were expected"
        return IntegrityError(f"{self.plan.path}: changed while it was read", hint=hint)


def _state(source: Source) -> tuple[int, int] | None:
    """Size and modification time of a regular file; None for what has none."""
    try:
        info = os.fstat(source.fileno())  # type: ignore[attr-defined]  # a network stream has no such method
    except (AttributeError, OSError):
        return None
    return (info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None
