"""A refused entry changes nothing: the one way that tests of rules expect a refusal."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from custody.errors import CustodyError
from tests.doubles.world import World

__all__ = ["Act", "Attack", "Refusal", "params", "refused", "snapshot"]

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


def snapshot(value: Any) -> Any:
    """Copy what can change: dataclasses and containers. Documents are immutable and stay what they are."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: snapshot(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return type(value)(**fields)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, list | set):
        return type(value)(snapshot(item) for item in value)
    return value


@contextmanager
def refused(world: World, error: type[CustodyError], message: str) -> Iterator[None]:
    """Expect exactly this error, with this text in its message, and a state that is the same as before."""
    before = snapshot(world.state)
    with pytest.raises(error, match=re.escape(message)) as caught:
        yield
    assert caught.type is error
    assert world.state == before
