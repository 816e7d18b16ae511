"""Signatures that are verified before a fold comes to them, by another process.

Entries are judged one after the other, each by the state before it. But whether a key made a signature over some bytes,
and whether a certificate chain leads to some roots, depends on nothing else, and takes half of the time. What another
process has found out is believed for this key and these bytes only: which key it must be, the rules say when they come
to it, and where it is another one, or nothing is known, they verify by themselves.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from custody.crypto import keys, svid
from custody.documents.actor import Workload
from custody.documents.dsse import Document, Envelope
from custody.documents.hello import Hello
from custody.documents.request import Request
from custody.documents.root import Root
from custody.documents.session import OpenSession
from custody.documents.stop import Stop
from custody.entries.entry import Entry
from custody.errors import CustodyError

__all__ = ["Claim", "Claims", "Proof", "believe", "claims_of", "prove"]

_BY_WORKLOADS: Final[dict[str, tuple[type[Document], str]]] = {
    kind.payload_type: (kind, field)
    for kind, field in ((OpenSession, "workload"), (Request, "requester"), (Hello, "actor"), (Stop, "actor"))
}


class Claim(NamedTuple):
    """That a key made the one signature of an envelope: an Ed25519 key, or that of the first certificate of a chain."""

    envelope: str
    """Its digest."""
    key: bytes
    signature: bytes
    message: bytes
    chain: tuple[bytes, ...]
    at: int
    """When the chain must be valid, seconds."""


class Claims(NamedTuple):
    """The claims of some entries; chains must lead to ``roots``."""

    claims: Sequence[Claim]
    roots: tuple[bytes, ...] = ()
    trust_domain: str = ""


class Proof(NamedTuple):
    """A claim that is true; and where there is a chain, whose certificate it is and from when to when it is valid."""

    envelope: str
    key: bytes
    chain: tuple[bytes, ...]
    path: tuple[str, int, int] | None


def claims_of(entries: Sequence[Entry], envelopes: dict[str, Envelope], root: Root | None) -> Claims:
    """Return what can be verified ahead of entries and their envelopes (by envelope digest) under ``root``, which is
    the one in force some entries before them.
    """
    if root is None:
        return Claims(())
    found: list[Claim] = []
    for entry in entries:
        for reference in entry.documents:
            if (envelope := envelopes.get(reference.envelope)) is not None:
                found += _claims(envelope, reference.envelope, root, int(entry.time))
    return Claims(found, root.spiffe_roots, root.trust_domain)


def _claims(envelope: Envelope, digest: str, root: Root, at: int) -> Iterator[Claim]:
    with suppress(CustodyError):  # whoever comes to it says what is wrong
        signature = envelope.only_signature()
        key = root.signing_keys.get(signature.keyid)
        chain: tuple[bytes, ...] = ()
        if key is None:
            kind, field = _BY_WORKLOADS.get(envelope.payloadType, (Document, ""))
            if not field:
                return
            actor = getattr(envelope.document(kind), field)
            if not isinstance(actor, Workload):
                return
            key, chain = actor.x5c[0], actor.x5c
        yield Claim(digest, key, signature.sig, envelope.signed_bytes, chain, at)


def prove(work: Claims) -> list[Proof]:
    """Verify claims; return those that are true."""
    proofs = []
    for claim in work.claims:
        with suppress(CustodyError):
            path = None
            if claim.chain:
                found = svid.check_path(claim.chain, work.roots, work.trust_domain, claim.at)
                path = (found.identity, found.begin, found.end)
                keys.verify_svid_signature(claim.key, claim.signature, claim.message)
            else:
                keys.verify(claim.key, claim.signature, claim.message)
            proofs.append(Proof(claim.envelope, claim.key, claim.chain, path))
    return proofs


def believe(work: Claims, proofs: Sequence[Proof], envelopes: dict[str, Envelope]) -> None:
    """Take what ``prove`` has found out about ``work``, so that the rules need not do it again."""
    for proof in proofs:
        envelopes[proof.envelope].believe_signature(proof.key)
        if proof.path is not None:
            svid.remember_path(proof.chain, work.roots, work.trust_domain, svid.Path(*proof.path))
