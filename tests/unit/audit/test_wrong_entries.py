"""A wrong history for each rule of proto/spec/entries.md: every entry, roots, manifests."""

from typing import Any

import pytest

from custody.documents.actor import Person
from custody.documents.dsse import sign
from custody.documents.root import Root, Sealer
from custody.entries.entry import Entry, Parent
from custody.values import U64, Time
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.audit.published import Published, codes, forced
from tests.unit.audit.test_wrong_successors import SUCCESSORS
from tests.unit.audit.wrong import (
    AB,
    OTHER,
    Lie,
    Prepare,
    judge,
    opened,
    requested,
    sealed,
    unprovoked,
    wrong,
)


def system(**fields: Any) -> Lie:
    return lambda world, _: world.append("system", **({"reason": "clock"} | fields))


def root(*signers: str, **changes: Any) -> Lie:
    return lambda world, _: world.log_root(world.sign_root(world.next_root(**changes), *(signers or ("alice", "dave"))))


def manifest(**changes: Any) -> Lie:
    """Seal ``demo/other@1``, something of it changed: ``content_x`` and ``sharing_x`` in the documents."""

    def lie(world: World, _: Case) -> object:
        who = changes.get("who", "sam")
        parts = {
            part: {
                name.removeprefix(f"{part}_"): value for name, value in changes.items() if name.startswith(f"{part}_")
            }
            for part in ("content", "sharing", "entry")
        }
        content = world.content(changes.get("version", "demo/other@1"), who, **parts["content"])
        sharing = world.sharing(content, **parts["sharing"])
        signer = changes.get("sharer", who)
        return world.log_manifest(world.sign(content, who), world.sign(sharing, signer), who, **parts["entry"])

    return lie


def twice(world: World, _: Case) -> object:
    content = world.state.versions["demo/tiny@1"].content
    fresh = world.content("demo/other@1", vid=content.vid)
    world.shares[content.vid] = next(iter(world.shares.values()))
    return world.log_manifest(world.sign(fresh, "sam"), world.sign(world.sharing(fresh), "sam"))


def new_device(world: World) -> Entry:
    persons = tuple(
        world.named("bob", world.devices["bob"], world.device("second")) if person.id == "bob" else person
        for person in world.root.persons
    )
    return world.log_root(world.sign_root(world.next_root(persons=persons), "alice", "dave"))


def itself(world: World) -> Entry:
    envelope = world.sign_root(world.next_root(), "alice", "dave")
    return world.log_root(envelope, root=envelope.document(Root).digest)


def unknown_signer(world: World, _: Case) -> Entry:
    devices = [world.devices["alice"], world.devices["dave"], world.device("nobody")]
    return world.log_root(sign(world.next_root(), devices))


def sealed_by_alice(world: World) -> None:
    world.seal()
    world.replace_root(sealers=(Sealer(sealer="alice", names=("*",)),))


def unguarded(world: World) -> None:
    world.seal()
    rosters = tuple(roster for roster in world.state.root.rosters if roster.name != "custodians")
    world.replace_root(rosters=rosters)


EVERY = [
    wrong(
        "six seconds back",
        opened,
        "6 seconds before the entry before it",
        lambda w, _: w.append("system", reason="clock", time=Time(w.now - 6)),
    ),
    wrong(
        "an id used twice",
        opened,
        "its id was used before",
        lambda w, _: w.append("system", reason="clock", id=w.log.entries[1].id),
    ),
    wrong(
        "a stale root",
        sealed,
        "another trust root than the one in force",
        lambda w, _: w.append("system", reason="clock", root=w.genesis.digest),
    ),
    wrong("another policy", opened, "another policy", system(policy=AB)),
    wrong("a broker nobody named", opened, "broker-9 is not a broker of the trust root", system(broker="broker-9")),
    wrong(
        "a document too many",
        requested,
        "other documents than its type has",
        lambda w, _: w.append("hello", w.hello(), w.hello(), actor=w.party("alice")),
    ),
    wrong(
        "another actor",
        requested,
        "the actor is not person:bob",
        lambda w, c: c.log_decision(c.decision("bob"), "bob", actor=w.party("carol")),
    ),
    wrong(
        "another key of the same person",
        requested,
        "the actor is not person:alice",
        lambda w, c: c.log_decision(c.decision("alice"), "alice", actor=w.party("alice/token")),
    ),
    wrong(
        "another parent",
        requested,
        "does not follow from the entry it names",
        lambda w, c: c.log_decision(c.decision("bob"), "bob", parent=Parent(index=U64(0), leaf=AB)),
    ),
    wrong(
        "another version than the document's",
        requested,
        "other version",
        lambda w, c: c.log_decision(c.decision("bob"), "bob", version="demo/tiny@2"),
    ),
    wrong(
        "another verdict than the document's",
        requested,
        "another verdict",
        lambda w, c: c.log_decision(c.decision("bob"), "bob", verdict="deny"),
    ),
    wrong(
        "a broker that speaks for another",
        opened,
        "it speaks for another broker",
        lambda w, _: w.append("system", reason="clock", broker="broker-2", actor=w.party("broker-1")),
    ),
]

ROOTS = [
    wrong("a signature by a key of no root", opened, "which no root names", unknown_signer),
    wrong(
        "a root logged by a broker that nobody named",
        opened,
        "broker-9 is no broker of the root",
        lambda w, _: w.log_root(w.sign_root(w.next_root(), "alice", "dave"), broker="broker-9"),
    ),
    wrong("no governance quorum", opened, "lacks the governance quorum", root("alice")),
    wrong(
        "one person of governance with two devices", opened, "lacks the governance quorum", root("alice", "alice/token")
    ),
    wrong("an epoch left out", opened, "does not follow epoch 0", root(epoch=U64(2))),
    wrong("another root before it", opened, "does not follow epoch 0", root(previous=AB)),
    wrong("older than the one before it", opened, "is older than the one before it", root(created=Time(1_700_000_000))),
    wrong("a root of another deployment", opened, f"of deployment {OTHER}", root(deployment=OTHER)),
    wrong(
        "a root from the future",
        opened,
        "ahead of the broker's clock",
        lambda w, c: root(created=Time(w.now + 301))(w, c),
    ),
    wrong("a new device that did not sign", opened, "did not sign with the new device", lambda w, c: new_device(w)),
    wrong("it names itself", opened, "it names another trust root", lambda w, _: itself(w)),
    wrong(
        "no parent",
        sealed,
        "does not follow",
        lambda w, _: w.log_root(w.sign_root(w.next_root(), "alice", "dave"), parent=None),
    ),
]

MANIFESTS = [
    wrong("another sharing than the document", sealed, "it names another sharing", manifest(entry_sharing=AB)),
    wrong(
        "another version than the documents'",
        sealed,
        "it names another version",
        manifest(entry_version="demo/third@1"),
    ),
    wrong(
        "two devices of the sealer", sealed_by_alice, "two sealers signed", manifest(who="alice", sharer="alice/token")
    ),
    wrong("a version that no roster guards", unguarded, "no roster guards demo/other@1", manifest()),
    wrong("a sealer who may not", sealed, "frank may not seal demo/other@1", manifest(who="frank")),
    wrong("a version that exists", sealed, "demo/tiny@1 exists already", manifest(version="demo/tiny@1")),
    wrong("a vid that exists", sealed, "exists already", twice),
    wrong("another roster's sharing", sealed, "is not that of roster custodians", manifest(sharing_roster="board")),
    wrong(
        "a later generation", sealed, "not the sealer's own", manifest(sharing_generation=U64(1), sharing_reshare=AB)
    ),
    wrong(
        "a sharing that somebody else signed",
        sealed,
        "the actor is not",
        lambda w, c: manifest(entry_actor=w.party("frank"))(w, c),
    ),
    wrong(
        "a sharing by another sealer",
        sealed,
        "not the sealer's own",
        manifest(sharing_signer=Person(person="frank"), sharer="frank"),
    ),
    wrong("a signature of somebody else", sealed, "not signed with a device of sam", manifest(sharer="frank")),
    wrong(
        "content from the future",
        sealed,
        "ahead of the broker's clock",
        lambda w, c: manifest(content_created=Time(w.now + 301))(w, c),
    ),
    wrong("a manifest of another deployment", sealed, "of another deployment", manifest(content_deployment=OTHER)),
    wrong("a sharing of other content", sealed, "another content", manifest(sharing_content=AB)),
]


@pytest.mark.parametrize(("prepare", "text", "lie"), [*EVERY, *ROOTS, *MANIFESTS])
def test_a_wrong_entry_is_found(prepare: Prepare, text: str, lie: Lie) -> None:
    judge(prepare, text, lie)


def test_a_log_that_does_not_begin_with_a_root_is_no_log() -> None:
    world = World(genesis=False)
    forced(world, lambda: world.append("system", reason="clock"))
    log = Published(world)
    log.publish()
    report = log.audit()
    assert (codes(report), report.audited) == ([(0, "rule-system")], 1)
    assert "the log does not begin with a trust root" in report.findings[0].text


def test_a_genesis_that_somebody_did_not_sign_is_no_genesis() -> None:
    world = World(genesis=False)
    world.genesis = world.sign_root(world.root, "alice", "bob")
    forced(world, lambda: world.log_root(world.genesis))
    log = Published(world)
    log.publish()
    report = log.audit()
    assert codes(report) == [(0, "rule-root")]
    assert "is not signed by carol, dave, erin, frank, grace, sam" in report.findings[0].text


def test_no_rule_for_these_was_forgotten() -> None:
    rows = [*EVERY, *ROOTS, *MANIFESTS, *SUCCESSORS]
    assert unprovoked(rows, "step", "roots", "sealing", "watching") == {
        r"the\ log\ does\ not\ begin\ with\ a\ trust\ root",  # above
        r"trust\ root\ of\ epoch\ .*\ is\ not\ signed\ by\ .*",  # above
        r"genesis\ trust\ root\ is\ .*…,\ but\ .*…\ is\ pinned",  # test_verify_attacks.py
        r"there\ is\ no\ trust\ root",  # of an empty chain
    }
