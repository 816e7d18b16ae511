"""Sealing: encrypt a version, split its key among the custodians who guard its name, and make it visible.

Only public keys are needed: nobody is asked, and afterwards nobody holds the key. Ciphertext is written first and the
manifest last; so a seal that dies leaves nothing that anyone can see, and starting again is clean.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from custody.app.dealing import sharing_of, split_for, wraps_of
from custody.app.versions import MAX_MANIFEST, verify_manifest
from custody.crypto import schedule, sharing
from custody.crypto.secret import RandomInto
from custody.documents.actor import Person, Workload
from custody.documents.content import SEGMENT_SIZES, Content, Label
from custody.documents.dsse import Signer, sign
from custody.documents.manifest import Manifest
from custody.documents.root import Root, Roster
from custody.documents.sharing import Sharing
from custody.errors import DeniedError, FormatError
from custody.ports import Clock, Rng
from custody.segments.seal import LANES, seal_version
from custody.segments.sealing_queue import FileToSeal
from custody.segments.streams import Finished, Progress, Sink, ignore_finished, ignore_progress
from custody.values import U64, Time

__all__ = ["OVER_A_NETWORK", "SEGMENT", "Sealed", "Sealing", "Target", "guarding_roster", "person_of", "seal"]

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


OVER_A_NETWORK: Final = 16
"""Files that end at once where each end waits for answers of a store or a broker."""


class Target(Protocol):
    """Where a sealer writes a version: a store, or a broker that writes it into one."""

    @property
    def ends(self) -> int:
        """How many files may end at once: a few on a disk, more over a network, where each end is a wait."""
        ...

    def sealing(self, vid: bytes, job: Sealing) -> AbstractContextManager[object]:
        """Be told what is coming, for the length of a block; when that raises, throw away what was written of it.

        Best effort: what is not published is invisible anyway. ``ConflictError`` where the name is taken.
        """
        ...

    def writer(self, key: str) -> AbstractContextManager[Sink]:
        """See ``Store.writer``."""
        ...

    def give_up(self) -> None:
        """Be told that all is in vain, perhaps more than once, from any thread; does not wait. Whoever writes or ends
        may then raise ``GivenUpError`` instead of waiting for a network.
        """
        ...

    def publish(self, vid: bytes, manifest: bytes) -> None:
        """Make the version visible. ``ConflictError`` where somebody was faster."""
        ...


def seal(
    job: Sealing,
    *,
    root: Root,
    target: Target,
    rng: Rng,
    random_into: RandomInto,
    clock: Clock,
    progress: Progress = ignore_progress,
    finished: Finished = ignore_finished,
    threads: int = LANES,
) -> Sealed:
    """Seal a version into ``target`` under ``root``, the verified trust root in force.

    ``progress`` is told plaintext bytes, ``finished`` the path of each file that the target has whole.

    Raises ``DeniedError`` where the root does not let this sealer seal this name, ``ConflictError`` where the name is
    taken; then, and on every other error, nothing of the version is visible.
    """
    roster = guarding_roster(root, job.version, job.sealer, job.segment)
    if not job.files:
        raise FormatError(f"{job.version}: there is no file to seal")
    vid = rng(schedule.VID_SIZE)
    with target.sealing(vid, job), ExitStack() as stack:
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
            ends=target.ends,
            give_up=target.give_up,
        )
        content = Content.parse(
            Content(
                deployment=root.deployment,
                version=job.version,
                vid=vid.hex(),
                key_commit=schedule.key_commit(key).hex(),
                created=Time(clock()),
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
        shares = split_for(roster, s, random_into, stack)
        shared = sharing_of(content, roster, shares)
        sharing_envelope = sign(shared, [job.signer])
        manifest = Manifest(
            content=content_envelope, sharing=sharing_envelope, wraps=wraps_of(root, roster, sharing_envelope, shares)
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


def _checked(manifest: Manifest, root: Root) -> bytes:
    """Judge the manifest as its readers will, before anybody can see it."""
    encoded = manifest.encode()
    if len(encoded) > MAX_MANIFEST:
        raise FormatError(f"the manifest has {len(encoded)} bytes, at most {MAX_MANIFEST} are allowed")
    verify_manifest(Manifest.parse(encoded), [root])
    return encoded
