import hashlib

import pytest

from custody.errors import IntegrityError
from custody.tlog.merkle import (
    Frontier,
    MemoryTree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    right_edge,
    root_hash,
    verify_consistency,
    verify_inclusion,
)

_LEAVES = [leaf_hash(b"%d" % i) for i in range(70)]


def _mth(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, written down as it stands there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(_mth(leaves[:k]), _mth(leaves[k:]))


def test_roots_are_those_of_the_recursive_definition_at_every_size() -> None:
    tree = MemoryTree()
    frontier = Frontier()
    for size in range(len(_LEAVES) + 1):
        assert tree.root() == frontier.root() == _mth(_LEAVES[:size])
        assert tree.size == frontier.size == size
        assert len(frontier.edge) == len(list(right_edge(size)))
        if size < len(_LEAVES):
            tree.append(_LEAVES[size])
            frontier.append(_LEAVES[size])


def test_every_inclusion_proof_verifies_and_fits_no_other_place() -> None:
    tree = MemoryTree(_LEAVES)
    for size in range(1, 34):
        root = tree.root(size)
        for index in range(size):
            proof = inclusion_proof(index, size, tree.hash_at)
            verify_inclusion(_LEAVES[index], index, size, proof, root)
            for other in range(size):
                if other != index:
                    with pytest.raises(IntegrityError):
                        verify_inclusion(_LEAVES[index], other, size, proof, root)


def test_every_consistency_proof_verifies_and_fits_no_other_root() -> None:
    tree = MemoryTree(_LEAVES)
    for size in range(1, 34):
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, tree.hash_at)
            verify_consistency(old, size, proof, tree.root(old), tree.root(size))
            with pytest.raises(IntegrityError):
                verify_consistency(old, size, proof, tree.root(old), leaf_hash(b"fork"))
            with pytest.raises(IntegrityError):
                verify_consistency(old, size, proof, leaf_hash(b"fork"), tree.root(size))


def test_proofs_that_are_too_long_or_too_short_are_refused() -> None:
    tree = MemoryTree(_LEAVES)
    proof = inclusion_proof(3, 13, tree.hash_at)
    verify_inclusion(_LEAVES[3], 3, 13, proof, tree.root(13))
    for bad in (proof[:-1], proof[1:], [*proof, bytes(32)], [bytes(32), *proof], [], [*proof[:-1], proof[-1][:31]]):
        with pytest.raises(IntegrityError):
            verify_inclusion(_LEAVES[3], 3, 13, bad, tree.root(13))
    proof = consistency_proof(6, 13, tree.hash_at)
    verify_consistency(6, 13, proof, tree.root(6), tree.root(13))
    for bad in (proof[:-1], proof[1:], [*proof, bytes(32)], [bytes(32), *proof], [], [*proof[:-1], proof[-1][:31]]):
        with pytest.raises(IntegrityError):
            verify_consistency(6, 13, bad, tree.root(6), tree.root(13))


def test_a_node_is_not_a_leaf() -> None:
    # Second preimage: the two children of a node, taken as an entry, hash to something else.
    tree = MemoryTree(_LEAVES[:2])
    assert leaf_hash(_LEAVES[0] + _LEAVES[1]) != tree.root()


def test_indices_and_sizes_outside_the_tree() -> None:
    tree = MemoryTree(_LEAVES[:5])
    for index in (-1, 5):
        with pytest.raises(ValueError, match="not in a tree"):
            inclusion_proof(index, 5, tree.hash_at)
        with pytest.raises(IntegrityError):
            verify_inclusion(_LEAVES[0], index, 5, [], tree.root())
    for old in (-1, 6):
        with pytest.raises(ValueError, match="no earlier size"):
            consistency_proof(old, 5, tree.hash_at)
        with pytest.raises(IntegrityError):
            verify_consistency(old, 5, [], tree.root(), tree.root())
    assert consistency_proof(0, 5, tree.hash_at) == []
    for level, index in ((0, 5), (1, 2), (3, 0), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="no complete node"):
            tree.hash_at(level, index)


def test_a_frontier_is_taken_up_again_and_goes_on_as_before() -> None:
    tree = MemoryTree(_LEAVES)
    for size in range(20):
        frontier = Frontier.load(size, tree.hash_at)
        for leaf in _LEAVES[size:40]:
            for node in frontier.append(leaf):
                assert tree.hash_at(node.level, node.index) == node.hash
        assert frontier.root() == root_hash(40, tree.hash_at)


def test_leaves_taken_together_make_the_tree_that_they_make_one_by_one() -> None:
    for begin in range(20):
        for end in range(begin, 40):
            frontier = Frontier.load(begin, MemoryTree(_LEAVES).hash_at)
            frontier.extend(_LEAVES[begin:end])
            assert (frontier.size, frontier.root()) == (end, _mth(_LEAVES[:end]))
    with pytest.raises(IntegrityError):
        Frontier().extend([bytes(32), bytes(31)])


def test_a_frontier_of_the_wrong_shape_is_refused() -> None:
    for size, edge in ((3, [bytes(32)]), (1, []), (1, [bytes(31)]), (-1, [])):
        with pytest.raises(ValueError, match="right edge"):
            Frontier(size, edge)
