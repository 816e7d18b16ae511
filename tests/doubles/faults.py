"""Faults at the durable operations of one host: which one comes at which operation, and what a power cut leaves.

A ``Host`` is what loses power together: the broker with its ledger and its log store, or one witness. Every layer under
test (``FaultyCalls`` for files, ``SqliteLayer`` for the database) asks its ``Tap`` before each operation and tells it
what was done, so that the power cut can be replayed: a kill leaves the page cache, a power cut only what was synced and
a legal subset of the rest.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Never, TypeVar

from tests.doubles.store import Dead

__all__ = ["KILLED", "Cut", "Host", "Kind", "Tap", "failure", "some_of"]

_T = TypeVar("_T")

KILLED = 9  # exit status of a process that a fault ended


class Kind(Enum):
    """What happens at the chosen operation."""

    KILL = "kill"
    """The process is gone before it; what it did stays in the page cache."""
    EIO = "EIO"
    """It fails and has done nothing."""
    ENOSPC = "ENOSPC"
    """The same, and so does every later one that needs room, until ``cure``."""
    PERSISTED = "persisted"
    """It is done and fails all the same."""
    POWER = "power"
    """The host loses power before it."""


class Cut(BaseException):
    """A witness lost its power. As with ``Dead``, nothing may catch it and go on."""


@dataclass
class Host:
    """``dies`` ends the process (it does not return for a broker), having been told whether the power failed."""

    dies: Callable[[bool], Never]
    dead: bool = False


class Tap:
    """Counts the operations of one component and decides their fate. ``plan`` maps numbers from 0 on to faults; ``met``
    is told when one comes."""

    def __init__(self, host: Host, plan: Mapping[int, Kind], met: Callable[[Kind], None] = lambda _: None) -> None:
        self._host = host
        self._plan = plan
        self._full = False
        self.names: list[str] = []
        self._met = met

    @property
    def dead(self) -> bool:
        """Whether the host is gone."""
        return self._host.dead

    def cure(self) -> None:
        """Give the disk room again."""
        self._full = False

    def disarm(self) -> None:
        """Let everything succeed from now on."""
        self._plan, self._full, self._host.dead = {}, False, False

    def ask(self, name: str, *, needs_room: bool = True) -> Kind | None:
        """Return the fault of the operation that comes now; does not return where it is the end of the process."""
        number = len(self.names)
        self.names.append(name)
        if self._host.dead:
            raise Dead
        kind = self._plan.get(number)
        if kind is not None:
            self._met(kind)
        if kind in (Kind.KILL, Kind.POWER):
            self._host.dead = True
            self._host.dies(kind is Kind.POWER)
        if kind is Kind.ENOSPC:
            self._full = True
        if kind is None and self._full and needs_room:
            return Kind.ENOSPC
        return kind


def failure(kind: Kind) -> OSError:
    """Return what the system says."""
    number = errno.ENOSPC if kind is Kind.ENOSPC else errno.EIO
    return OSError(number, os.strerror(number))


def some_of(items: Sequence[_T], rng: Random) -> list[_T]:
    """Choose what of the unsynced operations reached the disk: nothing, all, the first ones, or any."""
    how = rng.randrange(4)
    if how == 0:
        return []
    if how == 1:
        return list(items)
    if how == 2:
        return list(items[: rng.randint(0, len(items))])
    return [item for item in items if rng.random() < 0.5]
