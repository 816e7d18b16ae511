"""For every quorum: enough shares give the secret, fewer give nothing, and a changed one is never used silently."""

import hashlib
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from custody.crypto.secret import RandomInto, SecretBytes
from custody.crypto.sharing import Group, Share, check_shares, recover, share_commitment, split
from custody.crypto.sodium import L
from custody.errors import DeniedError, IntegrityError

VID = bytes(32)
scalars = st.integers(0, L - 1)


@st.composite
def quorums(draw: st.DrawFn) -> list[Group]:
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    return [Group(draw(st.integers(1, size)), size) for size in sizes]


def stream(seed: int) -> RandomInto:
    drawn = 0

    def fill(out: memoryview) -> None:
        nonlocal drawn
        drawn += 1
        out[:] = hashlib.shake_256(b"%d,%d" % (seed, drawn)).digest(len(out))

    return fill


def secret(n: int) -> SecretBytes:
    return SecretBytes.take(bytearray(n.to_bytes(32, "little")))


def number(value: SecretBytes) -> int:
    return int.from_bytes(value.view, "little")


def deal(n: int, groups: Sequence[Group], seed: int) -> list[list[Share]]:
    dealt = split(secret(n), groups, stream(seed))
    return [[Share(g, i, y) for i, y in enumerate(values, 1)] for g, values in enumerate(dealt)]


def quorum(data: st.DataObject, dealt: list[list[Share]], groups: Sequence[Group]) -> list[Share]:
    return [
        share
        for shares, group in zip(dealt, groups, strict=True)
        for share in data.draw(st.permutations(shares))[: group.threshold]
    ]


@given(data=st.data(), n=scalars, groups=quorums(), seed=st.integers(0, 1 << 32))
def test_every_quorum_gives_the_secret(data: st.DataObject, n: int, groups: list[Group], seed: int) -> None:
    dealt = deal(n, groups, seed)
    chosen = quorum(data, dealt, groups)
    commitments = {(g, i): share_commitment(VID, g, i, y.view) for shares in dealt for g, i, y in shares}
    check_shares(VID, chosen, groups, commitments)
    assert number(recover(chosen, groups)) == n


@given(data=st.data(), n=scalars, groups=quorums(), seed=st.integers(0, 1 << 32))
def test_one_share_fewer_is_denied(data: st.DataObject, n: int, groups: list[Group], seed: int) -> None:
    chosen = quorum(data, deal(n, groups, seed), groups)
    chosen.remove(data.draw(st.sampled_from(chosen)))
    try:
        recover(chosen, groups)
    except DeniedError:
        return
    raise AssertionError("a quorum was not met, and something came out")


@given(data=st.data(), n=scalars, groups=quorums(), seed=st.integers(0, 1 << 32), shift=st.integers(1, L - 1))
def test_a_changed_share_is_always_refused(
    data: st.DataObject, n: int, groups: list[Group], seed: int, shift: int
) -> None:
    dealt = deal(n, groups, seed)
    commitments = {(g, i): share_commitment(VID, g, i, y.view) for shares in dealt for g, i, y in shares}
    chosen = quorum(data, dealt, groups)
    which = data.draw(st.integers(0, len(chosen) - 1))
    g, i, y = chosen[which]
    chosen[which] = Share(g, i, secret((number(y) + shift) % L))
    try:
        check_shares(VID, chosen, groups, commitments)
    except IntegrityError as error:
        assert f"group {g}, slot {i}:" in error.message  # noqa: PT017 - hypothesis shrinks better without raises()
        return
    raise AssertionError("a changed share was accepted")


@settings(max_examples=30)
@given(n=scalars, other=scalars, seed=st.integers(0, 1 << 32))
def test_fewer_shares_than_the_threshold_fit_every_secret(n: int, other: int, seed: int) -> None:
    """Perfect secrecy, shown for 2 of 3: for one share and any other secret there is a polynomial through both."""
    share = number(deal(n, [Group(2, 3)], seed)[0][0].value)
    slope = (share - other) % L  # f(1) = share, f(0) = other
    forged = [Share(0, 1, secret(share)), Share(0, 2, secret((other + 2 * slope) % L))]
    assert number(recover(forged, [Group(2, 3)])) == other
