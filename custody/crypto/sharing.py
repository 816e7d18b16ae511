"""The secret of a version, split over groups of custodians that must all be met (design section 4).

Over the integers modulo L (``sodium.L``), scalars 32 bytes little-endian::

    s        = sum of s_g over the groups g = 0, 1, ...            s_g uniform
    f_g(x)   = s_g + a_1 x + ... + a_(t-1) x^(t-1)                 a_k uniform, zero included
    y_(g,i)  = f_g(i)                                              i = 1 .. n

    commitment_(g,i) = SHA-256(lp("custody/v1/share") || vid || u8 g || u8 i || y_(g,i))

Fewer than t shares of one group say nothing at all about s, whatever the other groups have. "Two of security and one
executive" is so a sum, not an if. Commitments are hashes, since points (Feldman) would give s to a quantum computer.

Scalars stay in ``SecretBytes`` and are computed by libsodium in constant time; no table is indexed by a secret.
Lagrange coefficients depend on the public numbers of the shares only, so they are Python ints.

What comes from outside is checked before any arithmetic, because libsodium reduces silently: a share number of L + 1
would pass for 1, and 0 for the secret itself.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from custody.crypto.encoding import lp, u8
from custody.crypto.secret import RandomInto, SecretBytes
from custody.crypto.sodium import (
    SCALAR_SIZE,
    UNIFORM_SIZE,
    Buffer,
    L,
    is_canonical,
    scalar_add,
    scalar_mul,
    scalar_reduce,
    scalar_sub,
    wipe,
)
from custody.errors import DeniedError, FormatError, IntegrityError

__all__ = ["Group", "Share", "all_shares", "check_shares", "random_scalar", "recover", "share_commitment", "split"]

_VID_SIZE: Final = 32
_MAX: Final = 255  # g and i are one byte


@dataclass(frozen=True, slots=True)
class Group:
    """Any ``threshold`` of ``size`` persons. ``FormatError`` unless 1 <= threshold <= size <= 255."""

    threshold: int
    size: int

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= self.size <= _MAX:
            raise FormatError(f"quorum: {self.threshold} of {self.size}")


class Share(NamedTuple):
    """The share y of slot (g, i): ``group`` counts from 0, ``slot`` from 1, ``value`` has 32 bytes."""

    group: int
    slot: int
    value: SecretBytes


def random_scalar(random_into: RandomInto) -> SecretBytes:
    """Draw a scalar uniformly modulo L, zero included: 64 random bytes, reduced."""
    scalar = SecretBytes(SCALAR_SIZE)
    with SecretBytes.random(UNIFORM_SIZE, random_into) as uniform:
        scalar_reduce(scalar.view, uniform.view)
    return scalar


def split(secret: SecretBytes, groups: Sequence[Group], random_into: RandomInto) -> list[list[SecretBytes]]:
    """Split ``secret`` (a scalar below L) so that every group must be met.

    Returns one list per group with the shares of i = 1..n in order; the caller closes them. Draws, in this order, the
    secret of every group but the last, then the coefficients a_1.. of each group.
    """
    _require_groups(groups)
    if len(secret) != SCALAR_SIZE or not is_canonical(secret.view):
        raise ValueError("the secret to split is not a scalar below L")
    parts = [random_scalar(random_into) for _ in groups[1:]]
    last = SecretBytes(SCALAR_SIZE)
    last.view[:] = secret.view
    for part in parts:
        scalar_sub(last.view, last.view, part.view)
    parts.append(last)
    return [_deal(part, group, random_into) for part, group in zip(parts, groups, strict=True)]


def _deal(secret: SecretBytes, group: Group, random_into: RandomInto) -> list[SecretBytes]:
    """Shamir-split the secret of one group, which is wiped."""
    coefficients = [secret, *(random_scalar(random_into) for _ in range(group.threshold - 1))]
    shares = []
    for i in range(1, group.size + 1):
        x = _scalar(i)
        y = SecretBytes(SCALAR_SIZE)
        for coefficient in reversed(coefficients):  # Horner; y starts at zero
            scalar_mul(y.view, y.view, x)
            scalar_add(y.view, y.view, coefficient.view)
        shares.append(y)
    for coefficient in coefficients:
        coefficient.close()
    return shares


def recover(shares: Sequence[Share], groups: Sequence[Group]) -> SecretBytes:
    """Interpolate s from at least a threshold of shares in every group.

    Raises ``FormatError`` for a share that cannot be one, ``DeniedError`` below a threshold, ``IntegrityError`` where
    more shares than the threshold were given and do not lie on one polynomial. A wrong share among exactly the
    threshold gives a wrong s: ``check_shares`` comes first, and ``key_commit`` afterwards.
    """
    chosen = _require_shares(shares, groups)
    for g, points in enumerate(chosen):
        _require_one_polynomial(g, points, groups[g].threshold)
    total = SecretBytes(SCALAR_SIZE)
    with SecretBytes(SCALAR_SIZE) as part:
        for points, group in zip(chosen, groups, strict=True):
            _evaluate(points[: group.threshold], 0, part.view)
            scalar_add(total.view, total.view, part.view)
    return total


def all_shares(shares: Sequence[Share], groups: Sequence[Group]) -> list[Share]:
    """Evaluate the polynomial of every group at all its n points, from exactly a threshold of the given shares.

    The caller closes the values. Raises as ``recover``, but does not compare shares beyond the threshold.
    """
    result = []
    for g, points in enumerate(_require_shares(shares, groups)):
        for i in range(1, groups[g].size + 1):
            y = SecretBytes(SCALAR_SIZE)
            _evaluate(points[: groups[g].threshold], i, y.view)
            result.append(Share(g, i, y))
    return result


def share_commitment(vid: bytes, group: int, slot: int, y: Buffer) -> bytes:
    """Commit to the share of slot (group, slot): 32 bytes, public. ``y`` is uniform, so the hash hides it."""
    if len(vid) != _VID_SIZE or len(y) != SCALAR_SIZE:
        raise ValueError("vid and share have 32 bytes each")
    digest = hashlib.sha256(lp(b"custody/v1/share") + vid + u8(group) + u8(slot))
    digest.update(y)
    return digest.digest()


def check_shares(
    vid: bytes, shares: Sequence[Share], groups: Sequence[Group], commitments: Mapping[tuple[int, int], bytes]
) -> None:
    """Require that the shares are those the sharing commits to, and that the dealing as a whole is sound.

    First every given share against its own commitment: ``IntegrityError`` names the custodian's slot. Then every
    polynomial at all n points against every commitment, given or not: a failure there is a bad dealing, which some
    other quorum could not have opened. ``commitments`` must have exactly the slots of ``groups``.
    """
    slots = {(g, i) for g, group in enumerate(groups) for i in range(1, group.size + 1)}
    if set(commitments) != slots:
        raise FormatError("commitments: not exactly one for each slot of the quorum")
    chosen = _require_shares(shares, groups)
    for g, i, y in shares:
        if not hmac.compare_digest(share_commitment(vid, g, i, y.view), commitments[g, i]):
            raise IntegrityError(f"share of group {g}, slot {i}: does not match its commitment")
    with SecretBytes(SCALAR_SIZE) as y:
        for g, i in sorted(slots):
            _evaluate(chosen[g][: groups[g].threshold], i, y.view)
            if not hmac.compare_digest(share_commitment(vid, g, i, y.view), commitments[g, i]):
                raise IntegrityError(f"bad dealing: the shares of group {g} do not give the one committed for slot {i}")


def _require_groups(groups: Sequence[Group]) -> None:
    if not 1 <= len(groups) <= _MAX:
        raise FormatError(f"quorum: {len(groups)} groups")


def _require_shares(shares: Sequence[Share], groups: Sequence[Group]) -> list[list[Share]]:
    """Refuse whatever must not reach the arithmetic; return the shares of each group, by rising slot."""
    _require_groups(groups)
    chosen: list[dict[int, Share]] = [{} for _ in groups]
    for share in shares:
        where = f"share of group {share.group}, slot {share.slot}"
        if not 0 <= share.group < len(groups):
            raise FormatError(f"{where}: there is no such group")
        if not 1 <= share.slot <= groups[share.group].size:
            raise FormatError(f"{where}: the group has slots 1 to {groups[share.group].size}")
        if share.slot in chosen[share.group]:
            raise FormatError(f"{where}: given twice")
        if len(share.value) != SCALAR_SIZE or not is_canonical(share.value.view):
            raise FormatError(f"{where}: not a scalar below L")
        chosen[share.group][share.slot] = share
    for g, (found, group) in enumerate(zip(chosen, groups, strict=True)):
        if len(found) < group.threshold:
            raise DeniedError(f"group {g}: {len(found)} shares of the {group.threshold} needed")
    return [[found[i] for i in sorted(found)] for found in chosen]


def _require_one_polynomial(group: int, points: Sequence[Share], threshold: int) -> None:
    with SecretBytes(SCALAR_SIZE) as y:
        for extra in points[threshold:]:
            _evaluate(points[:threshold], extra.slot, y.view)
            if not hmac.compare_digest(y.view, extra.value.view):
                raise IntegrityError(
                    f"share of group {group}, slot {extra.slot}: does not lie on the polynomial of the others"
                )


def _evaluate(points: Sequence[Share], x: int, out: memoryview) -> None:
    """``out = f(x)`` for the polynomial of degree ``len(points) - 1`` through the points."""
    wipe(out)
    with SecretBytes(SCALAR_SIZE) as term:
        for point in points:
            scalar_mul(term.view, point.value.view, _scalar(_lagrange(points, point.slot, x)))
            scalar_add(out, out, term.view)


def _lagrange(points: Sequence[Share], at: int, x: int) -> int:
    """The coefficient of the point ``at`` for the value at ``x``. Public numbers only."""
    above, below = 1, 1
    for point in points:
        if point.slot != at:
            above = above * (x - point.slot) % L
            below = below * (at - point.slot) % L
    return above * pow(below, -1, L) % L


def _scalar(n: int) -> bytes:
    """Encode a public number as a scalar."""
    return n.to_bytes(SCALAR_SIZE, "little")
