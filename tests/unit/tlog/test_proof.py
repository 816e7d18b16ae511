import pytest

from custody.errors import FormatError, IntegrityError
from custody.tlog.merkle import leaf_hash
from custody.tlog.policy import LogKey, Policy, Witness
from custody.tlog.proof import MAX_PROOF_SIZE, Proof, verify_proof
from tests.doubles.tlog import TIME, Log, log_signer, witness_signer

_LOG = Log(13)
_POLICY = Policy((LogKey(log_signer().vkey),), (Witness("w1", witness_signer().vkey),), (), "w1")
_CHECKPOINT = _LOG.checkpoint(cosigners=[witness_signer()])
_PROOF = _LOG.receipt(5, _CHECKPOINT)
_LEAF = leaf_hash(_LOG.entries[5])


def test_a_receipt_verifies_offline() -> None:
    data = _PROOF.encode()
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nindex 5\n")
    checked = verify_proof(Proof.parse(data), _LEAF, _POLICY.check)
    assert checked.checkpoint == _LOG.head()
    assert checked.cosigned == {"w1": TIME}


def test_extra_data_round_trips() -> None:
    proof = Proof(5, _PROOF.hashes, _CHECKPOINT, b"anything")
    assert Proof.parse(proof.encode()) == proof
    assert b"\nextra YW55dGhpbmc=\nindex 5\n" in proof.encode()


def test_a_valid_proof_of_another_entry_is_refused() -> None:
    # CVE-2026-22703: the proof is right, but it is not about the entry that the caller means.
    verify_proof(_PROOF, _LEAF, _POLICY.check)
    other = _LOG.receipt(6, _CHECKPOINT)
    verify_proof(other, leaf_hash(_LOG.entries[6]), _POLICY.check)
    with pytest.raises(IntegrityError, match="another root"):
        verify_proof(other, _LEAF, _POLICY.check)


def test_a_receipt_from_an_unwitnessed_checkpoint_is_refused() -> None:
    with pytest.raises(IntegrityError, match="no witness quorum"):
        verify_proof(_LOG.receipt(5, _LOG.checkpoint()), _LEAF, _POLICY.check)


def test_a_receipt_from_a_forked_log_is_refused() -> None:
    fork = Log(13, branch=5)
    receipt = fork.receipt(5, _CHECKPOINT)
    with pytest.raises(IntegrityError, match="another root"):
        verify_proof(receipt, leaf_hash(fork.entries[5]), _POLICY.check)


def test_an_index_beyond_the_checkpoint_is_refused() -> None:
    with pytest.raises(IntegrityError, match="outside"):
        verify_proof(Proof(13, _PROOF.hashes, _CHECKPOINT), _LEAF, _POLICY.check)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"tlog-proof@v1", b"tlog-proof@v2"),
        (b"c2sp.org", b"\nc2sp.org"),
        (b"index 5\n", b"index 05\n"),
        (b"index 5\n", b"index +5\n"),
        (b"index 5\n", b"index  5\n"),
        (b"index 5\n", b"Index 5\n"),
        (b"index 5\n", b""),
        (b"index 5\n", b"index 5\nindex 5\n"),
        (b"index 5\n", b"index 5\nextra YQ==\n"),
        (b"index 5\n", b"extra \nindex 5\n"),
        (b"index 5\n", b"extra YR==\nindex 5\n"),
        (b"index 5\n", b"extra YQ==\nextra YQ==\nindex 5\n"),
        (b"index 5\n", b"index 5\n" + b"A" * 43 + b"\n"),
        (b"index 5\n", b"index 5\n" + (b"A" * 43 + b"=\n") * 64),
        (b"=\n\nlog", b"=\nlog"),
        (b"=\n\nlog", b"=\r\n\nlog"),
        (b"=\n\nlog", b"=\n\n\nlog"),
    ],
)
def test_another_spelling_is_refused(old: bytes, new: bytes) -> None:
    data = _PROOF.encode()
    assert Proof.parse(data) == _PROOF
    changed = data.replace(old, new, 1)
    assert changed != data
    with pytest.raises((FormatError, IntegrityError)):
        verify_proof(Proof.parse(changed), _LEAF, _POLICY.check)


def test_a_giant_proof_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError, match="longer than"):
        Proof.parse(_PROOF.encode() + bytes(MAX_PROOF_SIZE))


def test_values_that_cannot_be_encoded_are_refused() -> None:
    for index, hashes, extra in ((-1, (), None), (0, (bytes(31),), None), (0, (bytes(32),) * 64, None), (0, (), b"")):
        with pytest.raises(FormatError):
            Proof(index, hashes, _CHECKPOINT, extra)
