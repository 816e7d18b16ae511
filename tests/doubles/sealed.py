"""A sealed file in memory, to be opened, or attacked."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field

from custody.crypto.secret import SecretBytes
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile
from custody.segments.seal import SealedFile, seal_file
from tests.doubles.store import LongBlob, MemoryBlob

__all__ = ["SEGMENT", "Sealed", "key", "plaintext", "seal"]

SEGMENT = 4096


def key(name: str) -> SecretBytes:
    """A key of 32 bytes made from a name."""
    return SecretBytes.take(bytearray(hashlib.sha256(name.encode()).digest()))


def plaintext(size: int) -> bytes:
    """Bytes of which no two segments are equal."""
    return hashlib.shake_256(b"plaintext").digest(size)


@dataclass
class Sealed:
    """What lies in the store (mutable, to be tampered with), and what the signed content says of it."""

    plan: FilePlan
    file_key: SecretBytes
    digest_key: SecretBytes
    content: SealedFile
    ciphertext: bytearray
    digests: bytearray
    blob: LongBlob = field(init=False)

    def open(self, fetch: int = 0) -> OpenFile:
        self.blob = LongBlob(self.ciphertext)
        return OpenFile.open(
            self.plan,
            expected=self.content.digests,
            file_key=self.file_key,
            digest_key=self.digest_key,
            ciphertext=self.blob,
            digests=MemoryBlob(self.digests),
            fetch=fetch,
        )

    def read(self, *, threads: int = 1, fetch: int = 0) -> bytes:
        out = bytearray(self.plan.size)
        with self.open(fetch) as file:
            file.read_into(0, memoryview(out), threads=threads)
        return bytes(out)

    def segment(self, i: int) -> slice:
        """Where segment ``i`` lies in the ciphertext."""
        where = self.plan.locate(i)
        return slice(where.stored_offset, where.stored_offset + where.stored_length)


def seal(
    data: bytes,
    rng: Callable[[int], bytes],
    *,
    index: int = 0,
    vid: bytes = b"v" * 32,
    keys: str = "keys",
    threads: int = 1,
    segment: int = SEGMENT,
) -> Sealed:
    """Seal ``data`` as file ``index`` of a version."""
    plan = FilePlan(vid, index, len(data), segment, f"weights/{index}.bin")
    file_key, digest_key = key(f"{keys} file {index}"), key(f"{keys} digest {index}")
    ciphertext, digests = io.BytesIO(), io.BytesIO()
    content = seal_file(
        io.BytesIO(data),
        plan,
        file_key=file_key,
        digest_key=digest_key,
        ciphertext=ciphertext,
        digests=digests,
        rng=rng,
        threads=threads,
    )
    return Sealed(plan, file_key, digest_key, content, bytearray(ciphertext.getvalue()), bytearray(digests.getvalue()))
