import ast
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from custody.crypto.secret import RandomInto, SecretBytes
from custody.crypto.sharing import (
    Group,
    Share,
    all_shares,
    check_shares,
    random_scalar,
    recover,
    share_commitment,
    split,
)
from custody.crypto.sodium import L
from custody.errors import DeniedError, FormatError, IntegrityError

VID = bytes(range(32))
GROUPS = [Group(2, 3), Group(1, 2), Group(3, 3)]
ENOUGH = [(0, 1), (0, 3), (1, 2), (2, 1), (2, 2), (2, 3)]


def scalar(n: int) -> SecretBytes:
    return SecretBytes.take(bytearray(n.to_bytes(32, "little")))


def number(secret: SecretBytes) -> int:
    return int.from_bytes(secret.view, "little")


def deal(
    random_into: RandomInto, n: int = 2**200 + 9, groups: Sequence[Group] = GROUPS
) -> dict[tuple[int, int], Share]:
    dealt = split(scalar(n), groups, random_into)
    return {(g, i): Share(g, i, y) for g, values in enumerate(dealt) for i, y in enumerate(values, 1)}


def commit(dealt: dict[tuple[int, int], Share]) -> dict[tuple[int, int], bytes]:
    return {slot: share_commitment(VID, *slot, share.value.view) for slot, share in dealt.items()}


def pick(dealt: dict[tuple[int, int], Share], slots: Sequence[tuple[int, int]] = ENOUGH) -> list[Share]:
    return [dealt[slot] for slot in slots]


def test_every_quorum_of_every_group_gives_the_secret(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    commitments = commit(dealt)
    for first, second in itertools.product(itertools.combinations((1, 2, 3), 2), (1, 2)):
        slots = [*((0, i) for i in first), (1, second), (2, 3), (2, 1), (2, 2)]
        check_shares(VID, pick(dealt, slots), GROUPS, commitments)
        assert number(recover(pick(dealt, slots), GROUPS)) == 2**200 + 9


def test_more_shares_than_the_threshold_are_welcome(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    check_shares(VID, list(dealt.values()), GROUPS, commit(dealt))
    assert number(recover(list(dealt.values()), GROUPS)) == 2**200 + 9


def test_all_shares_are_those_dealt(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    assert {(g, i): number(y) for g, i, y in all_shares(pick(dealt), GROUPS)} == {
        slot: number(share.value) for slot, share in dealt.items()
    }


@pytest.mark.parametrize("n", [0, 1, L - 1])
def test_extreme_secrets_come_back(random_into: RandomInto, n: int) -> None:
    assert number(recover(pick(deal(random_into, n)), GROUPS)) == n


def test_the_largest_group_comes_back(random_into: RandomInto) -> None:
    groups = [Group(255, 255)]
    assert number(recover(list(deal(random_into, 5, groups).values()), groups)) == 5


def test_a_secret_at_or_above_the_group_order_is_not_split(random_into: RandomInto) -> None:
    for n in (L, L + 5, 2**256 - 1):
        with pytest.raises(ValueError, match="below L"):
            split(scalar(n), GROUPS, random_into)


@pytest.mark.parametrize("slot", [0, -1, 4, L, L + 1, 2**64])
def test_a_share_number_outside_the_group_is_refused_and_named(random_into: RandomInto, slot: int) -> None:
    """0 would be the secret itself; L + 1 would pass for 1 after a silent reduction."""
    dealt = deal(random_into)
    forged = [Share(0, slot, dealt[0, 1].value), *pick(dealt)[1:]]
    for call in (recover, all_shares, lambda s, g: check_shares(VID, s, g, commit(dealt))):
        with pytest.raises(FormatError, match=f"group 0, slot {slot}: "):
            call(forged, GROUPS)


@pytest.mark.parametrize("group", [-1, 3, 256])
def test_a_group_that_does_not_exist_is_refused(random_into: RandomInto, group: int) -> None:
    dealt = deal(random_into)
    with pytest.raises(FormatError, match=f"group {group}, slot 1: there is no such group"):
        recover([*pick(dealt), Share(group, 1, dealt[0, 1].value)], GROUPS)


def test_one_share_given_twice_is_refused_and_named(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    with pytest.raises(FormatError, match="group 0, slot 1: given twice"):
        recover(pick(dealt, [(0, 1), (0, 1), *ENOUGH[2:]]), GROUPS)


def test_a_value_at_or_above_the_group_order_is_refused_and_named(random_into: RandomInto) -> None:
    """y + L means the same to libsodium, so it must not mean the same to us."""
    dealt = deal(random_into)
    for value in (number(dealt[0, 3].value) + L, L, 2**256 - 1):
        forged = [*pick(dealt, [(0, 1), *ENOUGH[2:]]), Share(0, 3, scalar(value))]
        with pytest.raises(FormatError, match="group 0, slot 3: not a scalar below L"):
            recover(forged, GROUPS)


def test_a_value_of_another_length_is_refused(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    for size in (31, 33, 64):
        with pytest.raises(FormatError, match="group 0, slot 3"):
            recover([*pick(dealt, [(0, 1), *ENOUGH[2:]]), Share(0, 3, SecretBytes(size))], GROUPS)


@pytest.mark.parametrize("missing", ENOUGH)
def test_below_the_threshold_of_any_group_is_denied(random_into: RandomInto, missing: tuple[int, int]) -> None:
    dealt = deal(random_into)
    slots = [slot for slot in ENOUGH if slot != missing]
    for call in (recover, all_shares, lambda s, g: check_shares(VID, s, g, commit(dealt))):
        with pytest.raises(DeniedError, match=f"group {missing[0]}: "):
            call(pick(dealt, slots), GROUPS)
    with pytest.raises(DeniedError):
        recover([], GROUPS)


def test_a_wrong_share_is_named(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    commitments = commit(dealt)
    check_shares(VID, pick(dealt), GROUPS, commitments)
    dealt[0, 3] = Share(0, 3, scalar(number(dealt[0, 3].value) ^ 1))
    with pytest.raises(IntegrityError, match="share of group 0, slot 3: does not match its commitment"):
        check_shares(VID, pick(dealt), GROUPS, commitments)


def test_a_share_in_another_custodians_slot_is_named(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    forged = [Share(0, 2, dealt[0, 1].value), *pick(dealt)[1:]]
    with pytest.raises(IntegrityError, match="group 0, slot 2"):
        check_shares(VID, forged, GROUPS, commit(dealt))


def test_a_share_of_another_version_is_refused(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    with pytest.raises(IntegrityError, match="group 0, slot 1"):
        check_shares(bytes(32), pick(dealt), GROUPS, commit(dealt))


@pytest.mark.parametrize("slot", [(0, 2), (1, 1)])
def test_one_wrong_commitment_among_those_not_present_is_a_bad_dealing(
    random_into: RandomInto, slot: tuple[int, int]
) -> None:
    """No given share is wrong; the custodian of ``slot`` could never have helped to open."""
    dealt = deal(random_into)
    commitments = commit(dealt)
    commitments[slot] = share_commitment(VID, *slot, bytes(32))
    with pytest.raises(IntegrityError, match=f"bad dealing: .* group {slot[0]} .* slot {slot[1]}"):
        check_shares(VID, pick(dealt), GROUPS, commitments)


def test_an_inconsistent_dealing_with_honest_commitments_is_caught(random_into: RandomInto) -> None:
    """The dealer gave slot 3 a share off the polynomial, and committed to it."""
    dealt = deal(random_into)
    dealt[0, 3] = Share(0, 3, scalar((number(dealt[0, 3].value) + 1) % L))
    with pytest.raises(IntegrityError, match="bad dealing"):
        check_shares(VID, pick(dealt), GROUPS, commit(dealt))
    with pytest.raises(IntegrityError, match="group 0, slot 3: does not lie on the polynomial"):
        recover(list(dealt.values()), GROUPS)


def test_missing_or_surplus_commitments_are_refused(random_into: RandomInto) -> None:
    dealt = deal(random_into)
    full = commit(dealt)
    fewer = {slot: value for slot, value in full.items() if slot != (2, 2)}
    for commitments in (fewer, full | {(0, 4): bytes(32)}, {}):
        with pytest.raises(FormatError, match="commitments"):
            check_shares(VID, pick(dealt), GROUPS, commitments)
    with pytest.raises(IntegrityError):
        check_shares(VID, pick(dealt), GROUPS, full | {(0, 1): full[0, 1][:31]})


def test_the_commitment_is_the_hash_of_the_specification() -> None:
    y = b"y" * 32
    expected = hashlib.sha256(b"\0" * 7 + b"\x10custody/v1/share" + VID + b"\x02\x03" + y).digest()
    assert share_commitment(VID, 2, 3, y) == expected
    for vid, value in ((VID[:31], y), (VID, y[:31])):
        with pytest.raises(ValueError):
            share_commitment(vid, 2, 3, value)


@pytest.mark.parametrize(("threshold", "size"), [(0, 1), (2, 1), (-1, 3), (1, 256), (0, 0)])
def test_a_quorum_that_cannot_be_met_or_needs_nobody_is_refused(threshold: int, size: int) -> None:
    with pytest.raises(FormatError, match="quorum"):
        Group(threshold, size)


def test_no_groups_or_too_many_are_refused(random_into: RandomInto) -> None:
    for groups in ([], [Group(1, 1)] * 256):
        with pytest.raises(FormatError, match="groups"):
            split(scalar(1), groups, random_into)
        with pytest.raises(FormatError, match="groups"):
            recover([], groups)


def test_coefficients_are_uniform(random_into: RandomInto) -> None:
    """Chi-square of the top byte of scalars against 16 equal classes; the entropy is fixed, so it cannot flake."""
    draws, classes = 4096, [0] * 16
    for _ in range(draws):
        with random_scalar(random_into) as drawn:
            classes[number(drawn) * 16 // L] += 1
    expected = draws / 16
    statistic = sum((count - expected) ** 2 / expected for count in classes)
    assert statistic < 37.7  # 15 degrees of freedom, one in a thousand


def test_the_leading_coefficient_may_be_zero() -> None:
    """Refusing zero would leak: a share then could never equal the secret (sharks, Cure53)."""

    def zeros(out: memoryview) -> None:
        out[:] = bytes(len(out))

    shares = split(scalar(11), [Group(3, 4)], zeros)[0]
    assert [number(y) for y in shares] == [11] * 4


def test_sixty_four_random_bytes_are_reduced_not_cut() -> None:
    def ones(out: memoryview) -> None:
        out[:] = b"\xff" * len(out)

    assert number(random_scalar(ones)) == (2**512 - 1) % L


def test_groups_do_not_share_randomness(random_into: RandomInto) -> None:
    """With s = 0 and two equal groups the parts are s_0 and -s_0: no group's secret is s."""
    dealt = deal(random_into, 0, [Group(1, 1), Group(1, 1)])
    first, second = number(dealt[0, 1].value), number(dealt[1, 1].value)
    assert first != 0
    assert (first + second) % L == 0


def test_nothing_is_looked_up_by_a_secret() -> None:
    """Tables indexed by secrets leak through the cache. Every index is the public number of a group or a slot."""
    source = Path(__file__).parents[3] / "custody" / "crypto" / "sharing.py"
    types = {"Callable", "Final", "Mapping", "Sequence", "dict", "list", "tuple"}
    public = {"g", "group", "i", "share.group", "share.slot", "(g, i)"}
    found = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Subscript)]
    lookups = [node for node in found if ast.unparse(node.value) not in types]
    assert lookups
    for node in lookups:
        assert isinstance(node.slice, ast.Slice) or ast.unparse(node.slice) in public, ast.unparse(node)
