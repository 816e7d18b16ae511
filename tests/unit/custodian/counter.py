"""A broker's counter over a world: the methods of ``Calls`` that a custodian's tool uses, without a network.

Honest as it stands; a test replaces one method to make it lie. ``sent`` lists what was sent, in order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from custody.custodian.desk import Desk
from custody.documents.decision import Decision
from custody.documents.dsse import Envelope
from custody.documents.hello import Hello
from custody.documents.release import Release
from custody.entries.entry import Party
from custody.entries.receipt import Receipt
from custody.errors import CustodyError, NotFoundError
from custody.rules.quorum import approvers, met
from custody.rules.signers import device_signature
from custody.rules.trust import Seen, Trust
from custody.wire.messages import RequestReply, VersionReply
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.custodian.logged import Published

__all__ = ["Counter", "Memory", "raising"]


@dataclass
class Memory:
    """What a tool remembers, in memory."""

    now: Seen = field(default_factory=Seen)
    roots: list[str] = field(default_factory=list)

    def seen(self) -> Seen:
        return self.now

    def remember(self, seen: Seen, root: str) -> None:
        self.now = Seen(max(self.now.epoch, seen.epoch), max(self.now.size, seen.size))
        self.roots.append(root)


class Counter:
    """The broker's side for ``person``. ``cases`` are the requests it knows, in order of filing."""

    def __init__(self, world: World, person: str, *cases: Case) -> None:
        self.world = world
        self.person = person
        self.cases = list(cases)
        self.log = Published(world)
        self.sent: list[str] = []
        self.shares: dict[str, bytes] = {}
        self.claimed = ""
        self.log.publish()

    def desk(self, memory: Memory | None = None) -> Desk:
        memory = memory or Memory()
        trust = Trust(self.world.deployment, self.world.genesis.digest, memory.seen())
        return Desk(
            self,  # type: ignore[arg-type]  # what a desk uses of Calls
            trust,
            memory,
            clock=lambda: self.world.now,
            rng=self.world.rng,
            sleep=lambda _: None,
        )

    def lie(self, name: str, does: Callable[..., Any]) -> None:
        """Do something else from now on when this method is called."""
        setattr(self, name, does)

    # -- Calls

    def get_roots(self) -> list[tuple[Envelope, Receipt]]:
        return self.log.roots()

    def get_log_object(self, path: str) -> bytes:
        return self.log.fetch(path)

    def hello(self, envelope: Envelope) -> Receipt:
        self.sent.append("hello")
        party = device_signature(envelope, str(getattr(envelope.document(Hello).actor, "person", "")), self.world.root)
        return self.log.receipt_of(self.world.log_hello(envelope, actor=party))

    def get_version(self, version: str) -> VersionReply:
        try:
            return self.log.version(version, self.log.wraps(version, self.person))
        except StopIteration:
            raise NotFoundError(f"there is no version {version}") from None

    def list_versions(self, token: str, size: int) -> tuple[list[VersionReply], str]:
        names = sorted(self.world.state.versions)
        return [self.log.version(name) for name in names if name > token][:size], ""

    def get_request(self, request: str, *, seen: int = 0, wait_seconds: int = 0) -> RequestReply:
        del seen, wait_seconds
        case = next((case for case in self.cases if case.digest == request), None)
        if case is None:
            raise NotFoundError(f"there is no request {request[:16]}")
        reply = self.log.view(case)
        return replace(reply, phase=self.claimed) if self.claimed else reply

    def list_requests(
        self, *, closed: bool = False, page_token: str = "", page_size: int = 50
    ) -> tuple[list[RequestReply], str]:
        """One to a page, to try the paging."""
        del page_size
        cases = [case for case in self.cases if closed or case.found.phase != "closed"]
        digests = [case.digest for case in cases]
        start = digests.index(page_token) + 1 if page_token in digests else 0
        page = [self.get_request(digest) for digest in digests[start : start + 1]]
        return page, digests[start] if start + 1 < len(digests) else ""

    def decide(self, envelope: Envelope) -> Receipt:
        self.sent.append("decision")
        decision = envelope.document(Decision)
        case = self._case(decision.request)
        party = self._party(envelope, decision.person)
        entry = case.log_decision(envelope, decision.person, actor=party)
        persons = approvers(self.world.state, case.found, case.lease, self.world.now)
        if case.found.phase == "requested" and met(case.version.sharing, persons):
            case.grant()
        return self.log.receipt_of(entry)

    def release_share(self, envelope: Envelope, wrapped: bytes) -> Receipt:
        self.sent.append("release")
        release = envelope.document(Release)
        case = self._case(release.request)
        party = self._party(envelope, release.person)
        self.shares[release.person] = wrapped
        return self.log.receipt_of(case.log_release(envelope, release.person, actor=party))

    def _party(self, envelope: Envelope, person: str) -> Party:
        return device_signature(envelope, person, self.world.state.root)

    def _case(self, digest: str) -> Case:
        return next(case for case in self.cases if case.digest == digest)


def raising(error: CustodyError) -> Callable[..., object]:
    """A method that always fails."""

    def fail(*_: object, **__: object) -> object:
        raise error

    return fail
