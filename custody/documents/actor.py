"""Who speaks in a document: a person with a device of the trust root, a workload with its SVID, or a broker.

A person's and a broker's keys are looked up in the root by key id. A workload brings its certificate chain ``x5c``
(DER, leaf first; RFC 7515 section 4.1.6 without the base64 detour) inside the signed payload, and the chain must lead
to the SPIFFE roots that the trust root names.
"""

from typing import Annotated

from msgspec import Meta

from custody.documents.codec import Record
from custody.values import PersonId, SpiffeId

__all__ = ["Actor", "Broker", "Person", "Workload", "actor_name"]


class Person(Record, frozen=True, kw_only=True, tag_field="actor", tag="person"):
    """A person of the trust root; signed with one of the person's device keys."""

    person: PersonId


class Workload(Record, frozen=True, kw_only=True, tag_field="actor", tag="workload"):
    """A workload; signed with the key of ``x5c[0]``, whose only URI SAN is ``spiffe``."""

    spiffe: SpiffeId
    x5c: Annotated[tuple[Annotated[bytes, Meta(min_length=1, max_length=16384)], ...], Meta(min_length=1, max_length=8)]


class Broker(Record, frozen=True, kw_only=True, tag_field="actor", tag="broker"):
    """A broker of the trust root; signed with its key there."""

    broker: PersonId


Actor = Person | Workload | Broker


def actor_name(actor: Actor) -> str:
    """Return how an actor is shown: ``alice``, ``spiffe://…`` or ``broker broker-1``."""
    match actor:
        case Person():
            return actor.person
        case Workload():
            return actor.spiffe
        case Broker():
            return f"broker {actor.broker}"
