"""A second copy of what is sealed, in another store: for the day when somebody deletes the first."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Final

from custody.app.versions import MAX_MANIFEST
from custody.documents.content import Content
from custody.documents.manifest import Manifest
from custody.errors import ConflictError, IntegrityError
from custody.ports import Store
from custody.segments.layout import FilePlan, manifest_key
from custody.segments.scrub import check_stored
from custody.segments.streams import Progress, ignore_progress

__all__ = ["Copied", "Meters", "copy_versions", "unmetered"]

_PIECE: Final = 1 << 20
_VERSIONS: Final = "versions/"
_MANIFEST: Final = "/manifest.json"


@dataclass(frozen=True, slots=True)
class Copied:
    """What was done with a version: its name, its stored bytes, and whether it was there already."""

    version: str
    size: int
    was_there: bool


Meters = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes what is told the bytes of a version that are copied and checked; given its name and their sum."""


def unmetered(_version: str, _size: int, /) -> AbstractContextManager[Progress]:
    """Tell nobody."""
    return nullcontext(ignore_progress)


def copy_versions(source: Store, target: Store, done: Callable[[Copied], None], meters: Meters = unmetered) -> None:
    """Copy every version of ``source`` that ``target`` lacks; ``done`` is told of each. No key is needed, none is seen.

    The blobs are read back from ``target`` and compared with the digests in the content; the manifest goes last. So a
    copy that was interrupted is not visible there, and starting again goes on. Nothing is ever deleted or replaced.
    Raises ``IntegrityError`` for a source whose blobs are not what its content names: that is not a copy worth having.
    """
    for key in list(source.list(_VERSIONS)):
        if not key.endswith(_MANIFEST):
            continue
        data = source.get(key, MAX_MANIFEST)
        content = Manifest.parse(data).content.document(Content)
        if key != manifest_key(bytes.fromhex(content.vid)):
            raise IntegrityError(f"{key}: a manifest under another vid than its own")
        plans = [FilePlan.of(content, index) for index in range(len(content.files))]
        size = sum(length for plan in plans for _, length in _blobs(plan))
        if target.exists(key):
            if target.get(key, MAX_MANIFEST) != data:
                raise ConflictError(f"{content.version}: the copy has another manifest")
            done(Copied(content.version, size, was_there=True))
            continue
        missing = [(name, length) for plan in plans for name, length in _blobs(plan) if not target.exists(name)]
        with meters(content.version, sum(length for _, length in missing) + size) as progress:
            for name, _ in missing:
                _copy(source, target, name, progress)
            for plan, file in zip(plans, content.files, strict=True):
                with (
                    closing(target.open(plan.ciphertext_key)) as blob,
                    closing(target.open(plan.digests_key)) as digests,
                ):
                    check_stored(plan, file, blob, digests, progress=progress)
            target.put_new(key, data)
        done(Copied(content.version, size, was_there=False))


def _blobs(plan: FilePlan) -> tuple[tuple[str, int], tuple[str, int]]:
    return (plan.ciphertext_key, plan.stored_size), (plan.digests_key, plan.digests_size)


def _copy(source: Store, target: Store, key: str, progress: Progress) -> None:
    buffer = memoryview(bytearray(_PIECE))
    with closing(source.open(key)) as reader, target.writer(key) as writer:  # durable: ``exists`` is believed next time
        for offset in range(0, reader.size, _PIECE):
            piece = buffer[: reader.size - offset]
            reader.read_into(offset, piece)
            writer.write(piece)
            progress(len(piece))
