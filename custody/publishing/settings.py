"""The numbers of publishing, with their units."""

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the publisher paces itself.

    ``delay``: seconds it lets entries gather before a batch. ``batch``: entries in a batch at most. ``backlog``:
    entries not yet published at which ``require_room`` refuses. ``witness_timeout``: seconds for one round with all
    witnesses. ``skew``: seconds that a cosignature's time may differ from our clock. ``retry_first``, ``retry_most``:
    seconds between attempts while something is down, doubling. ``poll``: seconds after which it looks for entries that
    nobody announced (another broker's).
    """

    delay: float = 0.005
    batch: int = 4096
    backlog: int = 65_536
    witness_timeout: float = 10.0
    skew: int = 300
    retry_first: float = 0.05
    retry_most: float = 0.5
    poll: float = 1.0
