"""One custodian before one request: the tool, the counter it talks to, and the world behind."""

from collections.abc import Callable
from typing import Any

from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.custodian.acting import Acted, decide, look, release
from custody.custodian.review import Review
from custody.custodian.rewrap_child import rewrap
from custody.custodian.signing import draft_decision
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.custodian.counter import Counter

__all__ = ["BOARD", "NAME", "Scene"]

NAME = "demo/tiny@1"
BOARD = "frontier/llm@1"


class Scene:
    """A world, a request, and the tool of one person."""

    def __init__(self, person: str = "alice", version: str = NAME) -> None:
        self.world = World()
        self.world.seal(version)
        self.case = self.world.file(version)
        self.counter = Counter(self.world, person, self.case)
        self.person = person
        self.device = self.world.devices[person]
        self.desk = self.counter.desk()

    def look(self, **settings: Any) -> Review:
        view = self.desk.request(self.case.digest)
        return look(
            self.desk, view, person=self.person, device=self.device.key_id, clock=lambda: self.world.now, **settings
        )

    def decide(self, verdict: str = "approve", shown: Review | None = None) -> Acted:
        shown = shown or self.look()
        decision = draft_decision(shown, verdict, "", issued=self.world.now)  # type: ignore[arg-type]
        return decide(self.desk, shown, decision, self.device, clock=lambda: self.world.now, rewrap=rewrap)

    def release(self, shown: Review | None = None, wrapping: Callable[..., Any] = rewrap) -> Acted:
        return release(self.desk, shown or self.look(), self.device, clock=lambda: self.world.now, rewrap=wrapping)

    def opened(self, case: Case | None = None) -> bytes:
        """What the broker can open of the share that was sent."""
        case = case or self.case
        slot = case.slot(self.person)
        info = hpke.release_info(
            bytes.fromhex(case.digest),
            bytes.fromhex(case.lease),
            bytes.fromhex(case.key.digest),
            bytes.fromhex(case.version.sharing_digest),
            slot.group,
            slot.index,
            bytes.fromhex(self.device.key_id),
        )
        with SecretBytes(32) as y:
            hpke.open_into(case.seed, info, self.counter.shares[self.person], y)
            return bytes(y.view)

    def share(self) -> bytes:
        shares = self.world.shares[self.case.version.content.vid]
        return bytes(shares[self.case.slot(self.person)].view)
