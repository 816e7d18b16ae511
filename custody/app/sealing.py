"""Sealing: encrypt a version, split its key among the custodians who guard its name, and make it visible.

Only public keys are needed: nobody is asked, and afterwards nobody holds the key. Ciphertext is written first and the
manifest last; so a seal that dies leaves nothing that anyone can see, and starting again is clean.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from custody.app.versions import MAX_MANIFEST, has_version, verify_manifest
from custody.crypto import hpke, schedule, sharing
from custody.crypto.secret import RandomInto, SecretBytes
from custody.documents.actor import Person, Workload
from custody.documents.content import SEGMENT_SIZES, Content, Label
from custody.documents.dsse import Envelope, Signer, sign
from custody.documents.manifest import Manifest, Wrap
from custody.documents.root import Root, Roster
from custody.documents.sharing import Sharing, SharingGroup, Slot, SlotHolder
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError
from custody.ports import Clock, Rng, Store
from custody.segments.layout import manifest_key, version_prefix
from custody.segments.seal import LANES, FileToSeal, seal_version
from custody.segments.streams import Finished, Progress, Sink, ignore_finished, ignore_progress
from custody.values import U64, Time

__all__ = ["SEGMENT", "IntoStore", "Sealed", "Sealing", "Target", "guarding_roster", "person_of", "require_new", "seal"]

SEGMENT: Final = 1 << 20
"""Default plaintext segment, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """What is to be sealed as what, by whom. ``segment`` is a power of two in bytes."""

    version: str
    files: Sequence[FileToSeal]
    sealer: Person | Workload
    signer: Signer
    segment: int = SEGMENT
    retention: str = "standard"
    labels: Sequence[tuple[str, str]] = ()
    lineage: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A version that is visible in its store."""

    manifest: Manifest
    content: Content
    sharing: Sharing


class Target(Protocol):
    """Where a sealer writes a version: a store, or a broker that writes it into one."""

    def begin(self, vid: bytes, job: Sealing) -> None:
        """Be told what is coming. ``ConflictError`` where the name is taken."""
        ...

    def writer(self, key: str) -> AbstractContextManager[Sink]:
        """See ``Store.writer``."""
        ...

    def publish(self, vid: bytes, manifest: bytes) -> None:
        """Make the version visible. ``ConflictError`` where somebody was faster."""
        ...

    def discard(self, vid: bytes) -> None:
        """Throw away what was written of a version that will not be, best effort: it is invisible anyway."""
        ...


@dataclass(frozen=True, slots=True)
class IntoStore:
    """``Target`` for whoever may write the store."""

    store: Store
    version: str

    def begin(self, _vid: bytes, _job: Sealing) -> None:
        """See ``Target.begin``."""
        require_new(self.store, self.version)

    def writer(self, key: str) -> AbstractContextManager[Sink]:
        """See ``Target.writer``."""
        return self.store.writer(key)

    def publish(self, vid: bytes, manifest: bytes) -> None:
        """See ``Target.publish``."""
        require_new(self.store, self.version)  # somebody may have been faster while the files were encrypted
        self.store.put_new(manifest_key(vid), manifest)

    def discard(self, vid: bytes) -> None:
        """See ``Target.discard``. The manifest goes first: a store may have made it visible and failed to say so."""
        with suppress(CustodyError):
            self.store.delete(manifest_key(vid))
            for key in list(self.store.list(version_prefix(vid))):
                self.store.delete(key)


def seal(
    job: Sealing,
    *,
    root: Root,
    target: Target,
    rng: Rng,
    random_into: RandomInto,
    clock: Clock,
    begin: Callable[[str], AbstractContextManager[object]] = nullcontext,
    progress: Progress = ignore_progress,
    finished: Finished = ignore_finished,
    threads: int = LANES,
) -> Sealed:
    """Seal a version into ``target`` under ``root``, the verified trust root in force.

    ``begin`` is entered with the vid before the first blob is written, and left when the version is visible or its
    blobs are gone: whoever keeps a note there finds what a killed process left behind. ``progress`` is told plaintext
    bytes, ``finished`` the path of each file that the target has whole.

    Raises ``DeniedError`` where the root does not let this sealer seal this name, ``ConflictError`` where the name is
    taken; then, and on every other error, nothing of the version is visible.
    """
    roster = guarding_roster(root, job.version, job.sealer, job.segment)
    if not job.files:
        raise FormatError(f"{job.version}: there is no file to seal")
    vid = rng(schedule.VID_SIZE)
    target.begin(vid, job)
    with begin(vid.hex()), ExitStack() as stack:
        stack.push(lambda kind, *_: target.discard(vid) if kind is not None else None)
        s = stack.enter_context(sharing.random_scalar(random_into))
        # K stays for as long as files need their keys; s is split at the end, so no shares lie about meanwhile.
        key = stack.enter_context(schedule.version_key(s, vid, root.deployment, job.version))
        files = seal_version(
            job.files,
            vid=vid,
            version_key=key,
            segment=job.segment,
            writer=target.writer,
            rng=rng,
            progress=progress,
            finished=finished,
            threads=threads,
        )
        now = Time(clock())
        content = Content.parse(
            Content(
                deployment=root.deployment,
                version=job.version,
                vid=vid.hex(),
                key_commit=schedule.key_commit(key).hex(),
                created=now,
                sealer=job.sealer,
                segment=U64(job.segment),
                files=files,
                lineage=tuple(job.lineage),
                labels=tuple(Label(name=name, value=value) for name, value in job.labels),
                retention=job.retention,
                key_kind="shared",
                series=None,
            ).encode()
        )
        key.close()
        content_envelope = sign(content, [job.signer])
        shares = _split(s, roster, random_into, stack)
        shared = _sharing(root, job, content, roster, vid, shares, now)
        sharing_envelope = sign(shared, [job.signer])
        manifest = Manifest(
            content=content_envelope, sharing=sharing_envelope, wraps=_wraps(root, roster, sharing_envelope, shares)
        )
        encoded = _checked(manifest, root)
        target.publish(vid, encoded)
    return Sealed(manifest, content, shared)


def guarding_roster(root: Root, version: str, sealer: Person | Workload, segment: int) -> Roster:
    """Return the roster whose custodians will hold the key, after checking what can be checked before any work.

    Raises ``DeniedError`` where the root does not permit this sealer this name or nobody guards it, ``FormatError``
    for a segment size that is none.
    """
    who = sealer.person if isinstance(sealer, Person) else sealer.spiffe
    if not root.may_seal(who, version):
        allowed = [", ".join(item.names) for item in root.sealers if item.sealer == who]
        raise DeniedError(
            f"{who} may not seal {version}",
            hint=f"the trust root lets {who} seal {'; '.join(allowed)}" if allowed else "the trust root names sealers",
        )
    if segment not in SEGMENT_SIZES:
        raise FormatError(
            f"a segment of {segment} bytes", hint=f"a power of two, {SEGMENT_SIZES[0]} to {SEGMENT_SIZES[-1]}"
        )
    roster = root.roster_for(version)
    if roster is None:
        raise DeniedError(f"no roster guards {version}", hint="add its name to a roster in the trust root")
    return roster


def person_of(root: Root, key_id: str) -> Person:
    """Return the person whose device has this key id. ``DeniedError`` where the root names no such device."""
    found = root.device(key_id)
    if found is None:
        raise DeniedError(
            f"the trust root of epoch {root.epoch} does not name this key ({key_id[:16]}…)",
            hint="use the key file of a device in the trust root; custody root show lists them",
        )
    return Person(person=found[0].id)


def require_new(store: Store, version: str) -> None:
    """Raise ``ConflictError`` where the store holds this name and label."""
    if has_version(store, version):
        raise ConflictError(
            f"{version} exists already in this store", hint="a version never changes; seal under another label"
        )


def _split(s: SecretBytes, roster: Roster, random_into: RandomInto, stack: ExitStack) -> dict[Slot, SecretBytes]:
    """Split s for the roster and wipe it. The shares are wiped when the stack unwinds."""
    groups = [sharing.Group(group.threshold, len(group.members)) for group in roster.groups]
    shares = {
        Slot(group=g, index=i): stack.enter_context(share)
        for g, dealt in enumerate(sharing.split(s, groups, random_into))
        for i, share in enumerate(dealt, start=1)
    }
    s.close()
    return shares


def _sharing(  # noqa: PLR0917 - in the order of the document
    root: Root,
    job: Sealing,
    content: Content,
    roster: Roster,
    vid: bytes,
    shares: dict[Slot, SecretBytes],
    now: Time,
) -> Sharing:
    def holder(group: int, index: int, person: str) -> SlotHolder:
        share = shares[Slot(group=group, index=index)]
        return SlotHolder(person=person, commitment=sharing.share_commitment(vid, group, index, share.view).hex())

    return Sharing(
        deployment=root.deployment,
        version=job.version,
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
        created=now,
        signer=job.sealer,
    )


def _wraps(root: Root, roster: Roster, envelope: Envelope, shares: dict[Slot, SecretBytes]) -> tuple[Wrap, ...]:
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


def _checked(manifest: Manifest, root: Root) -> bytes:
    """Judge the manifest as its readers will, before anybody can see it."""
    encoded = manifest.encode()
    if len(encoded) > MAX_MANIFEST:
        raise FormatError(f"the manifest has {len(encoded)} bytes, at most {MAX_MANIFEST} are allowed")
    verify_manifest(Manifest.parse(encoded), [root])
    return encoded
