"""What a job requires before it uses one byte of a session (design section 6). Pure: bytes in, or an error.

1. The receipt verifies: entry bytes, inclusion proof, log signature and witness quorum of the trust root in force,
   which follows from the pinned genesis.
2. The entry is a session intent, and names the job's own ``open`` document: its digest and its envelope's. That
   document holds a fresh nonce, so neither an old receipt nor another session's can pass.
3. The entry names the lease, request, version, content, files, ceiling, mode, beneficiary and certificate that the job
   meant.
4. The content envelope is the one whose digest the terms name.
5. There is a digest key for each file of the session, and for no other. In direct mode there are a file key and a
   digest key instead, sealed to this session's own X-Wing key for this very entry: its leaf hash is in the seal.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from custody.client.sealed_keys import unseal
from custody.crypto.secret import SecretBytes
from custody.documents.content import Content
from custody.documents.dsse import Envelope
from custody.documents.request import indexes, is_subset
from custody.documents.session import OpenSession
from custody.documents.terms import Terms
from custody.entries.receipt import Receipt, Verified
from custody.errors import FormatError, IntegrityError
from custody.rules.trust import Trust
from custody.wire.messages import OpenReply

__all__ = ["Opened", "verify_open"]

_KEY: Final = 32


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified session: its id, the document that opened it, the receipt, and the digest key of each file; in direct
    mode also the file keys.
    """

    session: str
    envelope: Envelope
    receipt: Receipt
    content: Content
    digest_keys: Mapping[int, SecretBytes]
    file_keys: Mapping[int, SecretBytes] = field(default_factory=dict)

    def close(self) -> None:
        """Wipe the keys."""
        for key in (*self.digest_keys.values(), *self.file_keys.values()):
            key.close()


def verify_open(
    trust: Trust, terms: Terms, lease: str, envelope: Envelope, reply: OpenReply, *, seed: SecretBytes | None = None
) -> Opened:
    """Check the broker's reply to ``envelope``, an open document for ``lease`` with these ``terms``.

    ``seed`` is of the document's X-Wing key, in direct mode. Raises ``IntegrityError`` or ``FormatError`` saying what
    is wrong. What is returned is the caller's to close.
    """
    document = envelope.document(OpenSession)
    verified = trust.check(reply.receipt)
    _check_entry(trust, verified, terms, lease, envelope)
    if reply.session != envelope.digest:
        raise IntegrityError("the broker opened another session")
    if reply.content.digest != terms.content:
        raise IntegrityError("the broker shows another content than the lease names")
    content = reply.content.document(Content)
    if content.version != terms.version or document.files[-1].last >= len(content.files):
        raise IntegrityError("the content is not one that the lease can be of")
    wanted = set(indexes(document.files))
    if seed is not None:
        digest_keys, file_keys = unseal(seed, terms.request, verified.leaf, wanted, reply)
        return Opened(envelope.digest, envelope, reply.receipt, content, digest_keys, file_keys)
    if set(reply.digest_keys) != wanted or reply.sealed_keys:
        raise FormatError("the broker did not give one digest key for each file of the session")
    if any(len(key) != _KEY for key in reply.digest_keys.values()):
        raise FormatError("a digest key has not 32 bytes")
    keys = {file: SecretBytes.take(bytearray(key)) for file, key in reply.digest_keys.items()}
    return Opened(envelope.digest, envelope, reply.receipt, content, keys)


def _check_entry(trust: Trust, verified: Verified, terms: Terms, lease: str, envelope: Envelope) -> None:
    entry, document = verified.entry, envelope.document(OpenSession)
    if entry.type != "session-intent":
        raise IntegrityError(f"the receipt is of a {entry.type} entry, not of the session")
    named = entry.document("open")
    leaf = document.workload.x5c[0]
    for what, stated, expected in (
        ("open document", named.document, envelope.digest),
        ("envelope", named.envelope, envelope.envelope_digest),
        ("session", entry.session, envelope.digest),
        ("lease", entry.terms, lease),
        ("request", entry.request, terms.request),
        ("version", entry.version, terms.version),
        ("content", entry.content, terms.content),
        ("files", entry.files, document.files),
        ("byte ceiling", entry.ceiling, document.bytes),
        ("mode", entry.mode, None if document.xwing is None else "direct"),
        ("beneficiary", entry.beneficiary, document.workload.spiffe),
        ("actor", entry.actor and entry.actor.id, document.workload.spiffe),
        ("certificate", entry.actor and entry.actor.credential, hashlib.sha256(leaf).hexdigest()),
        ("trust root in force", entry.root, trust.root_digest),
    ):
        if stated != expected:
            raise IntegrityError(f"the receipt is of another session: it names another {what}")
    if not is_subset(document.files, terms.files):
        raise IntegrityError("the session has files that the lease does not have")
