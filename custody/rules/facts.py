"""What a rule sees: the state so far, the entry, its place in the log, and the documents it names."""

from collections.abc import Mapping
from typing import Final, TypeVar

from msgspec import Struct

from custody.documents.actor import Actor
from custody.documents.dsse import Document, Envelope
from custody.entries.entry import Entry, Parent, Party
from custody.errors import ConflictError, DeniedError, IntegrityError, NotFoundError
from custody.rules.signers import INLINE, WorkloadVerifier, verify_actor
from custody.rules.state import RequestState, State

__all__ = ["MAX_SKEW", "Facts", "find_lease", "find_request"]

MAX_SKEW: Final = 300
"""Seconds that a signer's clock and a broker's may differ."""

_D = TypeVar("_D", bound=Document)


class Facts(Struct, frozen=True):
    """One entry to be judged. ``place`` is its index and leaf hash; ``documents`` are envelopes by envelope digest."""

    state: State
    entry: Entry
    place: Parent
    documents: Mapping[str, Envelope]
    verifier: WorkloadVerifier = INLINE

    def document(self, kind: type[_D]) -> tuple[_D, Envelope]:
        """Return the one document of a kind that the entry names.

        Raises ``IntegrityError`` when it is not what the entry says, ``NotFoundError`` when it is not there.
        """
        reference = self.entry.document(kind.document_kind())
        envelope = self.documents.get(reference.envelope)
        if envelope is None:
            message = f"entry {self.place.index}: document {reference.envelope} is missing"
            raise NotFoundError(message)
        if (envelope.digest, envelope.envelope_digest) != (reference.document, reference.envelope):
            message = f"entry {self.place.index}: {reference.kind} is not the document the entry names"
            raise IntegrityError(message)
        return envelope.document(kind), envelope

    def require(self, condition: bool, message: str) -> None:  # noqa: FBT001 (reads as a sentence at the call)
        """Refuse an entry that says something else than its documents or the state."""
        if not condition:
            text = f"{self.entry.type} entry {self.place.index}: {message}"
            raise IntegrityError(text)

    def signed(self, envelope: Envelope, actor: Actor) -> Party:
        """Verify that ``actor`` alone signed ``envelope``, now and under the root in force."""
        return verify_actor(envelope, actor, self.state.root, self.entry.time, self.verifier)

    def require_actor(self, party: Party) -> None:
        """The entry must name the party that signed."""
        self.require(self.entry.actor == party, f"the actor is not {party.id}, who signed")

    def require_parent(self, parent: Parent | None) -> None:
        """The entry must follow from the one it claims to follow from."""
        self.require(self.entry.parent == parent, "it does not follow from the entry it names")

    def fresh(self, issued: int, what: str) -> None:
        """Refuse documents signed by a clock that is far off, in either direction."""
        off = issued - self.entry.time
        if abs(off) > MAX_SKEW:
            direction = "ahead of" if off > 0 else "behind"
            message = f"{what} was signed {abs(off)} seconds {direction} the broker's clock"
            raise DeniedError(message, hint=f"clocks may differ by {MAX_SKEW} seconds; set the one that is wrong")

    def not_from_the_future(self, issued: int, what: str) -> None:
        """Refuse documents from the future; how old they may be is bounded by their own expiry."""
        if issued > self.entry.time + MAX_SKEW:
            ahead = issued - self.entry.time
            message = f"{what} was signed {ahead} seconds ahead of the broker's clock"
            raise DeniedError(message, hint="set the clock that is wrong")

    def use_once(self, digest: str, what: str) -> None:
        """Refuse a document that acted before."""
        if digest in self.state.used:
            message = f"this {what} was used before"
            raise ConflictError(message, hint="sign a new one")


def find_request(state: State, digest: str | None) -> RequestState:
    """Return a request by digest. Raises ``NotFoundError``."""
    found = state.requests.get(digest or "")
    if found is None:
        message = f"there is no request {(digest or '?')[:16]}…"
        raise NotFoundError(message)
    return found


def find_lease(state: State, terms: str | None) -> RequestState:
    """Return the request whose terms have this digest. Raises ``NotFoundError``."""
    request = state.leases.get(terms or "")
    if request is None:
        message = f"there is no lease {(terms or '?')[:16]}…"
        raise NotFoundError(message)
    return state.requests[request]
