"""Uploads: a sealer writes a new version into the store through the broker, without credentials of the store.

An upload is for one name, which the trust root in force lets the caller seal; for blobs of exactly the sizes that were
announced, under a vid that nothing uses; and for a bounded time. Its blobs lie where those of a version lie, but a
version is what has a manifest in the log: that comes last, and the broker writes it. So nobody ever sees an upload that
was not finished.

What a broker knows of an upload is in its memory. A note ``uploads/<vid>`` in the store says whose it is, so that the
next life of a broker throws away what a crash left behind, when somebody begins an upload.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from custody.broker.blobs import BlobUpload, PresignedBlob, StreamedBlob, part_size
from custody.broker.context import Context, Peer, known_peer
from custody.broker.upload_sessions import MAX_BLOBS_OPEN, Upload
from custody.broker.versions import MAX_DIGESTS, register
from custody.documents.content import SEGMENT_SIZES, Content
from custody.documents.manifest import Manifest
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, StoreError, UnavailableError
from custody.ports import Presigned, Presigner, Sweeper
from custody.rules.sealing import check_sealer
from custody.segments.layout import FilePlan, manifest_key, version_prefix
from custody.values import VersionId

__all__ = ["abort", "begin", "finish", "finish_blob", "presigns", "sign_parts", "write"]

_SECONDS: Final = 900  # how long a signed request holds
_MOST_FILES: Final = 50_000  # of a content
_NOTES: Final = "uploads/"
_ABANDONED: Final = 48 * 3600  # longer than any upload may take
_VID: Final = 32


def begin(  # noqa: PLR0917 - in the order of the message
    context: Context, peer: Peer, version: str, vid: bytes, segment: int, sizes: Sequence[int]
) -> Upload:
    """Begin an upload. ``DeniedError`` where the caller may not seal that name, ``ConflictError`` where it is taken.

    Fine to repeat, since its answer may be lost: the caller gets the upload back that has begun, for as long as nothing
    of it has. Afterwards somebody has had the answer. Whoever asks again then is another program with the same vid, and
    in one blob the bytes of two sealings must not meet.
    """
    _check_name(context, peer, version)
    if len(vid) != _VID or segment not in SEGMENT_SIZES or not 1 <= len(sizes) <= _MOST_FILES:
        raise FormatError("upload: vid, segment size or number of files is not what a version has")
    plans = [FilePlan(vid, index, size, segment, f"file {index}") for index, size in enumerate(sizes)]
    limits, now = context.uploads.limits, context.ledger.clock()
    if sum(plan.stored_size + plan.digests_size for plan in plans) > limits.size:
        raise DeniedError(f"upload: more than the {limits.size} bytes that this broker takes at once")
    if sum(plan.digests_size for plan in plans) > MAX_DIGESTS:
        raise FormatError(f"upload: digest lists of more than {MAX_DIGESTS} bytes", hint="use a larger segment")
    _tidy(context, now)
    upload = Upload(
        id=context.ledger.rng(16).hex(),
        identity=peer.identity,
        version=version,
        vid=vid,
        plans=plans,
        part_size=part_size(max(plan.stored_size for plan in plans)),
        expires=now + limits.seconds,
        heard=now,
    )
    with upload.lock:  # whoever finds it waits until it has begun
        found = _add(context, upload, now)
        if found is upload:
            _claim(context, upload)
            return upload
    return _again(found, now)


def presigns(context: Context) -> bool:
    """Tell whether blobs go to the store itself, by signed requests, or through this broker."""
    return isinstance(context.store, Presigner)


def sign_parts(  # noqa: PLR0917 - in the order of the message
    context: Context, peer: Peer, upload: str, place: tuple[int, bool], first: int, parts: int
) -> Sequence[Presigned]:
    """Return the requests that write parts of a blob. ``FormatError`` where the store cannot sign."""
    found = context.uploads.get(upload, peer.identity, context.ledger.clock())
    blob = _blob(context, found, place)
    if not isinstance(blob, PresignedBlob):
        raise FormatError("upload: this store takes its bytes through the broker")
    left = found.expires - context.ledger.clock()
    return blob.sign(first, parts, max(1, min(_SECONDS, left)))


def write(  # noqa: PLR0917 - in the order of the message
    context: Context, peer: Peer, upload: str, place: tuple[int, bool], offset: int, data: bytes
) -> int:
    """Take bytes of a blob from ``offset`` on; return how many there are of it now."""
    found = context.uploads.get(upload, peer.identity, context.ledger.clock())
    if place in found.done:
        return _size(found, place)
    blob = _blob(context, found, place)
    if not isinstance(blob, StreamedBlob):
        raise FormatError("upload: this store takes its bytes by signed requests")
    return blob.write(offset, data)


def finish_blob(context: Context, peer: Peer, upload: str, place: tuple[int, bool]) -> int:
    """Take a blob for whole; return its size. Fine to repeat. ``IntegrityError`` when bytes of it are missing."""
    found = context.uploads.get(upload, peer.identity, context.ledger.clock())
    with found.lock:
        if place not in found.done:
            blob = found.coming.get(place)
            if blob is None:
                raise FormatError("upload: a blob that was never begun")
            blob.finish()
            found.done.add(place)
            del found.coming[place]
    return _size(found, place)


def finish(context: Context, peer: Peer, upload: str, manifest: bytes) -> int:
    """Register the version that was uploaded; return the index of its entry. Fine to repeat: its answer may be lost."""
    found = context.uploads.get(upload, peer.identity, context.ledger.clock())
    if not found.complete:
        raise FormatError(f"upload: {len(found.done)} of {2 * len(found.plans)} blobs are there")
    content = Manifest.parse(manifest).content.document(Content)
    if bytes.fromhex(content.vid) != found.vid or content.version != found.version:
        raise FormatError(f"the manifest is of {content.version}, the upload of {found.version}, or of another vid")
    with found.lock:
        if found.over:
            raise DeniedError("the upload is over", hint="seal again")
        index = register(context, peer, manifest, store=True)
        found.registered = True
    with suppress(StoreError):  # the next life of this broker finds the note, and the version in the log
        context.store.delete(_NOTES + found.vid.hex())
    return index


def abort(context: Context, peer: Peer, upload: str) -> None:
    """Throw an upload away; fine when there is none."""
    try:
        found = context.uploads.get(upload, peer.identity, context.ledger.clock())
    except CustodyError:
        return
    _discard(context, found)


def _check_name(context: Context, peer: Peer, version: str) -> None:
    try:
        msgspec.convert(version, VersionId)
    except msgspec.ValidationError:
        raise FormatError(f"{version[:200]!a} is not the name of a version") from None
    with context.ledger.reading() as state:
        who = known_peer(state, peer) or peer.identity
        check_sealer(state.root, who, version)
        if version in state.versions:
            raise ConflictError(f"{version} exists already", hint="a version never changes; seal under another label")


def _add(context: Context, upload: Upload, now: int) -> Upload:
    """Find room for an upload: where there is none, an idle one of the same sealer ends for it, never anybody else's.

    A sealer that was killed aborts nothing, and would shut its next lives out until its uploads are overdue.
    """
    try:
        return context.uploads.add(upload)
    except UnavailableError:
        idle = context.uploads.idlest(upload.identity, now)
        if idle is None:
            raise
        _discard(context, idle)
        return context.uploads.add(upload)


def _claim(context: Context, upload: Upload) -> None:
    """Take the vid of an upload that was added; it is gone again when this raises."""
    try:
        if _registered(context, upload.vid) or any(True for _ in context.store.list(version_prefix(upload.vid))):
            raise DeniedError("this vid is in use")
        context.store.put_new(_NOTES + upload.vid.hex(), context.ledger.identity.id.encode())
    except BaseException:
        upload.over = True
        context.uploads.remove(upload)
        raise


def _again(upload: Upload, now: int) -> Upload:
    """Return an upload to its owner, who begins it again, once the first time is through."""
    with upload.lock:
        if upload.over:
            raise UnavailableError("this upload has just ended", hint="try again")
        if upload.coming or upload.done:
            raise DeniedError("this vid is in use")
        upload.heard = max(upload.heard, now)
        return upload


def _blob(context: Context, upload: Upload, place: tuple[int, bool]) -> BlobUpload:
    """Return a blob that is coming in, begun now if it was not."""
    file, digests = place
    if not 0 <= file < len(upload.plans):
        raise FormatError(f"upload: it has files 0 to {len(upload.plans) - 1}")
    with upload.lock:
        if upload.over or place in upload.done:
            raise DeniedError("upload: this blob is finished")
        found = upload.coming.get(place)
        if found is None:
            if len(upload.coming) >= MAX_BLOBS_OPEN:
                raise UnavailableError(f"upload: {MAX_BLOBS_OPEN} blobs are under way", hint="finish one first")
            plan = upload.plans[file]
            key = plan.digests_key if digests else plan.ciphertext_key
            store, size = context.store, _size(upload, place)
            found = upload.coming[place] = (
                PresignedBlob(store, key, size, upload.part_size)
                if isinstance(store, Presigner)
                else StreamedBlob(store, key, size)
            )
        return found


def _size(upload: Upload, place: tuple[int, bool]) -> int:
    plan = upload.plans[place[0]]
    return plan.digests_size if place[1] else plan.stored_size


def _registered(context: Context, vid: bytes) -> bool:
    with context.ledger.reading() as state:
        return any(found.content.vid == vid.hex() for found in state.versions.values())


def _discard(context: Context, upload: Upload) -> None:
    with upload.lock:
        if upload.over or upload.registered:
            context.uploads.remove(upload)
            return
        upload.over = True
        for blob in upload.coming.values():
            blob.discard()
        upload.coming.clear()
        with suppress(StoreError):  # the note stays then, and the next life of this broker tries again
            _delete(context, upload.vid)
    context.uploads.remove(upload)


def _delete(context: Context, vid: bytes) -> None:
    """Delete the blobs under a vid, the manifest first, unless they became a version; then the note."""
    if not _registered(context, vid):
        context.store.delete(manifest_key(vid))
        for key in list(context.store.list(version_prefix(vid))):
            context.store.delete(key)
    context.store.delete(_NOTES + vid.hex())


def _tidy(context: Context, now: int) -> None:
    """Throw away what is overdue and, once in a broker's life, what its last one left."""
    for upload in context.uploads.overdue(now):
        _discard(context, upload)
    with context.uploads.tidying() as first:
        if not first:
            return
        if isinstance(context.store, Sweeper):
            context.store.sweep(now, _ABANDONED)
        for key in list(context.store.list(_NOTES)):
            if context.store.get(key, 1024) == context.ledger.identity.id.encode():
                _delete(context, bytes.fromhex(key.removeprefix(_NOTES)))
