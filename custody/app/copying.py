"""A second copy of what is sealed, in another store: for the day when somebody deletes the first."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, NamedTuple

from custody.app.versions import MAX_MANIFEST
from custody.crypto.digests import digest
from custody.documents.content import Content, File
from custody.documents.manifest import Manifest
from custody.errors import ConflictError, IntegrityError
from custody.ports import BlobReader, Store
from custody.segments.layout import FilePlan, manifest_key
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


class _Blob(NamedTuple):
    """A blob as the content names it: bytes, and their BLAKE3 digest."""

    key: str
    size: int
    digest: bytes


Meters = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes what is told the bytes of a version that are copied and checked; given its name and their sum."""


def unmetered(_version: str, _size: int, /) -> AbstractContextManager[Progress]:
    """Tell nobody."""
    return nullcontext(ignore_progress)


def copy_versions(source: Store, target: Store, done: Callable[[Copied], None], meters: Meters = unmetered) -> None:
    """Copy every version of ``source`` that ``target`` lacks; ``done`` is told of each. No key is needed, none is seen.

    The blobs are compared with the digests in the content twice: while they are copied, for what is wrong in ``source``
    must not get a name in ``target``; and there, where others may lie already. The manifest goes last. So a copy that
    was interrupted is not visible there, and starting again goes on. Nothing is ever deleted or replaced.
    Raises ``IntegrityError`` for a blob in either store that is not what the content names, saying which and where.
    """
    for key in list(source.list(_VERSIONS)):
        if not key.endswith(_MANIFEST):
            continue
        data = source.get(key, MAX_MANIFEST)
        content = Manifest.parse(data).content.document(Content)
        if key != manifest_key(bytes.fromhex(content.vid)):
            raise IntegrityError(f"{key}: a manifest under another vid than its own")
        blobs = [blob for index, file in enumerate(content.files) for blob in _blobs(FilePlan.of(content, index), file)]
        size = sum(blob.size for blob in blobs)
        if target.exists(key):
            if target.get(key, MAX_MANIFEST) != data:
                raise ConflictError(f"{content.version}: the copy has another manifest")
            done(Copied(content.version, size, was_there=True))
            continue
        missing = [blob for blob in blobs if not target.exists(blob.key)]
        with meters(content.version, sum(blob.size for blob in missing) + size) as progress:
            for blob in missing:
                _copy(source, target, blob, progress)
            for blob in blobs:
                _check(target, blob, progress)
            target.put_new(key, data)
        done(Copied(content.version, size, was_there=False))


def _blobs(plan: FilePlan, file: File) -> tuple[_Blob, _Blob]:
    return (
        _Blob(plan.ciphertext_key, plan.stored_size, bytes.fromhex(file.ciphertext)),
        _Blob(plan.digests_key, plan.digests_size, bytes.fromhex(file.digests)),
    )


def _copy(source: Store, target: Store, blob: _Blob, progress: Progress) -> None:
    with (
        closing(source.open(blob.key)) as reader,
        target.writer(blob.key) as writer,  # durable: ``exists`` is believed next time
    ):
        where = "in the store that is copied"
        _require_sealed(blob, reader, writer.write, progress, where, "mend it there, then copy again")


def _check(target: Store, blob: _Blob, progress: Progress) -> None:
    with closing(target.open(blob.key)) as reader:
        where = "in the store that is copied to"
        _require_sealed(blob, reader, _leave, progress, where, "remove this blob there, then copy again")


def _require_sealed(  # noqa: PLR0917 - what is read, and what is said where it is wrong
    blob: _Blob, reader: BlobReader, take: Callable[[memoryview], None], progress: Progress, where: str, cure: str
) -> None:
    """Read a blob whole, and have each piece taken. ``IntegrityError`` where it is not the one that was sealed."""
    if reader.size != blob.size:
        raise IntegrityError(f"{blob.key}: {reader.size} bytes {where}, {blob.size} were sealed", hint=cure)
    if not compare_digest(digest(_pieces(reader, take, progress)), blob.digest):
        raise IntegrityError(f"{blob.key}: the bytes {where} are not those that were sealed", hint=cure)


def _pieces(reader: BlobReader, take: Callable[[memoryview], None], progress: Progress) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_PIECE))
    for offset in range(0, reader.size, _PIECE):
        piece = buffer[: reader.size - offset]
        reader.read_into(offset, piece)
        take(piece)
        yield piece
        progress(len(piece))


def _leave(_piece: memoryview) -> None:
    """Take nothing."""
