"""Sharing: among whom a version's key is split, and the commitment to every share. Slots are positional: group g from 0
in the order of ``groups``, index i from 1 in the order of ``slots``.

Generation 0 is signed by the sealer; a later one by a broker, naming the terms of a ``reshare`` request that a quorum
of the last generation approved. The highest logged generation wins.
"""

from typing import Annotated, ClassVar

from msgspec import Meta

from custody.documents.actor import Actor
from custody.documents.codec import Record
from custody.documents.dsse import Document
from custody.values import U64, Deployment, Digest, Name, PersonId, Time, VersionId

__all__ = ["Sharing", "SharingGroup", "Slot", "SlotHolder"]


class Slot(Record, frozen=True, kw_only=True, order=True):
    """A place in a sharing: group g counts from 0, index i from 1."""

    group: Annotated[int, Meta(ge=0, le=15)]
    index: Annotated[int, Meta(ge=1, le=255)]

    def __str__(self) -> str:
        """Show as ``0/1``."""
        return f"{self.group}/{self.index}"


class SlotHolder(Record, frozen=True, kw_only=True):
    """Who holds a slot, and the commitment SHA-256(lp("custody/v1/share")||vid||u8 g||u8 i||y) to the share in it."""

    person: PersonId
    commitment: Digest


class SharingGroup(Record, frozen=True, kw_only=True):
    """One group: any ``threshold`` of its slots rebuild the group's part of the key."""

    name: Name
    threshold: Annotated[int, Meta(ge=1, le=255)]
    slots: Annotated[tuple[SlotHolder, ...], Meta(min_length=1, max_length=255)]


class Sharing(Document, frozen=True, kw_only=True):
    """A sharing of one content's key; all groups must be met."""

    payload_type: ClassVar[str] = "application/vnd.custody.sharing.v1+json"

    deployment: Deployment
    version: VersionId
    content: Digest
    generation: U64
    roster: Name
    groups: Annotated[tuple[SharingGroup, ...], Meta(min_length=1, max_length=16)]
    reshare: Digest | None
    created: Time
    signer: Actor

    def __post_init__(self) -> None:
        """Refuse a sharing that contradicts itself."""
        persons = [holder.person for group in self.groups for holder in group.slots]
        if len(set(persons)) != len(persons):
            message = "groups: a person holds more than one slot"
            raise ValueError(message)
        for group in self.groups:
            if group.threshold > len(group.slots):
                message = f"groups: {group.name} asks {group.threshold} of {len(group.slots)}"
                raise ValueError(message)
        if (self.generation == 0) != (self.reshare is None):
            message = "reshare: generation 0 has none, every later one names the approved terms"
            raise ValueError(message)

    def slots(self) -> dict[Slot, SlotHolder]:
        """Every slot and its holder, in order."""
        return {
            Slot(group=g, index=i): holder
            for g, group in enumerate(self.groups)
            for i, holder in enumerate(group.slots, start=1)
        }

    def slot_of(self, person: str) -> Slot | None:
        """Return the slot a person holds, if any."""
        return next((slot for slot, holder in self.slots().items() if holder.person == person), None)

    def quorum_text(self) -> str:
        """Say the quorum in words: ``2 of alice, bob, carol; and 1 of dave``."""
        return "; and ".join(
            f"{group.threshold} of {', '.join(holder.person for holder in group.slots)}" for group in self.groups
        )
