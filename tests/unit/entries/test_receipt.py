"""A receipt is worth what its entry bytes, its proof and its checkpoint are worth together."""

from collections.abc import Sequence

import pytest

from custody.entries.receipt import Receipt, verify
from custody.errors import FormatError, IntegrityError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, inclusion_proof, leaf_hash
from custody.tlog.note import NoteSigner
from custody.tlog.proof import Proof
from tests.doubles.tlog import ORIGIN, TIME, log_signer, witness_signer
from tests.unit.publishing.world import entry, two_of_three

SIGNERS = [witness_signer(i) for i in (1, 2, 3)]
POLICY = two_of_three(log_signer(), *SIGNERS)
ENTRIES = [entry(i) for i in range(5)]


def receipt(
    index: int = 2,
    *,
    data: bytes | None = None,
    signer: NoteSigner | None = None,
    cosigners: Sequence[NoteSigner] = SIGNERS,
    extra: bytes | None = None,
) -> Receipt:
    """Make a receipt of a small log."""
    entries = list(ENTRIES)
    entries[index] = data if data is not None else entries[index]
    tree = MemoryTree([leaf_hash(each) for each in entries])
    text = Checkpoint(ORIGIN, 5, tree.root()).encode()
    note = text + b"\n" + (signer or log_signer()).sign(text)
    note += b"".join(cosigner.sign(text, TIME + i) for i, cosigner in enumerate(cosigners))
    return Receipt(entries[index], Proof(index, tuple(inclusion_proof(index, 5, tree.hash_at)), note, extra).encode())


def test_a_good_receipt_says_what_is_logged_where_and_when_it_was_witnessed() -> None:
    verified = verify(receipt(), POLICY)
    assert verified.entry.encode() == ENTRIES[2]
    assert verified.index == 2
    assert verified.leaf == leaf_hash(ENTRIES[2])
    assert (verified.checkpoint.origin, verified.checkpoint.size) == (ORIGIN, 5)
    assert verified.cosigned == {"w1": TIME, "w2": TIME + 1, "w3": TIME + 2}


def test_a_valid_proof_of_another_entry_is_refused() -> None:
    with pytest.raises(IntegrityError):
        verify(Receipt(ENTRIES[3], receipt(2).proof), POLICY)


def test_a_proof_at_another_index_is_refused() -> None:
    honest = receipt()
    with pytest.raises(IntegrityError):
        verify(Receipt(honest.entry, honest.proof.replace(b"index 2\n", b"index 3\n")), POLICY)


@pytest.mark.parametrize("count", [0, 1])
def test_a_checkpoint_without_the_witness_quorum_is_refused(count: int) -> None:
    assert verify(receipt(cosigners=SIGNERS[:2]), POLICY).index == 2
    with pytest.raises(IntegrityError):
        verify(receipt(cosigners=SIGNERS[:count]), POLICY)


def test_a_checkpoint_of_another_log_key_is_refused() -> None:
    with pytest.raises(IntegrityError):
        verify(receipt(signer=log_signer(key="another")), POLICY)


def test_a_logged_thing_that_is_no_entry_is_refused_after_its_proof() -> None:
    for data in (b"{}", ENTRIES[2] + b" ", ENTRIES[2][:-1] + b',"x":1}', b""):
        with pytest.raises(FormatError, match="entry"):
            verify(receipt(data=data), POLICY)


def test_extra_data_in_the_proof_is_refused() -> None:
    with pytest.raises(FormatError, match="extra"):
        verify(receipt(extra=b"unsigned"), POLICY)


def test_garbage_is_refused_in_one_kind_of_error() -> None:
    honest = receipt()
    for proof in (b"", b"\n\n", honest.proof[:-5], honest.proof + b"x", honest.proof.upper()):
        with pytest.raises((FormatError, IntegrityError)):
            verify(Receipt(honest.entry, proof), POLICY)
    with pytest.raises(FormatError, match="65536"):
        verify(Receipt(bytes(65_536), honest.proof), POLICY)
