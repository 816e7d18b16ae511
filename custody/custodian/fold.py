"""What the log says of one version and one request, judged by the very rules that broker and auditor keep. Pure.

A custodian's tool does not believe a view: it takes the receipts in it, verifies each to the witnessed log, and folds
their entries with ``custody.rules.step``, each under the trust root it names. What comes out is state as the broker has
it, or an error. Two kinds of entries are taken at the log's word, because they only ever end something: ``stop`` and
``close``. Entries of sessions and openings are not in a view; nothing here depends on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from custody.documents.dsse import Envelope
from custody.documents.root import Root
from custody.documents.sharing import Slot
from custody.entries.entry import Entry
from custody.entries.receipt import Verified
from custody.errors import IntegrityError
from custody.rules.state import RequestState, State, VersionState
from custody.rules.step import step
from custody.rules.trust import Trust, require_receipts
from custody.wire.messages import RequestReply, VersionReply

__all__ = ["Chain", "RequestView", "VersionView", "missing_documents", "read_request", "read_version"]


@dataclass(frozen=True, slots=True)
class Chain:
    """Trust roots from genesis on, verified, and their digests."""

    deployment: str
    roots: tuple[Root, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, trust: Trust) -> "Chain":
        """Take the roots that ``trust`` has verified."""
        return cls(trust.deployment, trust.roots, tuple(root.digest for root in trust.roots))

    @property
    def newest(self) -> Root:
        """The root in force, as far as is known."""
        return self.roots[-1]

    def state(self) -> State:
        """A state that knows these roots and nothing else."""
        state = State(self.deployment, self.digests[0])
        state.roots, state.root_digest = list(self.roots), self.digests[-1]
        return state

    def turn(self, state: State, digest: str, index: int) -> None:
        """Put a state where it stood before the entry with this index, which names the root ``digest``."""
        if digest not in self.digests:
            raise IntegrityError("an entry names a trust root that does not follow from the pinned genesis")
        place = self.digests.index(digest)
        state.roots, state.root_digest, state.size = list(self.roots[: place + 1]), digest, index


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version that the log holds: judged as of its entry."""

    version: VersionState
    logged: Verified
    wraps: Mapping[tuple[Slot, str], bytes]
    """The caller's own wrapped shares, by slot and key id of the device; believed when they open to the commitment."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request that the log holds, and all that followed. ``state`` stands under the newest root.

    ``logged`` are the verified entries in the order of the log; ``shares`` the slots whose shares were logged for the
    release key in force. ``claimed`` (the phase), ``spent`` and ``sessions`` are the broker's word.
    """

    state: State
    found: RequestState
    version: VersionView
    logged: tuple[Verified, ...]
    claimed: str = ""
    shares: Mapping[Slot, int] = field(default_factory=dict)
    spent: int = 0
    sessions: int = 0

    @property
    def phase(self) -> str:
        """Where it stands: ``requested``, ``granted`` or ``closed`` by the log; ``open`` where the broker says so."""
        return "open" if self.found.phase == "granted" and self.claimed == "open" else self.found.phase

    def entry(self, kind: str) -> Verified | None:
        """Return the newest entry of a type."""
        return next((item for item in reversed(self.logged) if item.entry.type == kind), None)


def read_version(trust: Trust, chain: Chain, name: str, reply: VersionReply) -> VersionView:
    """Judge a version: its entry is in the log, its sealer signed both documents and might, and a roster guards it."""
    verified = trust.check(reply.receipt)
    if verified.entry.type != "manifest" or verified.entry.version != name:
        raise IntegrityError(f"the receipt shown for {name} is of another entry")
    state = chain.state()
    chain.turn(state, verified.entry.root, verified.index)
    step(state, verified.entry, _by_digest([reply.content, reply.sharing]))
    found = state.versions[name]
    wraps = {(wrap.slot, str(wrap.device)): wrap.wrapped for wrap in reply.wraps}
    return VersionView(found, verified, wraps)


def missing_documents(reply: RequestReply) -> list[str]:
    """Return envelope digests that ``read_request`` needs and the view does not have: release keys used before."""
    known = {envelope.envelope_digest for envelope in reply.envelopes}
    needed = []
    for receipt in reply.receipts:
        entry = Entry.parse(receipt.entry)
        if entry.type == "request":
            needed += [item.envelope for item in entry.documents if item.envelope not in known]
    return needed


def read_request(
    trust: Trust, chain: Chain, version: VersionView, reply: RequestReply, more: Sequence[Envelope] = ()
) -> RequestView:
    """Judge a request and everything in its view. ``more`` are documents that the view lacks.

    Raises ``IntegrityError`` or ``DeniedError`` naming the entry and the rule; ``NotFoundError`` for a document that is
    missing.
    """
    documents = _by_digest([*reply.envelopes, *more])
    state = chain.state()
    state.versions[version.version.content.version] = version.version
    logged = require_receipts(reply.receipts, trust)
    if not logged or logged[0].entry.type != "request":
        raise IntegrityError("the broker does not show the entry of the request")
    keys = [item.index for item in logged if item.entry.type == "release-key"]
    shares: dict[Slot, int] = {}
    for item in logged:
        if item.entry.request != reply.request:
            raise IntegrityError(f"entry {item.index} is of another request")
        chain.turn(state, item.entry.root, item.index)
        if item.entry.type in ("request", "decision", "grant") or item.index in keys[-1:]:
            step(state, item.entry, documents)
        else:
            _note(state, item, shares)
        if item.entry.type == "release-key":
            shares.clear()
    chain.turn(state, chain.digests[-1], logged[-1].index + 1)
    found = state.requests[reply.request]
    return RequestView(
        state, found, version, tuple(logged), reply.phase, shares, int(reply.bytes_spent), int(reply.sessions_used)
    )


def _note(state: State, item: Verified, shares: dict[Slot, int]) -> None:
    """Take an entry at the log's word: it ends something, or says that something was sent."""
    entry = item.entry
    found = state.requests.get(entry.request or "")
    if found is None or entry.parent != found.entry:
        raise IntegrityError(f"entry {item.index} does not follow from the request")
    match entry.type:
        case "release" if entry.slot is not None:
            shares[entry.slot] = item.index
        case "release-key":
            pass  # void: a later one took its place
        case "stop":
            found.stopped = entry.reason or "stopped"
        case "close" if entry.reason == "broker-lost":
            shares.clear()
        case "close":
            found.phase, found.reason = "closed", str(entry.reason)
        case _:
            raise IntegrityError(f"entry {item.index} of type {entry.type} has no place in the view of a request")


def _by_digest(envelopes: Sequence[Envelope]) -> dict[str, Envelope]:
    return {envelope.envelope_digest: envelope for envelope in envelopes}
