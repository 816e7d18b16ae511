"""Scrubbing: has the store kept what was sealed? Needs no key, only the signed content."""

from collections.abc import Iterator

from custody.crypto.digests import check_digest
from custody.documents.content import File
from custody.errors import IntegrityError
from custody.segments.buffers import BufferPool
from custody.segments.layout import FilePlan
from custody.segments.streams import Progress, Reader, ignore_progress

__all__ = ["check_stored"]

_CHUNK = 1 << 20


def check_stored(
    plan: FilePlan, file: File, ciphertext: Reader, digests: Reader, *, progress: Progress = ignore_progress
) -> None:
    """Require that both blobs of a file are byte for byte what the content names. ``progress`` counts stored bytes.

    Raises ``IntegrityError`` naming the file and the blob. It says nothing of whether the segments decrypt: that is the
    sealer's word, checked by those who open them.
    """
    for what, reader, size, expected in (
        ("digest list", digests, plan.digests_size, file.digests),
        ("ciphertext", ciphertext, plan.stored_size, file.ciphertext),
    ):
        if reader.size != size:
            raise IntegrityError(f"{plan.path}: {what} of {reader.size} bytes instead of {size}")
        with BufferPool(_CHUNK) as pool, pool.take() as buffer:
            check_digest(_chunks(reader, buffer, progress), bytes.fromhex(expected), f"{plan.path}: {what}")


def _chunks(reader: Reader, buffer: memoryview, progress: Progress) -> Iterator[memoryview]:
    for offset in range(0, reader.size, len(buffer)):
        piece = buffer[: reader.size - offset]
        reader.read_into(offset, piece)
        yield piece
        progress(len(piece))
