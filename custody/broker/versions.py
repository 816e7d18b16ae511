"""Versions: taking a sealed one into custody, and showing what there is."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from custody.broker.context import Context, Peer, known_peer
from custody.broker.retention import lock_version
from custody.crypto.digests import check_digest
from custody.documents.content import Content
from custody.documents.dsse import Envelope
from custody.documents.manifest import Manifest, Wrap
from custody.documents.root import Root
from custody.documents.sharing import Sharing
from custody.errors import ConflictError, FormatError, IntegrityError, NotFoundError
from custody.ports import BlobReader, Settler
from custody.rules.sealing import check_sealer
from custody.rules.signers import verify_actor
from custody.rules.state import VersionState
from custody.segments.layout import FilePlan, manifest_key

__all__ = ["MAX_DIGESTS", "MAX_MANIFEST", "VersionView", "get_version", "list_versions", "register"]

MAX_MANIFEST: Final = 64 << 20
"""Bytes of a manifest."""

MAX_DIGESTS: Final = 1 << 30
"""Bytes of all digest lists of a version: 32 TiB of weights in segments of 1 MiB."""

_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version: its signed documents, the index of its entry, and the caller's own wraps."""

    version: str
    content: Envelope
    sharing: Envelope
    place: int
    wraps: Sequence[Wrap]


def register(context: Context, peer: Peer, data: bytes, *, store: bool = False) -> int:
    """Take a sealed version into custody: everything that will be needed to open it must be there and whole.

    ``store`` puts the manifest there, after everything else was checked (uploads). Returns the index of its entry; the
    same manifest again returns that of the first time.
    """
    manifest = Manifest.parse(data)
    content, sharing = manifest.documents()
    ledger = context.ledger
    with ledger.reading() as state:
        known_peer(state, peer)
        known = state.versions.get(content.version)
        if known is not None and known.content_digest == manifest.content.digest:
            index = int(known.entry.index)
        elif known is not None:
            message = f"{content.version} exists already with other content"
            raise ConflictError(message, hint="a version never changes; seal under another label")
        else:
            root = state.root
            # Who may seal nothing under this name makes the broker read nothing: digest lists may be a gibibyte.
            party = verify_actor(manifest.content, content.sealer, root, ledger.clock())
            check_sealer(root, party.id.removeprefix("person:"), content.version)
            index = -1
    if index < 0:
        _check_wraps(manifest, sharing, root)
        _check_stored(context, content)
        key = manifest_key(bytes.fromhex(content.vid))
        if store:
            if isinstance(context.store, Settler):
                context.store.settle()  # the blobs, before anything leads to them
            context.store.put_new(key, data)
        elif context.store.get(key, MAX_MANIFEST) != data:
            message = f"{content.version}: the manifest in the store is another one"
            raise IntegrityError(message)
        lock_version(context, content)
        with ledger.reading() as state:
            party = verify_actor(manifest.content, content.sealer, state.root, ledger.clock())
            index = ledger.append(
                "manifest",
                actor=party,
                documents={"content": manifest.content, "sharing": manifest.sharing},
                version=content.version,
                content=manifest.content.digest,
                sharing=manifest.sharing.digest,
            )
    return index


def _check_wraps(manifest: Manifest, sharing: Sharing, root: Root) -> None:
    """Every device of every slot's person must have exactly one wrap: a custodian left out could not release."""
    wanted = {
        (slot, device.key_id)
        for slot, holder in sharing.slots().items()
        if (person := root.person(holder.person))
        for device in person.devices
    }
    given = [(wrap.slot, str(wrap.device)) for wrap in manifest.wraps]
    if len(set(given)) != len(given) or set(given) != wanted:
        message = f"manifest of {sharing.version}: not exactly one wrapped share for each device of each custodian"
        raise IntegrityError(message, hint="the trust root may have changed since; seal again")


def _check_stored(context: Context, content: Content) -> None:
    """The store must hold ciphertext and digest lists of the right size and digest.

    Sizes only for the ciphertext: reading it all is scrubbing, and each segment is verified when it is used.
    """
    plans = [FilePlan.of(content, index) for index in range(len(content.files))]
    if sum(plan.digests_size for plan in plans) > MAX_DIGESTS:
        message = f"{content.version}: digest lists of more than {MAX_DIGESTS} bytes"
        raise FormatError(message, hint="seal with a larger segment")
    for plan, file in zip(plans, content.files, strict=True):
        with closing(_open(context, content.version, plan.ciphertext_key, plan.stored_size)):
            pass
        with closing(_open(context, content.version, plan.digests_key, plan.digests_size)) as digests:
            check_digest(
                _pieces(digests), bytes.fromhex(file.digests), f"{content.version}: digest list of {file.path}"
            )


def _open(context: Context, version: str, key: str, size: int) -> BlobReader:
    reader = context.store.open(key)
    if reader.size != size:
        reader.close()
        message = f"{version}: {key} has {reader.size} bytes, expected {size}"
        raise IntegrityError(message, hint="the upload was cut short; seal again")
    return reader


def _pieces(reader: BlobReader) -> Iterator[memoryview]:
    """Yield a blob in pieces, each in the same buffer: a sparse file may claim any size."""
    buffer = memoryview(bytearray(min(_PIECE, reader.size)))
    for offset in range(0, reader.size, _PIECE):
        piece = buffer[: reader.size - offset]
        reader.read_into(offset, piece)
        yield piece


def get_version(context: Context, peer: Peer, version: str) -> VersionView:
    """Return a version. Raises ``NotFoundError``."""
    with context.ledger.reading() as state:
        person = known_peer(state, peer)
        found = state.versions.get(version)
        if found is None:
            message = f"there is no version {version[:200]!r}"
            raise NotFoundError(message, hint="custody versions lists what there is")
        holder = state.root.person(person)
        device_ids = {device.key_id for device in holder.devices} if holder else set()
    return _view(context, found, device_ids)


def list_versions(context: Context, peer: Peer, *, after: str, limit: int) -> list[VersionView]:
    """Return versions sorted by name, after the name ``after``; without wraps."""
    with context.ledger.reading() as state:
        known_peer(state, peer)
        found = [state.versions[name] for name in sorted(state.versions) if name > after][:limit]
    return [_view(context, version, set()) for version in found]


def _view(context: Context, found: VersionState, device_ids: set[str]) -> VersionView:
    ledger, sealed = context.ledger, int(found.entry.index)
    wraps: list[Wrap] = []
    if device_ids:
        data = context.store.get(manifest_key(bytes.fromhex(found.content.vid)), MAX_MANIFEST)
        manifest = Manifest.parse(data)
        if manifest.content.digest != found.content_digest:
            message = f"{found.content.version}: the manifest in the store is not the one that was logged"
            raise IntegrityError(message)
        wraps = [wrap for wrap in manifest.wraps if wrap.device in device_ids]
    return VersionView(
        str(found.content.version),
        ledger.envelope(found.content_envelope, sealed),
        ledger.envelope(found.sharing_envelope, sealed),
        sealed,
        wraps,
    )
