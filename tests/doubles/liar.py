"""A broker that tells lies: the real one, with some of its answers changed on the way to a custodian's tool."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from custody.custodian.desk import Desk
from custody.rules.trust import Seen, Trust
from custody.wire.calls import Calls
from tests.doubles.site import DEPLOYMENT, Site, now, rng

__all__ = ["Forgetful", "desk"]


class Forgetful:
    """A tool's memory that begins empty."""

    def __init__(self) -> None:
        self.last = Seen()

    def seen(self) -> Seen:
        return self.last

    def remember(self, seen: Seen, root: str) -> None:
        self.last = seen


@contextmanager
def desk(site: Site, **lies: Any) -> Iterator[Desk]:
    """Alice's tool, at a broker that tells these lies: methods of ``Calls`` by name."""
    kind = type("Lying", (Calls,), lies)
    trust = Trust(DEPLOYMENT, site.root_envelope.digest, Seen())
    with kind(site.address, "broker-1.custody", site.tls("tls/alice")) as calls:
        yield Desk(calls, trust, Forgetful(), clock=now, rng=rng, sleep=lambda _: None)
