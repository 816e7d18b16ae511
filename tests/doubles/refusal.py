"""A refused entry changes nothing: the one way that tests of rules expect a refusal."""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from custody.errors import CustodyError
from tests.doubles.world import World

__all__ = ["Act", "Attack", "Refusal", "params", "refused"]

Act = Callable[[], object]
"""Logs one entry."""

Attack = Callable[..., Act]
"""Prepares what must not be logged (a document of its own, another request) and returns what logs it."""

Refusal = tuple[str, Attack, type[CustodyError], str]
"""What is attempted, how, the error, and a part of its message."""


def params(rows: Sequence[Refusal]) -> pytest.MarkDecorator:
    """Run a test once for each row, as ``attack``, ``error`` and ``message``."""
    return pytest.mark.parametrize(
        ("attack", "error", "message"), [pytest.param(*row[1:], id=row[0].replace(" ", "-")) for row in rows]
    )


@contextmanager
def refused(world: World, error: type[CustodyError], message: str) -> Iterator[None]:
    """Expect exactly this error, with this text in its message, and a state that is the same as before."""
    before = copy.deepcopy(world.state)
    with pytest.raises(error, match=re.escape(message)) as caught:
        yield
    assert caught.type is error
    assert world.state == before
