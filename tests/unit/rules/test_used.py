"""What may occur only once: a set that is small, and agrees with one that is not."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.rules.used import Used

# Few bytes, so that buckets are shared and items stand beside each other.
DIGESTS = st.lists(st.sampled_from("ab"), min_size=16, max_size=16).map(lambda parts: "00a" + "".join(parts) + "b" * 45)


def digest(number: int) -> str:
    return hashlib.sha256(number.to_bytes(4, "big")).hexdigest()


@given(st.lists(DIGESTS), st.lists(DIGESTS))
def test_it_holds_what_was_added_and_nothing_else(added: list[str], asked: list[str]) -> None:
    used = Used()
    for item in added:
        used.add(item)
    assert all((item in used) == (item in set(added)) for item in [*added, *asked])


def test_bytes_that_stand_between_two_items_are_no_item() -> None:
    used = Used()
    used.add("0000" + "11" * 14)
    used.add("0000" + "22" * 14)
    assert "0000" + "11" * 7 + "22" * 7 not in used
    used.add("0000" + "11" * 7 + "22" * 7)
    assert "0000" + "11" * 7 + "22" * 7 in used


def test_ids_and_digests_share_it() -> None:
    used = Used()
    used.add("ab" * 16)
    assert "ab" * 16 in used
    assert "cd" * 32 not in used


def test_what_was_added_twice_takes_the_space_of_one() -> None:
    once, twice = Used(), Used()
    for number in range(50):
        once.add(digest(number))
        twice.add(digest(number))
        twice.add(digest(number))
    assert once.dump() == twice.dump()


def test_it_is_written_and_read_back_whatever_the_order() -> None:
    one, other = Used(), Used()
    for number in range(5000):
        one.add(digest(number))
        other.add(digest(4999 - number))
    again = Used.load(one.dump())
    assert again == one == other
    assert digest(17) in again
    assert digest(5000) not in again
    again.add(digest(5000))
    assert again != one


def test_it_takes_little_more_than_sixteen_bytes_an_item() -> None:
    used = Used()
    for number in range(20_000):
        used.add(digest(number))
    assert len(used.dump()) == 4 * 65536 + 14 * 20_000


@pytest.mark.parametrize("data", [b"", b"x", Used().dump() + b"x", Used().dump()[:-1], b"\x01" + Used().dump()[1:]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not the items"):
        Used.load(data)
