"""One honest document, entry and manifest of each kind, for tests of formats."""

from functools import cache

from custody.documents.content import Content
from custody.documents.decision import Decision
from custody.documents.dsse import Document, Envelope
from custody.documents.hello import Hello
from custody.documents.manifest import Manifest
from custody.documents.release import Release, ReleaseKey
from custody.documents.request import Request
from custody.documents.root import Root
from custody.documents.session import OpenSession
from custody.documents.sharing import Sharing
from custody.documents.stop import Stop
from custody.documents.terms import Terms
from custody.entries.entry import Entry
from tests.doubles.world import World

__all__ = ["KINDS", "entries", "envelopes", "manifest"]

KINDS: dict[str, type[Document]] = {
    kind.document_kind(): kind
    for kind in (
        Root,
        Content,
        Sharing,
        Request,
        Terms,
        ReleaseKey,
        Decision,
        Release,
        OpenSession,
        Stop,
        Hello,
    )
}


@cache
def _world() -> World:
    world = World()
    world.append("system", reason="broker-start", actor=world.party("broker-1"))
    world.log_hello(world.hello())
    case = world.opened("frontier/llm@1")
    case.end(case.begin(), (0, 700), (1, 100))
    case.log_stop(case.stop("revoke", "carol"), "carol")
    case.close("revoked")
    waiting = world.file("frontier/llm@1", "frank", reason="another one")
    waiting.log_key(waiting.make_key())
    return world


@cache
def envelopes() -> dict[str, Envelope]:
    """One envelope of each kind of document."""
    found: dict[str, Envelope] = {}
    for envelope in _world().log.envelopes.values():
        kind = envelope.payloadType.removeprefix("application/vnd.custody.").removesuffix(".v1+json")
        found.setdefault(kind, envelope)
    return found


@cache
def entries() -> dict[str, Entry]:
    """One entry of each type."""
    found: dict[str, Entry] = {}
    for entry in _world().log.entries:
        found.setdefault(entry.type, entry)
    return found


@cache
def manifest() -> Manifest:
    """A manifest with real wraps."""
    world = _world()
    return world.manifest(envelopes()["content"], envelopes()["sharing"])
