"""Reads a published log from its directory with nothing but hashlib: a second opinion about every byte.

Written from tlog-tiles and RFC 6962, not from our code. ``read_log`` returns the entries that the checkpoint covers.
"""

import base64
import hashlib
from pathlib import Path

__all__ = ["check_kept", "read_log", "root_of"]


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def name_of(index: int) -> str:
    name = f"{index % 1000:03d}"
    while index := index // 1000:
        name = f"x{index % 1000:03d}/{name}"
    return name


def read_tile(log: Path, level: str, index: int, width: int) -> bytes:
    full = log / "tile" / level / name_of(index)
    return (
        full.read_bytes()
        if width == 256 or full.exists()
        else (full.parent / f"{full.name}.p" / str(width)).read_bytes()
    )


def read_log(log: Path) -> list[bytes]:
    origin, size_line, root_line, *_ = (log / "checkpoint").read_text().split("\n")
    size, root = int(size_line), base64.b64decode(root_line)
    assert origin
    entries: list[bytes] = []
    for index in range((size + 255) // 256):
        data = read_tile(log, "entries", index, min(256, size - 256 * index))
        while data and len(entries) < size:
            length = int.from_bytes(data[:2], "big")
            entries.append(data[2 : 2 + length])
            data = data[2 + length :]
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert len(leaves) == size
    assert root_of(leaves) == root
    level, hashes = 0, leaves
    while hashes:
        for index in range((len(hashes) + 255) // 256):
            expected = hashes[256 * index : 256 * index + 256]
            assert read_tile(log, str(level), index, len(expected))[: 32 * len(expected)] == b"".join(expected)
        hashes = [root_of(hashes[i : i + 256]) for i in range(0, len(hashes) // 256 * 256, 256)]
        level += 1
    return entries


def check_kept(log: Path, entries: list[bytes]) -> None:
    """Every checkpoint that was ever published is kept, and all of them lie on one line."""
    for kept in (log / "checkpoints").glob("[0-9]*"):
        _, size_line, root_line, *_ = kept.read_text().split("\n")
        assert kept.name == size_line
        leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries[: int(size_line)]]
        assert len(leaves) == int(size_line)
        assert root_of(leaves) == base64.b64decode(root_line)
