"""A receipt: the proof that one entry is in the log, witnessed, and what that entry is.

::

    entry = the leaf bytes, exactly as the log holds them
    proof = a tlog-proof (custody.tlog.proof) of SHA-256(0x00 || entry), without extra data

A valid proof of *another* entry is still a valid proof (CVE-2026-22703), so the leaf hash is made from the entry bytes
of the receipt, and only after everything verified are these same bytes parsed. Whether the entry is the one that was
asked for (type, digest of the own document, lease, root) is the caller's to require of what is returned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from custody.entries.entry import MAX_ENTRY, Entry
from custody.errors import FormatError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import leaf_hash
from custody.tlog.policy import Policy
from custody.tlog.proof import MAX_PROOF_SIZE, Proof, verify_proof

__all__ = ["MAX_RECEIPT", "Receipt", "Verified", "verify"]

MAX_RECEIPT: Final = MAX_ENTRY + MAX_PROOF_SIZE  # bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry's bytes and its proof, verified by nobody yet. Its size is bounded where it is verified."""

    entry: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verified receipt says.

    ``cosigned`` maps the names of the policy's counted witnesses to the times they stated (POSIX seconds); together
    they are a quorum. ``leaf`` is the leaf hash, 32 bytes.
    """

    entry: Entry
    index: int
    leaf: bytes
    checkpoint: Checkpoint
    cosigned: Mapping[str, int]


def verify(receipt: Receipt, policy: Policy) -> Verified:
    """Verify a receipt under the log key and the witness quorum of ``policy``.

    Raises ``FormatError`` for bytes that are no proof or no entry, ``IntegrityError`` for a checkpoint that the policy
    does not accept and for a proof that does not lead from this entry to its root.
    """
    if len(receipt.entry) > MAX_ENTRY:
        raise FormatError(f"receipt: an entry of {len(receipt.entry)} bytes, at most {MAX_ENTRY} are allowed")
    proof = Proof.parse(receipt.proof)
    if proof.extra is not None:  # authenticated by nothing, and never written by us: one receipt, one spelling
        raise FormatError("receipt: the proof holds extra data")
    leaf = leaf_hash(receipt.entry)
    checked = verify_proof(proof, leaf, policy.check)
    return Verified(Entry.parse(receipt.entry), proof.index, leaf, checked.checkpoint, checked.cosigned)
