"""Break glass: open a version with a quorum of key files on one machine. No broker, no log, no database.

The order of checks is that of every open (design section 5), without the log: trust root from the pinned genesis,
signatures of content and sharing, quorum of distinct persons, each share against its commitment, the whole dealing,
key_commit, FLOE headers, and every segment against the sealer's digest before a byte of it is written.

Whoever does this leaves no entry in the log. It is for the day when there is no log, and afterwards the version counts
as copied: re-encrypt it.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from custody.adapters.small_files import explain, explained, sync_directory
from custody.app.versions import Found
from custody.crypto import hpke, schedule, sharing
from custody.crypto.rebuild import Target, rebuild
from custody.crypto.secret import SecretBytes
from custody.documents.manifest import Wrap
from custody.documents.sharing import Slot
from custody.errors import ConflictError, DeniedError, IntegrityError, NotFoundError, UnavailableError
from custody.ports import Store
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile
from custody.segments.seal import LANES
from custody.segments.streams import Finished, Progress, ignore_finished, ignore_progress

__all__ = ["Held", "RecoveredFile", "check_free", "choose_files", "hold", "open_share", "rebuild_key", "write_files"]

_SHARE_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Held:
    """A slot of the sharing that somebody here can open, with the device that ``wrap`` names."""

    slot: Slot
    person: str
    wrap: Wrap


@dataclass(frozen=True, slots=True)
class RecoveredFile:
    """A file as it was written: path in the version, size in bytes, SHA-256 of its plaintext in hex."""

    path: str
    size: int
    sha256: str


def hold(found: Found, key_ids: Sequence[str]) -> list[Held]:
    """Match devices, by key id, to slots, one for each slot. ``DeniedError`` naming who is missing for a quorum.

    No passphrase is needed for this: a key file says whose it is, and opening the wrap proves it.
    """
    wraps = {wrap.device: wrap for wrap in found.manifest.wraps}
    slots = found.sharing.slots()
    held: dict[Slot, Held] = {}
    strangers = 0
    for key_id in key_ids:
        wrap = wraps.get(key_id)
        if wrap is None or wrap.slot not in slots:
            strangers += 1
            continue
        held.setdefault(wrap.slot, Held(wrap.slot, slots[wrap.slot].person, wrap))
    missing = []
    for g, group in enumerate(found.sharing.groups):
        here = {item.person for item in held.values() if item.slot.group == g}
        if len(here) < group.threshold:
            others = ", ".join(holder.person for holder in group.slots if holder.person not in here)
            missing.append(f"{group.threshold - len(here)} more of {others}")
    if missing:
        present = ", ".join(sorted(item.person for item in held.values())) or "nobody"
        note = f" ({strangers} of the key files hold no share of it)" if strangers else ""
        raise DeniedError(
            f"no quorum for {found.content.version}: {present} present{note}; missing {'; and '.join(missing)}",
            hint="give one --key for each custodian; the shares are wrapped to the devices named at sealing",
        )
    return [held[slot] for slot in sorted(held)]


def open_share(found: Found, held: Held, xwing_seed: SecretBytes) -> sharing.Share:
    """Unwrap the share of one slot and check its commitment. ``IntegrityError`` names the custodian.

    The caller closes ``value``.
    """
    slot = held.slot
    info = hpke.wrap_info(
        bytes.fromhex(found.manifest.sharing.digest), slot.group, slot.index, bytes.fromhex(held.wrap.device)
    )
    share = SecretBytes(_SHARE_SIZE)
    try:
        hpke.open_into(xwing_seed, info, held.wrap.wrapped, share)
        commitment = sharing.share_commitment(found.vid, slot.group, slot.index, share.view).hex()
    except IntegrityError as error:
        share.close()
        raise IntegrityError(f"the share of {held.person} does not open: the manifest was altered") from error
    if commitment != found.sharing.slots()[slot].commitment:
        share.close()
        raise IntegrityError(f"the share of {held.person} is not the one that was sealed")
    return sharing.Share(slot.group, slot.index, share)


def rebuild_key(found: Found, shares: Sequence[sharing.Share]) -> SecretBytes:
    """Rebuild K from the shares, which are wiped. Every commitment is checked, then ``key_commit``."""
    target = Target(
        found.content.deployment,
        found.content.version,
        found.vid,
        bytes.fromhex(found.content.key_commit),
        tuple(sharing.Group(group.threshold, len(group.slots)) for group in found.sharing.groups),
        {(slot.group, slot.index): bytes.fromhex(item.commitment) for slot, item in found.sharing.slots().items()},
    )
    try:
        return rebuild(target, shares)
    finally:
        for share in shares:
            share.value.close()


def choose_files(found: Found, paths: Sequence[str]) -> list[int]:
    """Return the indexes of the files named, all of them where none is. ``NotFoundError`` for one it does not hold."""
    indexes = {file.path: index for index, file in enumerate(found.content.files)}
    unknown = next((path for path in paths if path not in indexes), None)
    if unknown is not None:
        raise NotFoundError(f"{found.content.version} holds no file {unknown[:100]!a}")
    return sorted({indexes[path] for path in paths} or indexes.values())


def check_free(out: Path, size: int) -> None:
    """Require that ``out`` is free and ``size`` bytes fit, before anybody types a passphrase.

    ``ConflictError`` where something is there, an empty directory excepted.
    """
    with explained(out):
        if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
            raise ConflictError(f"{out}: exists already", hint="nothing is overwritten: choose another --out")
    parent = out.absolute().parent
    with explained(parent):
        file_system = os.statvfs(parent)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise explain(PermissionError(13, "Permission denied"), parent)
    free = file_system.f_bavail * file_system.f_frsize
    if free < size:
        raise UnavailableError(f"{out}: {size} bytes are needed, {free} are free", hint="choose another file system")


def write_files(
    found: Found,
    store: Store,
    key: SecretBytes,
    out: Path,
    *,
    files: Sequence[int],
    rng: Callable[[int], bytes],
    progress: Progress = ignore_progress,
    finished: Finished = ignore_finished,
    threads: int = LANES,
) -> list[RecoveredFile]:
    """Decrypt files into the new directory ``out``: all of them, or none where one does not verify.

    They are written into a hidden directory beside it (mode 0700), fsynced, and renamed when all are done. ``rng``
    names that directory. ``progress`` is told plaintext bytes, ``finished`` the path of each file that is written.
    """
    with _staging(out, rng) as stage:
        done = []
        for index in files:
            plan = FilePlan.of(found.content, index)
            with ExitStack() as stack:
                opened = stack.enter_context(
                    OpenFile.open(
                        plan,
                        expected=found.content.files[index].digests,
                        file_key=stack.enter_context(schedule.file_key(key, index)),
                        digest_key=stack.enter_context(schedule.digest_key(key, index)),
                        ciphertext=stack.enter_context(closing(store.open(plan.ciphertext_key))),
                        digests=stack.enter_context(closing(store.open(plan.digests_key))),
                    )
                )
                target = stack.enter_context(_NewFile(stage, plan.path))
                opened.copy_to(target, progress=progress, threads=threads)
                done.append(RecoveredFile(plan.path, plan.size, target.finish()))
                finished(plan.path)
    return done


class _NewFile:
    """A file below the staging directory, which nobody else may enter; hashed while it is written."""

    def __init__(self, stage: Path, path: str) -> None:
        # The content's own check refuses absolute paths, "..", backslashes and look-alikes when it is parsed.
        self._path: Final = stage.joinpath(*path.split("/"))
        self._hash: Final = hashlib.sha256()
        with explained(path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)

    def write(self, data: memoryview, /) -> int:
        """Write and hash all of ``data``."""
        view = data
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._hash.update(data)
        return len(data)

    def finish(self) -> str:
        """Make the file durable; return its SHA-256."""
        with explained(self._path):
            os.fsync(self._descriptor)
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


@contextmanager
def _staging(out: Path, rng: Callable[[int], bytes]) -> Iterator[Path]:
    """Lend a hidden directory beside ``out``; rename it to ``out`` at the end, or remove it with all that is in it."""
    target = out.absolute()
    stage = target.with_name(f".{target.name}.{rng(8).hex()}.partial")
    with explained(target):
        stage.mkdir(0o700)
    try:
        yield stage
        with explained(target):
            for folder in sorted(path for path in stage.rglob("*") if path.is_dir()):
                sync_directory(folder)
            sync_directory(stage)
            stage.rename(target)  # replaces an empty directory and nothing else
            sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
