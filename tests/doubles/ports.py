"""Ports for servers that stop and start again: each process that runs tests has its own, and the demo has others."""

import os
from collections.abc import Sequence
from random import Random
from typing import Final

from custody.app.demo.ports import free_ports

__all__ = ["own_ports"]

_PARTS: Final = 8
_ALL: Final = range(20_000, 32_000)
_SIZE: Final = len(_ALL) // _PARTS
_TAKEN: Final[set[int]] = set()


def own_ports(number: int) -> Sequence[int]:
    """Return free ports of loopback that no other test of this run is given."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
    part = [port for port in _ALL[worker * _SIZE : (worker + 1) * _SIZE] if port not in _TAKEN]
    ports = free_ports(number, Random(os.urandom(8)), part)
    _TAKEN.update(ports)
    return ports
