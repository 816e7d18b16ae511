"""Attacks on the chain of trust roots."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from custody.documents.dsse import Envelope, Signature, sign
from custody.documents.root import BrokerKey, Group, NamedPerson, Root, Roster
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError
from custody.rules.roots import accept_root, follow_roots
from custody.values import U64, Time
from tests.doubles.actors import TestDevice
from tests.doubles.refusal import Act, Attack, params, refused
from tests.doubles.world import DEPLOYMENT, World

NONE = "00" * 32
BOTH = ("alice", "dave")


def following(world: World, *signers: str, **changes: Any) -> Act:
    """A root that follows, changed, signed by alice and dave or by those named."""
    return partial(world.log_root, world.sign_root(world.next_root(**changes), *(signers or BOTH)))


def entered(world: World, **changes: Any) -> Act:
    """An honest root in an entry that was changed."""
    return partial(world.log_root, world.sign_root(world.next_root(), *BOTH), **changes)


def persons_with(world: World, *named: NamedPerson) -> tuple[NamedPerson, ...]:
    """The persons of the root, some named differently, some new."""
    changed = {person.id: person for person in named}
    kept = [changed.pop(person.id, person) for person in world.state.root.persons]
    return (*kept, *changed.values())


def newcomer(world: World, *signers: str) -> Act:
    """Mallory is enrolled; who signs is what the attack is about."""
    world.devices["mallory"] = world.device("mallory")
    return following(world, *signers, persons=persons_with(world, world.named("mallory")))


def second_device(world: World, *signers: str) -> Act:
    """Bob gets a second device."""
    world.devices["bob/phone"] = world.device("phone")
    return following(world, *signers, persons=persons_with(world, world.named("bob")))


def key_replaced(world: World, *signers: str) -> Act:
    """Bob's only device is replaced by one that somebody else holds."""
    world.devices["bob/new"] = TestDevice("bob", world.rng(32), world.rng(32))
    bob = world.named("bob", world.devices["bob/new"])
    return following(world, *signers, persons=persons_with(world, bob))


def half_a_device_replaced(world: World, *signers: str) -> Act:
    """Bob keeps the signing key, but shares would be wrapped to somebody else's X-Wing key."""
    old = world.devices["bob"].named()
    stranger = world.device("stranger")
    bob = world.state.root.person("bob")
    assert bob is not None
    device = msgspec.structs.replace(old, name="laptop", xwing=stranger.xwing)
    return following(world, *signers, persons=persons_with(world, msgspec.structs.replace(bob, devices=(device,))))


def key_moved_to_another_person(world: World) -> Act:
    """Carol's device becomes bob's: who holds it decides in bob's name, and bob never agreed."""
    bob = world.named("bob", world.devices["carol"])
    rosters = tuple(_without(roster, "carol") for roster in world.state.root.rosters)
    people = tuple(person for person in persons_with(world, bob) if person.id != "carol")
    return following(world, persons=people, rosters=rosters)


def _without(roster: Roster, person: str) -> Roster:
    groups = tuple(
        msgspec.structs.replace(group, members=tuple(member for member in group.members if member != person))
        for group in roster.groups
    )
    return msgspec.structs.replace(roster, groups=groups)


def easier_governance(world: World, *signers: str) -> Act:
    """A root that makes bob alone the governance, signed as it would like to be judged."""
    rosters = tuple(
        msgspec.structs.replace(roster, groups=(Group(name="governance", threshold=1, members=("bob",)),))
        if roster.name == "governance"
        else roster
        for roster in world.state.root.rosters
    )
    return following(world, *signers, rosters=rosters)


def signed_by_an_unknown_key(world: World) -> Act:
    world.devices["mallory"] = world.device("mallory")
    return following(world, *BOTH, "mallory")


def with_a_bad_signature(world: World) -> Act:
    envelope = world.sign_root(world.next_root(), *BOTH, "bob")
    *good, bad = envelope.signatures
    broken = Signature(keyid=bad.keyid, sig=bytes(64))
    return partial(world.log_root, msgspec.structs.replace(envelope, signatures=(*good, broken)))


def with_a_signature_under_another_id(world: World) -> Act:
    """Dave's signature under grace's key id, to make one person two."""
    envelope = world.sign_root(world.next_root(), "dave")
    (mine,) = envelope.signatures
    twin = Signature(keyid=world.devices["grace"].key_id, sig=mine.sig)
    return partial(world.log_root, msgspec.structs.replace(envelope, signatures=(mine, twin)))


def another_genesis(world: World) -> Act:
    return partial(world.log_root, World(b"another seed").genesis)


def no_genesis_again(world: World) -> Act:
    return partial(world.log_root, world.genesis, id=world.rng(16).hex())


@params(
    [
        (
            "that skips an epoch",
            lambda w: following(w, epoch=U64(2)),
            IntegrityError,
            "of epoch 2 does not follow epoch 0",
        ),
        ("of the same epoch", no_genesis_again, IntegrityError, "of epoch 0 does not follow epoch 0"),
        ("that names another previous root", lambda w: following(w, previous=NONE), IntegrityError, "does not follow"),
        ("of another genesis", another_genesis, IntegrityError, "does not follow"),
        (
            "of another deployment",
            lambda w: following(w, deployment="staging.example.org/log"),
            IntegrityError,
            "trust root is of deployment staging.example.org/log",
        ),
        ("older than the one before", lambda w: following(w, created=Time(0)), IntegrityError, "is older than"),
        ("from the future", lambda w: following(w, created=Time(w.now + 301)), DeniedError, "301 seconds ahead"),
        ("signed by one of governance", lambda w: following(w, "alice"), IntegrityError, "lacks the governance quorum"),
        (
            "signed by two devices of one of governance",
            lambda w: following(w, "alice", "alice/token"),
            IntegrityError,
            "lacks the governance quorum",
        ),
        ("signed by custodians", lambda w: following(w, "alice", "bob", "carol"), IntegrityError, "governance quorum"),
        (
            "signed by the governance that it makes itself",
            lambda w: easier_governance(w, "bob"),
            IntegrityError,
            "lacks the governance quorum of epoch 0",
        ),
        ("with a person who did not sign", newcomer, IntegrityError, "mallory did not sign with the new device"),
        ("with a new person and no quorum", lambda w: newcomer(w, "mallory"), IntegrityError, "governance quorum"),
        ("with a second device that did not sign", second_device, IntegrityError, "bob did not sign with the new"),
        (
            "with a second device that the first one signed for",
            lambda w: second_device(w, *BOTH, "bob"),
            IntegrityError,
            "bob did not sign with the new device phone",
        ),
        ("with a replaced key", key_replaced, IntegrityError, "bob did not sign with the new device"),
        ("with a replaced X-Wing key", half_a_device_replaced, IntegrityError, "bob did not sign with the new device"),
        ("with a key moved to another person", key_moved_to_another_person, IntegrityError, "bob did not sign"),
        ("signed by an unknown key", signed_by_an_unknown_key, FormatError, "which no root names"),
        ("with a bad signature", with_a_bad_signature, IntegrityError, "does not verify"),
        ("with a signature twice", with_a_signature_under_another_id, IntegrityError, "does not verify"),
        ("entry that names itself", lambda w: entered(w, root=NONE), IntegrityError, "it names another trust root"),
        ("entry of another policy", lambda w: entered(w, policy=NONE), IntegrityError, "it names another policy"),
        ("entry of no broker", lambda w: entered(w, broker="mallory"), IntegrityError, "mallory is no broker"),
        ("entry of no parent", lambda w: entered(w, parent=None), IntegrityError, "does not follow"),
    ]
)
def test_refused_as_a_root(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    act = attack(world)
    with refused(world, error, message):
        act()
    following(world)()
    assert world.state.root.epoch == 1


@pytest.mark.parametrize(
    ("change", "device"), [(newcomer, "mallory"), (second_device, "bob/phone"), (key_replaced, "bob/new")]
)
def test_a_root_with_a_new_device_is_accepted_when_that_device_signs(change: Attack, device: str) -> None:
    world = World()
    change(world, *BOTH, device)()
    assert world.devices[device].key_id in world.state.root.devices


def test_a_policy_or_broker_comes_into_force_only_after_the_entry_of_its_root() -> None:
    world = World()
    third = world.devices["third"] = world.device("third")
    brokers = (
        *world.state.root.brokers,
        BrokerKey(id="broker-3", identity="spiffe://example.org/b3", ed25519=third.ed25519),
    )
    act = entered(world, broker="broker-3", policy="e0" * 32)
    with refused(world, IntegrityError, "it names another policy"):
        act()
    world.replace_root(brokers=brokers, policy="e0" * 32)
    world.append("system", broker="broker-3", reason="broker-start")
    with refused(world, IntegrityError, "it names another policy"):
        world.append("system", policy="d0" * 32, reason="broker-start")


def test_the_first_logged_root_of_an_epoch_wins() -> None:
    world = World()
    second = world.sign_root(world.next_root(policy="e0" * 32), *BOTH)
    world.replace_root()
    with refused(world, IntegrityError, "does not follow"):
        world.log_root(second)


def test_a_root_is_signed_by_the_governance_before_it_not_by_the_first_one() -> None:
    world = World()
    easier_governance(world, *BOTH)()
    act = following(world, *BOTH)
    with refused(world, IntegrityError, "lacks the governance quorum of epoch 1"):
        act()
    following(world, "bob")()


def test_governance_that_leaves_may_sign_its_own_leaving() -> None:
    world = World()
    people = tuple(person for person in world.state.root.persons if person.id != "dave")
    rosters = tuple(_without(roster, "dave") for roster in world.state.root.rosters)
    following(world, *BOTH, persons=people, rosters=rosters)()
    assert world.state.root.person("dave") is None


def genesis(world: World, *signers: str, **changes: Any) -> Envelope:
    """Genesis, changed, signed by all or by those named."""
    names = signers or tuple(name for name in world.devices if "/" not in name)
    return world.sign_root(msgspec.structs.replace(world.root, **changes), *names)


def test_genesis_is_pinned_by_digest() -> None:
    world = World(genesis=False)
    for other in (genesis(world, policy="e0" * 32), World(b"another seed").genesis):
        with refused(world, IntegrityError, "is pinned"):
            world.log_root(other)
    world.log_root(world.genesis)


def test_genesis_is_signed_by_everybody_it_names() -> None:
    world = World(genesis=False)
    incomplete = genesis(world, "alice", "bob", "carol", "dave", "grace", "erin", "sam")
    with refused(world, IntegrityError, "trust root of epoch 0 is not signed by frank"):
        world.log_root(incomplete)


def test_genesis_names_itself_in_its_entry() -> None:
    world = World(genesis=False)
    with refused(world, IntegrityError, "it names another trust root"):
        world.log_root(world.genesis, root=NONE)
    with refused(world, IntegrityError, "does not follow"):
        twin = World()
        world.log_root(world.genesis, parent=twin.state.root_entries[0])


def test_a_log_that_does_not_begin_with_its_root_is_refused() -> None:
    world = World(genesis=False)
    with refused(world, IntegrityError, "the log does not begin with a trust root"):
        world.append("system", reason="broker-start")


def test_a_later_root_is_no_genesis() -> None:
    world = World()
    later = world.sign_root(world.next_root(), *world.devices)
    with pytest.raises(IntegrityError, match="is pinned"):
        accept_root(None, later, deployment=DEPLOYMENT, genesis=world.genesis.digest)


def chain(world: World) -> Sequence[Envelope]:
    world.replace_root(policy="e0" * 32)
    world.replace_root(policy="f0" * 32)
    return [world.log.envelopes[digest] for digest in world.state.root_envelopes]


def test_a_chain_is_followed_from_the_pinned_genesis() -> None:
    world = World()
    envelopes = chain(world)
    roots = follow_roots(envelopes, deployment=DEPLOYMENT, genesis=world.genesis.digest)
    assert [root.policy for root in roots] == ["d0" * 32, "e0" * 32, "f0" * 32]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([], "there is no trust root"),
        ([1, 2], "is pinned"),
        ([0, 2], "does not follow"),
        ([0, 1, 1], "does not follow"),
    ],
)
def test_a_chain_with_a_gap_is_refused(order: list[int], message: str) -> None:
    world = World()
    envelopes = chain(world)
    with pytest.raises(IntegrityError, match=message):
        follow_roots([envelopes[i] for i in order], deployment=DEPLOYMENT, genesis=world.genesis.digest)


def test_another_document_is_no_root() -> None:
    world = World()
    hello = world.hello()
    with pytest.raises(FormatError, match=r"payload type is application/vnd\.custody\.hello"):
        accept_root(world.root, hello, deployment=DEPLOYMENT, genesis=world.genesis.digest)


def test_a_root_is_judged_by_its_bytes_not_by_an_equal_root() -> None:
    world = World()
    root = world.next_root()
    envelope = sign(root, [world.devices[name] for name in BOTH])
    payload = envelope.payload.replace(b'"epoch":"1"', b'"epoch":"1" ')
    assert Root.parse(envelope.payload) == root
    with pytest.raises(FormatError, match="not canonical"):
        accept_root(
            world.state.root,
            msgspec.structs.replace(envelope, payload=payload),
            deployment=DEPLOYMENT,
            genesis=world.genesis.digest,
        )
