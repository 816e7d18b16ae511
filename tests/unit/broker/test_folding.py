"""A fold with signatures verified ahead comes to the same as one without, and refuses the same."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from custody.broker import folding
from custody.broker.folding import Prover, fold, nobody
from custody.crypto import keys
from custody.documents.dsse import Envelope
from custody.errors import IntegrityError, NotFoundError
from custody.rules.ahead import Claims, Proof, prove
from custody.rules.state import State
from tests.doubles.world import World
from tests.unit.audit.busy import busy
from tests.unit.publishing.world import World as Place
from tests.unit.rules.test_ahead import forged


def one_ahead(claims: Iterator[Claims]) -> Iterator[list[Proof]]:
    """Prove each page while the one before it is judged."""
    waiting: list[Claims] = []
    for work in claims:
        waiting.append(work)
        if len(waiting) > 1:
            yield prove(waiting.pop(0))
    yield from map(prove, waiting)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(folding, "_PAGE", 8)
    made = Place(tmp_path)
    yield made
    made.close()


def logged(place: Place, world: World) -> None:
    """Put a history into a ledger."""
    with place.journal.transaction() as transaction:
        for entry in world.log.entries:
            transaction.append(entry.encode())
        for digest, envelope in world.log.envelopes.items():
            transaction.add_document(digest, envelope.encode())


def folded(place: Place, world: World, prover: Prover) -> State:
    state = State(world.deployment, world.genesis.digest)
    indexes = [index for index, _ in fold(place.journal, state, prover)]
    assert indexes == list(range(len(world.log.entries)))
    return state


def test_both_ways_lead_to_the_same_state(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    world = busy()
    logged(place, world)
    real, here = Envelope._require, list[str]()

    def require(envelope: Envelope, key: bytes, verify: Any) -> None:
        if envelope.__dict__.get("_signed_by") != key:
            here.append(envelope.payloadType)
        real(envelope, key, verify)

    monkeypatch.setattr(Envelope, "_require", require)
    assert folded(place, world, nobody) == world.state
    alone = len(here)
    here.clear()
    assert folded(place, world, one_ahead) == world.state
    # Two pages are read before the trust root is known, whose keys they were signed with.
    assert len(here) < alone / 2


@pytest.mark.parametrize("prover", [nobody, one_ahead])
@pytest.mark.parametrize("kind", ["open", "decision"])
def test_a_forged_signature_is_refused_either_way(place: Place, prover: Prover, kind: str) -> None:
    """It stands in the documents of the ledger under its own digest, and the entry names it."""
    world = busy()
    number = next(n for n, entry in enumerate(world.log.entries) if kind in {item.kind for item in entry.documents})
    entry = world.log.entries[number]
    (reference,) = entry.documents
    bad = forged(world.log.envelopes[reference.envelope])
    world.log.entries[number] = replace(entry, documents=(replace(reference, envelope=bad.envelope_digest),))
    world.log.envelopes[bad.envelope_digest] = bad
    logged(place, world)
    with pytest.raises(IntegrityError, match="does not verify"):
        folded(place, world, prover)


def test_a_document_that_the_ledger_lost_is_named(place: Place) -> None:
    world = busy()
    logged(place, world)
    lost = world.log.entries[-1].documents[0].envelope
    with sqlite3.connect(place.path / "ledger") as connection:
        connection.execute("DELETE FROM documents WHERE digest = ?", (lost,))
    connection.close()
    with pytest.raises(NotFoundError, match=lost):
        folded(place, world, nobody)


def test_keys_verify_is_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without a proof, the signature is verified where it is judged."""
    world = World()
    envelope = Envelope.parse(world.hello("bob").encode())
    asked: list[bytes] = []
    monkeypatch.setattr(keys, "verify", lambda public, *_: asked.append(public))
    envelope.require_signature(world.devices["bob"].ed25519)
    envelope.require_signature(world.devices["bob"].ed25519)
    assert asked == [world.devices["bob"].ed25519]
