"""How much is too much. Every number is an option of ``custody log watch``."""

from dataclasses import dataclass

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Zero switches a pattern off.

    ``denials``: requests of one requester denied in a row. ``haste``: an approval within so many seconds of the
    request. ``volume``: so many times the bytes that an identity usually reads, in a session or a day, once it has
    ``sessions`` sessions behind it; below ``floor`` bytes never. ``strangers``: refused in a minute.
    """

    denials: int = 3
    haste: int = 10  # seconds
    volume: int = 10
    sessions: int = 5
    floor: int = 1 << 30  # bytes
    strangers: int = 1000
