"""Sealing: plaintext in, ciphertext and digest list out, segment by segment.

Each plaintext byte is read once and stays in one buffer: there its keyed digest is taken, and from there it is
encrypted into a second buffer, which is hashed and written. Memory is two segments a thread, whatever the size.

The list of segment digests is what a reader trusts. It is written beside the ciphertext and bound by the signed content
(design section 4); so somebody who keeps the file key cannot forge a segment for others.
"""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple

from custody.crypto.digests import DIGEST_SIZE, hasher, segment_digest
from custody.crypto.floe import OVERHEAD, Encryptor, Params
from custody.crypto.schedule import digest_key as derive_digest_key
from custody.crypto.schedule import file_key as derive_file_key
from custody.crypto.secret import SecretBytes
from custody.documents.content import File
from custody.errors import IntegrityError
from custody.segments.buffers import BufferPool
from custody.segments.lanes import run_lanes
from custody.segments.layout import FilePlan
from custody.segments.streams import Progress, Sink, Source, explained, ignore_progress, read_full, write_all
from custody.values import U64, check_path

__all__ = ["FileToSeal", "SealedFile", "seal_file", "seal_version"]

_DIGESTS_AT_ONCE: Final = 2048  # digests gathered for one write of 64 KiB: a store may charge for each


class SealedFile(NamedTuple):
    """What the content says of a stored file: BLAKE3 of its ciphertext and of its digest list, 64 hex digits each."""

    ciphertext: str
    digests: str


class FileToSeal(NamedTuple):
    """A file of the version to be: its path there, how to open it, its size in bytes."""

    path: str
    open: Callable[[], AbstractContextManager[Source]]
    size: int


def seal_file(
    source: Source,
    plan: FilePlan,
    *,
    file_key: SecretBytes,
    digest_key: SecretBytes,
    ciphertext: Sink,
    digests: Sink,
    rng: Callable[[int], bytes],
    progress: Progress = ignore_progress,
    threads: int = 2,
) -> SealedFile:
    """Seal one file: read ``plan.size`` bytes, write the FLOE ciphertext and the digest list.

    A file key encrypts one file, once: the caller derives it for a fresh vid. ``rng`` gives random bytes to any thread.
    Raises ``IntegrityError`` when the source is shorter or longer than planned, or its modification time moved while it
    was read; ``UnavailableError`` when it cannot be read or a sink is full. What was written until then is to be thrown
    away.
    """
    if threads < 1:
        raise ValueError("at least one thread")
    longest = min(plan.segment, plan.size)
    with ExitStack() as stack:
        encryptor = stack.enter_context(Encryptor(file_key, plan.aad, Params(plan.segment), rng))
        plain = stack.enter_context(BufferPool(longest))
        stored = stack.enter_context(BufferPool(longest + OVERHEAD))
        output = _Output(plan, ciphertext, digests, progress)
        output.header(encryptor.header)
        lanes = []
        for _ in range(min(threads, plan.count)):
            buffers = stack.enter_context(plain.take()), stack.enter_context(stored.take())
            lanes.append(_Lane(plan, source, encryptor, digest_key, output, *buffers))
        before = _state(source)
        run_lanes(plan.count, lanes)
        if read_full(source, memoryview(bytearray(1)), plan.path) or _state(source) != before:
            raise _changed(plan)
        return output.finish()


def seal_version(
    files: Sequence[FileToSeal],
    *,
    vid: bytes,
    version_key: SecretBytes,
    segment: int,
    writer: Callable[[str], AbstractContextManager[Sink]],
    rng: Callable[[int], bytes],
    progress: Progress = ignore_progress,
    threads: int = 2,
) -> tuple[File, ...]:
    """Seal all files of a version through ``writer`` (``Store.writer``); return them as the content lists them.

    ``vid`` is fresh, ``version_key`` the K derived with it. The manifest is the caller's to sign and write; without it
    nothing of the version is visible, whatever this leaves behind when it raises. Raises as ``seal_file``, and
    ``FormatError`` for a path that no content may have.
    """
    ordered = sorted(files, key=lambda file: file.path)
    if len({check_path(file.path) for file in ordered}) != len(ordered):
        raise ValueError("two files with one path")
    result = []
    for index, file in enumerate(ordered):
        plan = FilePlan(vid, index, file.size, segment, file.path)
        with ExitStack() as stack:
            with explained(file.path, "cannot be read"):
                source = stack.enter_context(file.open())
            sealed = seal_file(
                source,
                plan,
                file_key=stack.enter_context(derive_file_key(version_key, index)),
                digest_key=stack.enter_context(derive_digest_key(version_key, index)),
                ciphertext=stack.enter_context(writer(plan.ciphertext_key)),
                digests=stack.enter_context(writer(plan.digests_key)),
                rng=rng,
                progress=progress,
                threads=threads,
            )
        # Only here, behind the block, have the writers made both files durable.
        result.append(File(path=file.path, size=U64(file.size), ciphertext=sealed.ciphertext, digests=sealed.digests))
    return tuple(result)


class _Output:
    """The two files being written, in order, and their digests."""

    def __init__(self, plan: FilePlan, ciphertext: Sink, digests: Sink, progress: Progress) -> None:
        self._path = plan.path
        self._ciphertext = ciphertext
        self._digests = digests
        self._progress = progress
        self._ciphertext_hash = hasher()
        self._digests_hash = hasher()
        self._gathered = bytearray()

    def header(self, header: bytes) -> None:
        self._ciphertext_hash.update(header)
        write_all(self._ciphertext, memoryview(header), self._path)

    def segment(self, stored: memoryview, digest: bytes) -> None:
        self._ciphertext_hash.update(stored)
        write_all(self._ciphertext, stored, self._path)
        self._gathered += digest
        if len(self._gathered) == _DIGESTS_AT_ONCE * DIGEST_SIZE:
            self._flush()
        self._progress(len(stored) - OVERHEAD)

    def finish(self) -> SealedFile:
        self._flush()
        return SealedFile(self._ciphertext_hash.hexdigest(), self._digests_hash.hexdigest())

    def _flush(self) -> None:
        self._digests_hash.update(self._gathered)
        write_all(self._digests, memoryview(self._gathered), self._path)
        self._gathered = bytearray()


@dataclass(slots=True)
class _Lane:
    """One thread's part: its two buffers, and the digest of the segment it is at."""

    plan: FilePlan
    source: Source
    encryptor: Encryptor
    digest_key: SecretBytes
    output: _Output
    plain: memoryview
    stored: memoryview
    digest: bytes = b""

    def take(self, i: int, /) -> None:
        length = self.plan.locate(i).length
        if read_full(self.source, self.plain[:length], self.plan.path) != length:
            raise _changed(self.plan)

    def work(self, i: int, /) -> None:
        where = self.plan.locate(i)
        plaintext = self.plain[: where.length]
        self.digest = segment_digest(self.digest_key, i, plaintext)
        self.encryptor.encrypt_into(i, where.is_final, plaintext, self.stored)

    def give(self, i: int, /) -> None:
        self.output.segment(self.stored[: self.plan.locate(i).stored_length], self.digest)


def _state(source: Source) -> tuple[int, int] | None:
    """Size and modification time of a regular file; None for what has none."""
    try:
        info = os.fstat(source.fileno())  # type: ignore[attr-defined]  # a network stream has no such method
    except (AttributeError, OSError):
        return None
    return (info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None


def _changed(plan: FilePlan) -> IntegrityError:
    hint = f"seal it when nothing writes to it; {plan.size} bytes were expected"
    return IntegrityError(f"{plan.path}: changed while it was read", hint=hint)
