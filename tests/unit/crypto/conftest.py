"""Repeatable entropy into buffers, as the crypto room wants it."""

from collections.abc import Callable

import pytest

from custody.crypto.secret import RandomInto


@pytest.fixture
def random_into(rng: Callable[[int], bytes]) -> RandomInto:
    def fill(out: memoryview) -> None:
        out[:] = rng(len(out))

    return fill
