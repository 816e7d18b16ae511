"""Receipts of something else, or of a log that no witness has seen: no tool believes them."""

import pytest

from custody.entries.receipt import Receipt
from custody.errors import CustodyError, IntegrityError
from custody.rules.trust import Seen, Trust
from custody.tlog.note import COSIGNATURE, ED25519, Note, NoteSigner
from custody.tlog.proof import Proof
from tests.doubles.site import DEPLOYMENT, Site, now, rng


@pytest.fixture
def trust(site: Site) -> Trust:
    """A tool that believes the deployment."""
    trust = Trust(DEPLOYMENT, site.root_envelope.digest, Seen())
    with site.calls("alice") as alice:
        trust.take_roots(alice.get_roots())
    return trust


def test_a_receipt_of_another_entry(site: Site, trust: Trust) -> None:
    """Each is a valid proof, of something else (CVE-2026-22703)."""
    with site.calls("alice") as alice:
        hello, other = site.hello("alice"), site.hello("alice")
        mine, foreign = alice.hello(hello), alice.hello(other)
        (_, root), *_ = alice.get_roots()
    trust.check_document(mine, "hello", hello)
    for receipt, kind, envelope in ((foreign, "hello", hello), (mine, "stop", hello), (root, "hello", hello)):
        with pytest.raises(IntegrityError, match="another entry"):
            trust.check_document(receipt, kind, envelope)
    for lying in (
        Receipt(foreign.entry, mine.proof),
        Receipt(mine.entry.replace(b"hello", b"hullo", 1), mine.proof),
        Receipt(mine.entry, mine.proof.replace(b"index ", b"index 1", 1)),
        Receipt(mine.entry, b""),
        Receipt(b"", mine.proof),
    ):
        with pytest.raises(CustodyError):
            trust.check(lying)


def test_a_receipt_of_another_deployment(site: Site, trust: Trust) -> None:
    """The same root digest, the same witness, another log: its key is not the one that the root names."""
    with site.calls("alice") as alice:
        receipt = alice.hello(site.hello("alice"))
    other = Trust("custody.example.org/staging", site.root_envelope.digest, Seen())
    with site.calls("alice") as alice, pytest.raises(IntegrityError, match="is of deployment"):
        other.take_roots(alice.get_roots())
    with pytest.raises(CustodyError, match="no trust root"):
        other.check(receipt)
    trust.check(receipt)


def test_a_receipt_that_no_witness_has_seen(site: Site, trust: Trust) -> None:
    """The log signed it; the cosignature is missing, a stranger's, the log's own, or over another tree."""
    with site.calls("alice") as alice:
        older, receipt = alice.hello(site.hello("alice")), alice.hello(site.hello("alice"))
    proof = Proof.parse(receipt.proof)
    note, old = Note.parse(proof.checkpoint), Note.parse(Proof.parse(older.proof).checkpoint)
    log, witness = (
        next(line for line in note.signatures if (line.name == DEPLOYMENT) is wanted) for wanted in (True, False)
    )
    stale = next(line for line in old.signatures if line.name != DEPLOYMENT)
    stranger = NoteSigner(witness.name, COSIGNATURE, rng(32)).sign(note.text, now())
    forger = NoteSigner(DEPLOYMENT, ED25519, rng(32)).sign(note.text)
    head = note.text + b"\n"
    for lying in (
        head + log.encode(),
        head + witness.encode(),
        head + log.encode() + log.encode(),
        head + log.encode() + stranger,
        head + log.encode() + stale.encode(),
        head + forger + witness.encode(),
        head,
        old.encode(),
    ):
        with pytest.raises(CustodyError):
            trust.check(Receipt(receipt.entry, Proof(proof.index, proof.hashes, lying).encode()))
    assert Proof(proof.index, proof.hashes, head + log.encode() + witness.encode()).encode()
    trust.check(
        Receipt(receipt.entry, Proof(proof.index, proof.hashes, head + log.encode() + witness.encode()).encode())
    )


def test_the_log_s_own_key_as_a_witness(site: Site, trust: Trust) -> None:
    """Whoever holds the log key alone cannot make a receipt: no policy lets a log cosign itself."""
    text = (site.directory / "broker/log.key").read_text().strip()
    own = NoteSigner.parse(text)
    with site.calls("alice") as alice:
        receipt = alice.hello(site.hello("alice"))
    proof = Proof.parse(receipt.proof)
    note = Note.parse(proof.checkpoint)
    witness = next(line for line in note.signatures if line.name != DEPLOYMENT)
    cosigner = NoteSigner(witness.name, COSIGNATURE, own._key.private_bytes_raw())
    forged = note.text + b"\n" + own.sign(note.text) + cosigner.sign(note.text, now())
    with pytest.raises(CustodyError):
        trust.check(Receipt(receipt.entry, Proof(proof.index, proof.hashes, forged).encode()))
