"""Scrubbing finds what a store lost or changed, without a key."""

from collections.abc import Callable

import pytest

from custody.documents.content import File
from custody.errors import IntegrityError
from custody.segments.scrub import check_stored
from custody.values import U64
from tests.doubles.sealed import SEGMENT, Sealed, plaintext, seal
from tests.doubles.store import MemoryBlob

Rng = Callable[[int], bytes]


@pytest.fixture
def sealed(rng: Rng) -> Sealed:
    return seal(plaintext(600 * SEGMENT + 1), rng)  # above 2 MiB: read in three pieces


def scrub(sealed: Sealed) -> list[int]:
    steps: list[int] = []
    file = File(
        path=sealed.plan.path,
        size=U64(sealed.plan.size),
        ciphertext=sealed.content.ciphertext,
        digests=sealed.content.digests,
    )
    check_stored(sealed.plan, file, MemoryBlob(sealed.ciphertext), MemoryBlob(sealed.digests), progress=steps.append)
    return steps


def test_what_was_sealed_passes(sealed: Sealed) -> None:
    assert sum(scrub(sealed)) == len(sealed.ciphertext) + len(sealed.digests)


@pytest.mark.parametrize("which", ["ciphertext", "digests"])
@pytest.mark.parametrize("place", [0, 500, -1])
def test_a_flipped_bit_is_found(sealed: Sealed, which: str, place: int) -> None:
    getattr(sealed, which)[place] ^= 1
    what = {"ciphertext": "ciphertext", "digests": "digest list"}[which]
    with pytest.raises(IntegrityError, match=rf"weights/0\.bin: {what}: the bytes are not those that were sealed"):
        scrub(sealed)


@pytest.mark.parametrize("which", ["ciphertext", "digests"])
def test_a_blob_of_another_size_is_found(sealed: Sealed, which: str) -> None:
    getattr(sealed, which).append(0)
    with pytest.raises(IntegrityError, match=r"weights/0\.bin: .* bytes instead of"):
        scrub(sealed)
