"""Who signed: from an envelope and the actor it claims to the party that the log will name.

The key is never chosen by the document: a person's and a broker's keys come from the trust root, a workload's from a
certificate chain that leads to the trust root's SPIFFE roots at the given time.
"""

import hashlib
from typing import Final, Protocol

from custody.crypto import svid
from custody.documents.actor import Actor, Broker, Person, Workload, actor_name
from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.entries.entry import Party
from custody.errors import IntegrityError

__all__ = ["INLINE", "Inline", "WorkloadVerifier", "device_signature", "verify_actor"]


class WorkloadVerifier(Protocol):
    """Verifies what workloads sign. An audit of many sessions has it done ahead, on all cores."""

    def identity(self, envelope: Envelope, actor: Workload, root: Root, at: int) -> str:
        """Return the identity of ``actor``, of whom ``envelope`` says that it signed, once its certificate chain leads
        to the SPIFFE roots of ``root`` at time ``at``. Raises ``IntegrityError`` or ``FormatError``.
        """
        ...

    def signature(self, envelope: Envelope, actor: Workload) -> None:
        """Require that the key of the leaf of ``actor`` made the only signature. Raises as ``identity`` does."""
        ...


class Inline:
    """Verifies at once."""

    def identity(self, envelope: Envelope, actor: Workload, root: Root, at: int) -> str:  # noqa: ARG002 - see the protocol
        """See ``WorkloadVerifier.identity``."""
        return svid.check_chain(actor.x5c, root.spiffe_roots, root.trust_domain, at)

    def signature(self, envelope: Envelope, actor: Workload) -> None:
        """See ``WorkloadVerifier.signature``."""
        envelope.require_svid_signature(actor.x5c[0])


INLINE: Final[WorkloadVerifier] = Inline()


def verify_actor(envelope: Envelope, actor: Actor, root: Root, at: int, verifier: WorkloadVerifier = INLINE) -> Party:
    """Verify that ``actor`` alone signed ``envelope`` with a key that ``root`` gives it at time ``at``.

    Raises ``IntegrityError`` or ``FormatError``; returns the party with the credential used.
    """
    signature = envelope.only_signature()
    match actor:
        case Person():
            device_signature(envelope, actor.person, root)
            return Party(id=f"person:{actor.person}", credential=signature.keyid)
        case Broker():
            broker = root.broker(actor.broker)
            if broker is None or broker.key_id != signature.keyid:
                message = f"{envelope.payloadType}: not signed with the key of broker {actor.broker} in the trust root"
                raise IntegrityError(message)
            envelope.require_signature(broker.ed25519)
            return Party(id=f"broker:{actor.broker}", credential=signature.keyid)
        case Workload():
            identity = verifier.identity(envelope, actor, root, at)
            credential = hashlib.sha256(actor.x5c[0]).hexdigest()
            if identity != actor.spiffe or credential != signature.keyid:
                message = f"{envelope.payloadType}: the certificate is not that of {actor_name(actor)}"
                raise IntegrityError(message)
            if identity in root.identities:
                # Else a custodian's TLS certificate could file a request on which the custodian then decides.
                message = f"{envelope.payloadType}: {identity} is the identity of a person or broker, not a workload"
                raise IntegrityError(message)
            verifier.signature(envelope, actor)
            return Party(id=actor.spiffe, credential=credential)


def device_signature(envelope: Envelope, person: str, root: Root) -> Party:
    """Verify that a device of ``person`` in ``root``, and nobody else, signed. Raises ``IntegrityError``."""
    signature = envelope.only_signature()
    found = root.device(signature.keyid)
    if found is None or found[0].id != person:
        message = f"{envelope.payloadType}: not signed with a device of {person} that the trust root names"
        raise IntegrityError(message)
    envelope.require_signature(found[1].ed25519)
    return Party(id=f"person:{person}", credential=signature.keyid)
