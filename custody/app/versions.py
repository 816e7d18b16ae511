"""Versions as they lie in a store: which there are, which of them can be believed, and what was left unfinished.

Without a broker there is no index: a version is found by its manifest, and a manifest is believed when the sealer's
signatures verify under a trust root that lets this sealer seal this name, and whose roster is the sharing's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from custody.documents.actor import Broker
from custody.documents.content import Content
from custody.documents.manifest import Manifest
from custody.documents.root import Root
from custody.documents.sharing import Sharing
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.ports import Store
from custody.rules.sealing import check_sharing
from custody.rules.signers import verify_actor
from custody.segments.layout import manifest_key

__all__ = ["MAX_MANIFEST", "Found", "find_version", "has_version", "unfinished", "verify_manifest"]

MAX_MANIFEST: Final = 64 << 20
"""Bytes of a manifest: 50,000 files and 4,096 wraps fit."""

_PREFIX: Final = "versions/"


@dataclass(frozen=True, slots=True)
class Found:
    """A version whose manifest was verified. ``epoch`` is that of the newest given root that vouches for it."""

    manifest: Manifest
    content: Content
    sharing: Sharing
    epoch: int

    @property
    def vid(self) -> bytes:
        """The version's 32 random bytes."""
        return bytes.fromhex(self.content.vid)


def find_version(store: Store, version: str, roots: Sequence[Root], content: str | None = None) -> Found:
    """Find a version by name and label and verify its manifest; ``content`` chooses one by content digest.

    Raises ``NotFoundError``; what is wrong with the manifest, where there is one only; ``IntegrityError`` where two
    verify, since then somebody has to say which is meant.
    """
    good: list[Found] = []
    bad: list[CustodyError] = []
    unreadable: list[str] = []
    for manifest in _manifests(store, unreadable):
        if manifest.content.document(Content).version != version:
            continue
        if content is not None and manifest.content.digest != content:
            continue
        try:
            good.append(verify_manifest(manifest, roots))
        except CustodyError as error:
            bad.append(error)
    if len({found.manifest.content.digest for found in good}) > 1:
        digests = ", ".join(found.manifest.content.digest for found in good)
        raise IntegrityError(
            f"{version}: the store holds {len(good)} contents of that name, all rightly signed: {digests}",
            hint="the log says which one is meant; choose it with --content DIGEST",
        )
    if good:
        return max(good, key=lambda found: found.sharing.generation)
    if bad:
        raise bad[0]
    what = f"{version} with content {content[:16]}…" if content else version
    if unreadable:
        what += f" that can be read; {len(unreadable)} damaged: {unreadable[0]}"
    raise NotFoundError(f"the store holds no {what}", hint="names are written name@label")


def has_version(store: Store, version: str) -> bool:
    """Tell whether some manifest in the store claims this name and label, verified or not."""
    return any(manifest.content.document(Content).version == version for manifest in _manifests(store, []))


def verify_manifest(manifest: Manifest, roots: Sequence[Root]) -> Found:
    """Verify content and sharing under the newest of ``roots`` that vouches for them.

    Older roots count too: what was rightly sealed stays so when its sealer leaves. Offline nobody knows under which
    root the log took it, so a sealer removed since could have signed it later: whoever calls says "freshness
    unverified". Raises what the newest root says is wrong.
    """
    content, sharing = manifest.documents()
    problems: list[CustodyError] = []
    for root in reversed(roots):
        try:
            _verify(manifest, content, sharing, root)
        except CustodyError as error:
            problems.append(error)
        else:
            return Found(manifest, content, sharing, int(root.epoch))
    raise problems[0] if problems else IntegrityError("there is no trust root to verify a manifest with")


def unfinished(store: Store) -> dict[str, list[str]]:
    """Return the keys, by vid, of versions that have blobs but no manifest: being sealed, or left over."""
    blobs: dict[str, list[str]] = {}
    for key in store.list(_PREFIX):
        vid = key.removeprefix(_PREFIX).split("/", 1)[0]
        blobs.setdefault(vid, []).append(key)
    return {vid: keys for vid, keys in blobs.items() if f"{_PREFIX}{vid}/manifest.json" not in keys}


def _manifests(store: Store, unreadable: list[str]) -> Iterator[Manifest]:
    """Yield every manifest that parses and stands where its vid says. What does not cannot hide the others; what is
    wrong with it goes to ``unreadable``.
    """
    for key in store.list(_PREFIX):
        if not key.endswith("/manifest.json"):
            continue
        try:
            manifest = Manifest.parse(store.get(key, MAX_MANIFEST))
            vid = bytes.fromhex(manifest.content.document(Content).vid)
            if key != manifest_key(vid):
                raise IntegrityError("a manifest under another vid than its own")
        except (FormatError, IntegrityError) as error:
            unreadable.append(f"{key}: {error.message}")
            continue
        except NotFoundError:
            continue  # it went while we looked
        yield manifest


def _verify(manifest: Manifest, content: Content, sharing: Sharing, root: Root) -> None:
    if content.deployment != root.deployment:
        raise IntegrityError(f"{content.version} is of deployment {content.deployment}, not of {root.deployment}")
    party = verify_actor(manifest.content, content.sealer, root, content.created)
    sealer = party.id.removeprefix("person:")
    if not root.may_seal(sealer, content.version):
        raise DeniedError(f"{sealer} may not seal {content.version}: so says the trust root of epoch {root.epoch}")
    signer = verify_actor(manifest.sharing, sharing.signer, root, sharing.created)
    if sharing.generation == 0:
        if signer != party:
            raise IntegrityError(f"{content.version}: content and first sharing are signed by two sealers")
        check_sharing(sharing, root.roster_for(content.version))
    elif not isinstance(sharing.signer, Broker):
        raise IntegrityError(f"{content.version}: a later sharing is not signed by a broker")
