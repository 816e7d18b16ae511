"""From shares to a version's key, with every check in its order (design sections 4 and 5).

1. each share against its own commitment, so that a bad one is named;
2. every polynomial at all its points against every commitment, so that a bad dealing is caught;
3. interpolation of s; K from s; K against ``key_commit``, before anything is decrypted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from custody.crypto.schedule import check_commit, version_key
from custody.crypto.secret import SecretBytes
from custody.crypto.sharing import Group, Share, check_shares, recover

__all__ = ["Target", "rebuild"]


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be opened: all public. ``commitments`` are 32 bytes by (group, index)."""

    deployment: str
    version: str
    vid: bytes
    key_commit: bytes
    groups: tuple[Group, ...]
    commitments: Mapping[tuple[int, int], bytes]


def rebuild(target: Target, shares: Sequence[Share]) -> SecretBytes:
    """Return K (64 bytes); the caller wipes it and the shares.

    Raises ``FormatError``, ``DeniedError`` below quorum, ``IntegrityError`` naming the slot or saying the key is not
    the version's.
    """
    check_shares(target.vid, shares, target.groups, target.commitments)
    with recover(shares, target.groups) as s:
        key = version_key(s, target.vid, target.deployment, target.version)
    try:
        check_commit(key, target.key_commit)
    except BaseException:
        key.close()
        raise
    return key
