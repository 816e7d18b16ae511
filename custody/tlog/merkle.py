"""Merkle trees of RFC 6962 section 2.1 over SHA-256: roots, proofs, and the right edge that grows.

::

    leaf = SHA-256(0x00 || entry)      node = SHA-256(0x01 || left || right)      empty tree = SHA-256("")

A *complete* node (level, index) covers the leaves ``index << level`` to ``(index + 1) << level``. Proofs are generated
through a callable ``hash_at(level, index)`` that returns complete nodes, so that tiles, memory or a database can serve.
Sizes count leaves, indices start at zero.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import msgspec

from custody.errors import IntegrityError
from custody.tlog.checkpoint import EMPTY_ROOT
from custody.tlog.lines import HASH_SIZE

__all__ = [
    "Frontier",
    "HashAt",
    "MemoryTree",
    "Node",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "range_hash",
    "right_edge",
    "root_hash",
    "siblings",
    "verify_consistency",
    "verify_inclusion",
]

HashAt = Callable[[int, int], bytes]
"""``hash_at(level, index)``: the hash of a complete node; the caller asks only for nodes that exist."""


class Node(msgspec.Struct, frozen=True):
    """A complete node and its hash."""

    level: int
    index: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Hash the bytes of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two child hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def right_edge(size: int, begin: int = 0) -> Iterator[tuple[int, int]]:
    """Yield, left to right, the (level, index) of the complete nodes that cover ``size`` leaves from ``begin`` on.

    ``begin`` is a multiple of a power of two that is at least ``size``, as every split of RFC 6962 makes it.
    """
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            yield level, begin >> level
            begin += 1 << level


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Hash the complete nodes of a right edge together, from the right."""
    folded = hashes[-1]
    for left in reversed(hashes[:-1]):
        folded = node_hash(left, folded)
    return folded


def range_hash(begin: int, end: int, hash_at: HashAt) -> bytes:
    """Compute the tree hash over the leaves ``begin`` to ``end`` (exclusive; aligned as in ``right_edge``)."""
    return _fold([hash_at(level, index) for level, index in right_edge(end - begin, begin)])


def root_hash(size: int, hash_at: HashAt) -> bytes:
    """Compute the root of the tree over the first ``size`` leaves."""
    return range_hash(0, size, hash_at) if size else EMPTY_ROOT


def _split(begin: int, end: int) -> int:
    """Find where RFC 6962 splits a range of at least two leaves: after the largest power of two below its length."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


def siblings(index: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield what proves leaf ``index`` in a tree of ``size`` leaves, from the root down: ranges of leaves, the end of
    each exclusive. RFC 6962 section 2.1.1. ``ValueError`` for an index outside the tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not in a tree of {size}")
    begin, end = 0, size
    while end - begin > 1:
        middle = _split(begin, end)
        if index < middle:
            yield middle, end
            end = middle
        else:
            yield begin, middle
            begin = middle


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Prove that leaf ``index`` stands in the tree of ``size`` leaves: sibling hashes from the leaf upwards.

    Raises as ``siblings``.
    """
    return [range_hash(begin, end, hash_at) for begin, end in siblings(index, size)][::-1]


def consistency_proof(old: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Prove that the tree of ``size`` leaves begins with the tree of ``old`` leaves (RFC 6962 section 2.1.2).

    The empty tree needs no proof: ``old`` 0 gives an empty one. ``ValueError`` for an ``old`` outside 0..size.
    """
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} has no earlier size {old}")
    if old == 0:
        return []
    begin, end = 0, size
    path = []
    while old != end:
        middle = _split(begin, end)
        if old <= middle:
            path.append(range_hash(middle, end, hash_at))
            end = middle
        else:
            path.append(range_hash(begin, middle, hash_at))
            begin = middle
    if begin:  # the whole old tree is a node of the new one only where it was never split; then its root is known
        path.append(range_hash(begin, end, hash_at))
    return path[::-1]


def _require_hashes(*hashes: bytes) -> None:
    """Refuse hashes of a wrong length: concatenations of them could be read in two ways."""
    if any(len(value) != HASH_SIZE for value in hashes):
        raise IntegrityError(f"Merkle proof: a hash is not {HASH_SIZE} bytes")


def _steps(position: int, last: int, proof: Sequence[bytes], what: str) -> Iterator[tuple[bytes, bool]]:
    """Walk from a node to the root; yield each sibling and whether it stands to the left.

    ``position`` is the node's index in its level, ``last`` that of the level's last node (complete or not).
    """
    for sibling in proof:
        if last == 0:
            raise IntegrityError(f"{what}: too long")
        left = bool(position & 1) or position == last
        while left and position and not position & 1:  # at the right edge, levels without a sibling are skipped
            position, last = position >> 1, last >> 1
        yield sibling, left
        position, last = position >> 1, last >> 1
    if last:
        raise IntegrityError(f"{what}: too short")


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Verify that the leaf hash stands at ``index`` under ``root`` (RFC 9162 section 2.1.3.2); else IntegrityError."""
    _require_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise IntegrityError("inclusion proof: the index is outside the tree")
    value = leaf
    for sibling, left in _steps(index, size - 1, proof, "inclusion proof"):
        value = node_hash(sibling, value) if left else node_hash(value, sibling)
    if value != root:
        raise IntegrityError("inclusion proof: leads to another root")


def verify_consistency(old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Verify that ``root`` continues ``old_root`` (RFC 9162 section 2.1.4.2); else ``IntegrityError``.

    ``old`` 0 is refused: every tree continues the empty one, so a proof of that says nothing.
    """
    if not 0 < old <= size:
        raise IntegrityError(f"consistency proof: nothing to prove from size {old} to {size}")
    if old == size:
        if proof or old_root != root:
            raise IntegrityError("consistency proof: equal sizes need equal roots and an empty proof")
        return
    _require_hashes(old_root, root, *proof)
    if not proof:
        raise IntegrityError("consistency proof: empty")
    # Start at the complete node that ends the old tree. Where that is the whole old tree, its hash is not in the proof.
    level = (old & -old).bit_length() - 1
    whole = old == 1 << level
    start, *siblings = (old_root, *proof) if whole else proof
    old_value = value = start
    for sibling, left in _steps(old - 1 >> level, size - 1 >> level, siblings, "consistency proof"):
        if left:
            old_value = node_hash(sibling, old_value)
        value = node_hash(sibling, value) if left else node_hash(value, sibling)
    if old_value != old_root or value != root:
        raise IntegrityError("consistency proof: the two roots do not belong to one history")


class Frontier:
    """The right edge of a tree: enough to append and to know the root after each append, in O(log size) memory."""

    __slots__ = ("_edge", "_size")

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        """Start from the hashes of ``right_edge(size)``, left to right. ``ValueError`` where their count is wrong."""
        if size < 0 or len(edge) != size.bit_count() or any(len(value) != HASH_SIZE for value in edge):
            raise ValueError(f"these are not the hashes of the right edge of a tree of {size}")
        self._size = size
        self._edge = list(edge)

    @classmethod
    def load(cls, size: int, hash_at: HashAt) -> Self:
        """Read the edge of an existing tree. Compare ``root`` with a trusted one before appending."""
        return cls(size, [hash_at(level, index) for level, index in right_edge(size)])

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def edge(self) -> tuple[bytes, ...]:
        """The hashes of ``right_edge(size)``, left to right."""
        return tuple(self._edge)

    def root(self) -> bytes:
        """Return the root at the present size."""
        return _fold(self._edge) if self._edge else EMPTY_ROOT

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append leaf hashes of which nobody asks what they complete: five times as fast."""
        _require_hashes(*leaves)
        edge, sha256 = self._edge, hashlib.sha256
        for size, leaf in enumerate(leaves, self._size):
            node, rest = leaf, size
            while rest & 1:
                node = sha256(b"\x01" + edge.pop() + node).digest()
                rest >>= 1
            edge.append(node)
        self._size += len(leaves)

    def append(self, leaf: bytes) -> list[Node]:
        """Append a leaf hash; return the nodes that it completed, from the leaf upwards."""
        _require_hashes(leaf)
        node = Node(0, self._size, leaf)
        completed = [node]
        while self._size >> node.level & 1:
            node = Node(node.level + 1, node.index >> 1, node_hash(self._edge.pop(), node.hash))
            completed.append(node)
        self._edge.append(node.hash)
        self._size += 1
        return completed


class MemoryTree:
    """A whole tree in memory (64 bytes and overhead per leaf): for rebuilding a log and for judging one."""

    __slots__ = ("_frontier", "_levels")

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        """Start with the given leaf hashes."""
        self._frontier = Frontier()
        self._levels: list[list[bytes]] = []
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._frontier.size

    def append(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        for node in self._frontier.append(leaf):
            if node.level == len(self._levels):
                self._levels.append([])
            self._levels[node.level].append(node.hash)

    def hash_at(self, level: int, index: int) -> bytes:
        """Return a complete node; ``ValueError`` where the tree does not have it yet."""
        if level < 0 or index < 0 or level >= len(self._levels) or index >= len(self._levels[level]):
            raise ValueError(f"no complete node at level {level}, index {index}")
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """Return the root at ``size`` leaves, or at the present size."""
        return root_hash(self.size if size is None else size, self.hash_at)
