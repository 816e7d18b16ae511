"""How often one identity may do what makes entries, each of which is in the log for ever, or costs the broker much."""

from collections.abc import Callable
from typing import Final

from custody.broker.context import Peer
from custody.broker.refusals import PerMinute
from custody.errors import UnavailableError

__all__ = ["MAX_FILED", "MAX_HELLOS", "MAX_LISTINGS", "Often"]

MAX_HELLOS: Final = 60
"""A minute of one identity. A tool says one before it signs something."""

MAX_FILED: Final = 120
"""Requests, releases and versions a minute of one identity, those that come again too: nothing else bounds them. A
decision stands once, a session is one of its lease's.
"""

MAX_LISTINGS: Final = 120
"""Pages of names a minute of one identity: for each the store goes through all names of the log."""


class Often:
    """Counts by identity and minute; ``monotonic`` is in seconds. Stops are not counted.

    ``filed``: requests, releases and versions.
    """

    def __init__(self, monotonic: Callable[[], float], hellos: int = MAX_HELLOS, filed: int = MAX_FILED) -> None:
        self._hellos = PerMinute(hellos, monotonic)
        self._filed = PerMinute(filed, monotonic)
        self._listed = PerMinute(MAX_LISTINGS, monotonic)

    def greet(self, peer: Peer) -> None:
        """Count a hello. Raises ``UnavailableError`` when there were too many."""
        _take(self._hellos, peer, "hellos")

    def file(self, peer: Peer) -> None:
        """Count a request, a release or a version. Raises ``UnavailableError`` when there were too many."""
        _take(self._filed, peer, "requests, releases and versions")

    def look(self, peer: Peer) -> None:
        """Count a page of the log's names. Raises ``UnavailableError`` when there were too many."""
        _take(self._listed, peer, "listings of the log")


def _take(counted: PerMinute, peer: Peer, what: str) -> None:
    if not counted.take(peer.identity):
        raise UnavailableError(f"too many {what}", hint="try again in a minute")
