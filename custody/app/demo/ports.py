"""Ports of loopback that can be kept: written into a configuration now, listened at again after a pause.

A port that the kernel chose (port 0) is no such port. As soon as its server stops, the kernel may give it to anybody's
outgoing connection, and the server cannot start again.
"""

import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from custody.errors import UnavailableError

__all__ = ["PORTS", "free_ports"]

PORTS: Final = range(10_000, 20_000)
"""Where they are looked for: beyond the well-known ones, below those that Linux gives away (from 32768 on)."""

_GIVEN_AWAY: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(number: int, rng: random.Random, among: Sequence[int] = PORTS) -> Sequence[int]:
    """Return ports of 127.0.0.1 at which nobody listens, in an order that ``rng`` chooses.

    Those that this machine's kernel gives away itself come last. They are not held: whoever else looks at the same time
    may find the same ones, which is why the order is random. Raises ``UnavailableError`` when there are not enough.
    """
    given_away = _given_away()
    found: list[int] = []
    for port in sorted(rng.sample(among, len(among)), key=given_away.__contains__):
        if len(found) == number:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    if len(found) < number:
        raise UnavailableError(f"no {number} ports of 127.0.0.1 are free from {min(among)} to {max(among)}")
    return found


def _given_away() -> range:
    try:
        first, last = map(int, _GIVEN_AWAY.read_text().split())
    except (OSError, ValueError):  # not Linux, or hidden
        return range(0)
    return range(first, last + 1)
