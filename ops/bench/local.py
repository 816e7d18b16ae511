"""Sealing, opening and partial opening on this machine, without a broker: the pipelines, and what else there is."""

import ctypes
import hashlib
import io
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from custody.adapters.local_files import LocalBlob
from custody.crypto.secret import SecretBytes
from custody.segments.buffers import huge_buffer
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile
from custody.segments.seal import SealedFile, seal_file
from ops.bench.peers import Peers
from ops.bench.rows import Row, measure

__all__ = ["measure_local"]


def _key(name: bytes) -> SecretBytes:
    return SecretBytes.take(bytearray(hashlib.sha256(name).digest()))


class _Model:
    """One file of random bytes, sealed into a folder."""

    def __init__(self, source: Path, folder: Path, segment: int) -> None:
        self.source, self.folder = source, folder
        self.plan = FilePlan(b"v" * 32, 0, source.stat().st_size, segment, source.name)
        self.sealed: SealedFile | None = None

    def seal(self) -> None:
        with (
            self.source.open("rb", buffering=0) as source,
            (self.folder / "0.floe").open("wb", buffering=0) as ciphertext,
            (self.folder / "0.digests").open("wb", buffering=0) as digests,
        ):
            self.sealed = seal_file(
                source,
                self.plan,
                file_key=_key(b"file"),
                digest_key=_key(b"digest"),
                ciphertext=ciphertext,
                digests=digests,
                rng=os.urandom,
            )

    def open(self, offset: int, length: int, threads: int = 2) -> memoryview:
        if self.sealed is None:
            raise ValueError("not sealed yet")
        out = huge_buffer(length)
        blobs = [LocalBlob(os.open(self.folder / name, os.O_RDONLY), name) for name in ("0.floe", "0.digests")]
        try:
            with OpenFile.open(
                self.plan,
                expected=self.sealed.digests,
                file_key=_key(b"file"),
                digest_key=_key(b"digest"),
                ciphertext=blobs[0],
                digests=blobs[1],
            ) as file:
                file.read_into(offset, out, threads=threads)
        finally:
            for blob in blobs:
                blob.close()
        return out


def _copy(data: bytearray) -> Callable[[], memoryview]:
    """Two threads that copy into fresh huge pages: what the memory allows."""
    half = len(data) // 2

    def copy() -> memoryview:
        out = huge_buffer(len(data))

        def part(start: int) -> None:
            to = (ctypes.c_char * half).from_buffer(out, start)
            ctypes.memmove(to, (ctypes.c_char * half).from_buffer(data, start), half)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(part, (0, half)))
        return out

    return copy


def measure_local(work: Path, tmpfs: Path, size: int, segment: int, runs: int) -> list[Row]:
    """Measure with a file of ``size`` bytes: opened from ``work``, whose cache is warm, and sealed to ``tmpfs``."""
    data = io.BytesIO()
    while data.tell() < size:
        data.write(os.urandom(min(1 << 20, size - data.tell())))
    plain = work / "model.bin"
    plain.write_bytes(data.getbuffer())
    to_tmpfs, to_disk = _Model(plain, tmpfs, segment), _Model(plain, work, segment)
    to_disk.seal()
    peers = Peers(data.getbuffer(), work, tmpfs)
    rows = measure(
        "seal",
        {
            "custody, to tmpfs": to_tmpfs.seal,
            "cp, to tmpfs": lambda: shutil.copyfile(plain, tmpfs / "copy.bin"),
            "tensorizer, encrypted, to tmpfs": peers.tensorizer_save,
            "age (pyrage)": peers.age_encrypt,
        },
        size,
        runs,
    )
    rows += measure(
        "open",
        {
            "custody, verified, fresh memory, 2 threads": lambda: to_disk.open(0, size),
            "copy into fresh huge pages, 2 threads": _copy(bytearray(data.getbuffer())),
            "safetensors, plaintext, private copy": peers.safetensors_load,
            "tensorizer, plaintext": peers.tensorizer_load_plain,
            "tensorizer, encrypted": peers.tensorizer_load,
        },
        size,
        runs,
    )
    one = max(1, size // 100)
    rows += measure(
        "1 %",
        {
            "custody, a hundredth, as if it were the whole": lambda: to_disk.open(size // 3, one),
            "custody, the whole file": lambda: to_disk.open(0, size),
        },
        size,
        runs,
    )
    return rows
