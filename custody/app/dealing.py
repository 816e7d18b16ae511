"""Dealing: the version's secret is split for a roster, and each share wrapped to the devices of its custodian."""

from contextlib import ExitStack

from custody.crypto import hpke, sharing
from custody.crypto.secret import RandomInto, SecretBytes
from custody.documents.content import Content
from custody.documents.dsse import Envelope
from custody.documents.manifest import Wrap
from custody.documents.root import Root, Roster
from custody.documents.sharing import Sharing, SharingGroup, Slot, SlotHolder
from custody.values import U64

__all__ = ["Shares", "sharing_of", "split_for", "wraps_of"]

Shares = dict[Slot, SecretBytes]
"""By slot, in the order of the roster's persons."""


def split_for(roster: Roster, s: SecretBytes, random_into: RandomInto, stack: ExitStack) -> Shares:
    """Split s for the roster and wipe it. The shares are wiped when the stack unwinds."""
    groups = [sharing.Group(group.threshold, len(group.members)) for group in roster.groups]
    shares = {
        Slot(group=g, index=i): stack.enter_context(share)
        for g, dealt in enumerate(sharing.split(s, groups, random_into))
        for i, share in enumerate(dealt, start=1)
    }
    s.close()
    return shares


def sharing_of(content: Content, roster: Roster, shares: Shares) -> Sharing:
    """Write the sharing of a content: who holds which slot, and what each share commits to."""
    vid = bytes.fromhex(content.vid)

    def holder(group: int, index: int, person: str) -> SlotHolder:
        share = shares[Slot(group=group, index=index)]
        return SlotHolder(person=person, commitment=sharing.share_commitment(vid, group, index, share.view).hex())

    return Sharing(
        deployment=content.deployment,
        version=content.version,
        content=content.digest,
        generation=U64(0),
        roster=roster.name,
        groups=tuple(
            SharingGroup(
                name=group.name,
                threshold=group.threshold,
                slots=tuple(holder(g, i, person) for i, person in enumerate(group.members, start=1)),
            )
            for g, group in enumerate(roster.groups)
        ),
        reshare=None,
        created=content.created,
        signer=content.sealer,
    )


def wraps_of(root: Root, roster: Roster, envelope: Envelope, shares: Shares) -> tuple[Wrap, ...]:
    """Wrap each share to every device of its slot's person."""
    result: list[Wrap] = []
    digest = bytes.fromhex(envelope.digest)
    people = dict(zip(shares, roster.persons, strict=True))
    for slot, share in shares.items():
        person = root.person(people[slot])
        for device in person.devices if person else ():
            info = hpke.wrap_info(digest, slot.group, slot.index, bytes.fromhex(device.key_id))
            result.append(Wrap(slot=slot, device=device.key_id, wrapped=hpke.seal(device.xwing, info, share.view)))
    return tuple(result)
