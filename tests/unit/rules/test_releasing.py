"""What is refused as a release or as a release key. The honest ones are in ``test_honest_history``."""

from functools import partial
from typing import Any

import msgspec
import pytest

from custody.documents.release import Recipient, Release, ReleaseKey
from custody.documents.root import Roster
from custody.documents.sharing import Slot
from custody.documents.terms import Terms
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, NotFoundError
from custody.values import U64, Time
from tests.doubles.case import Case
from tests.doubles.refusal import Act, Attack, params, refused
from tests.doubles.world import BOARD, CUSTODIANS, HOUR, World

NONE = "00" * 32


def approved() -> tuple[World, Case]:
    """A request that alice has approved."""
    world = World()
    world.seal()
    case = world.file()
    case.decide("alice")
    return world, case


def signed(case: Case, who: str = "alice", **changes: Any) -> Act:
    """A release that was changed before it was signed."""
    return partial(case.log_release, case.release(who, **changes), who)


def entered(case: Case, **changes: Any) -> Act:
    """An honest release in an entry that was changed."""
    return partial(case.log_release, case.release("alice"), "alice", **changes)


def in_anothers_slot(world: World, case: Case) -> Act:
    """Framing: a share of mallory's in alice's slot."""
    release = case.release("bob").document(Release)
    framed = msgspec.structs.replace(release, person="alice", slot=case.slot("alice"))
    return partial(case.log_release, world.sign(framed, "bob"), "bob")


def to(case: Case, **changes: Any) -> Act:
    """A release to another recipient."""
    (recipient,) = case.release("alice").document(Release).recipients
    return signed(case, recipients=(msgspec.structs.replace(recipient, **changes),))


def replayed(world: World, case: Case) -> Act:
    other = world.file(reason="another one")
    other.decide("alice")
    return partial(case.log_release, other.release("alice"), "alice", request=case.digest, terms=case.lease)


@params(
    [
        (
            "of another deployment",
            lambda _, c: signed(c, deployment="staging.example.org/log"),
            IntegrityError,
            "of another deployment",
        ),
        ("of another request", replayed, IntegrityError, "it is for another request"),
        ("for other terms", lambda _, c: signed(c, terms=NONE), IntegrityError, "it is for other terms"),
        ("for another sharing", lambda _, c: signed(c, sharing=NONE), DeniedError, "for another sharing"),
        ("for another slot", lambda _, c: signed(c, slot=c.slot("bob")), IntegrityError, "not hold slot 0/2"),
        ("for no slot", lambda _, c: signed(c, slot=Slot(group=9, index=1)), IntegrityError, "not hold slot 9/1"),
        ("in another person's slot", in_anothers_slot, IntegrityError, "not signed with a device of alice"),
        ("to an old release key", lambda _, c: to(c, release_key=NONE), DeniedError, "no longer in use"),
        ("to another broker", lambda _, c: to(c, broker="broker-2"), DeniedError, "no longer in use"),
        ("of somebody who has not approved", lambda _, c: signed(c, "bob"), DeniedError, "bob has not approved"),
        ("from the future", lambda w, c: signed(c, issued=Time(w.now + 301)), DeniedError, "301 seconds ahead"),
        ("entry of no request", lambda _, c: entered(c, request=NONE), NotFoundError, "there is no request"),
        ("entry of other terms", lambda _, c: entered(c, terms=NONE), IntegrityError, "it is for other terms"),
        ("entry of other sharing", lambda _, c: entered(c, sharing=NONE), IntegrityError, "names another slot"),
        ("entry of other slot", lambda _, c: entered(c, slot=c.slot("bob")), IntegrityError, "names another slot"),
        ("entry of other release key", lambda _, c: entered(c, release_key=NONE), DeniedError, "no longer in use"),
        ("entry of other actor", lambda w, c: entered(c, actor=w.party("bob")), IntegrityError, "the actor is not"),
        ("entry of other parent", lambda _, c: entered(c, parent=c.version.entry), IntegrityError, "not follow"),
    ]
)
def test_refused_as_a_release(attack: Attack, error: type[CustodyError], message: str) -> None:
    world, case = approved()
    act = attack(world, case)
    with refused(world, error, message):
        act()
    case.send("alice")
    assert list(case.found.releases) == [case.slot("alice")]


def test_a_release_names_each_broker_once() -> None:
    _, case = approved()
    (recipient,) = case.release("alice").document(Release).recipients
    with pytest.raises(ValueError, match="one broker occurs twice"):
        case.release("alice", recipients=(recipient, recipient))
    other = msgspec.structs.replace(recipient, broker="broker-2")
    case.log_release(case.release("alice", recipients=(other, recipient)), "alice")


def test_a_denial_is_no_approval_to_release_for() -> None:
    world, case = approved()
    case.decide("bob", "deny")
    act = signed(case, "bob")
    with refused(world, DeniedError, "bob has not approved"):
        act()


def test_a_release_for_an_approval_that_a_new_root_voided_is_refused() -> None:
    world, case = approved()
    world.replace_root()
    act = signed(case)
    with refused(world, DeniedError, "or the approval does not count any more"):
        act()


def test_a_share_that_came_with_a_voided_approval_does_not_open_the_lease() -> None:
    world, case = approved()
    case.send("alice")
    world.replace_root()
    for person in ("bob", "carol"):
        case.decide(person)
    case.send("bob")
    case.grant()
    assert list(case.found.releases) == [case.slot("bob")]
    with refused(world, DeniedError, "shares of bob are at hand, needed: 2 of alice, bob, carol"):
        case.begin_opening()
    act = signed(case)
    with refused(world, DeniedError, "alice has not approved"):
        act()
    case.send("carol")
    case.begin_opening()


def test_releases_of_the_stricter_mode_wait_for_grant_and_cool_off() -> None:
    world = World()
    world.seal("frontier/llm@1")
    case = world.file("frontier/llm@1")
    case.decide("alice")
    waits = "only after the grant and the cool-off"
    act = signed(case)
    with refused(world, DeniedError, waits):
        act()
    case.decide("bob")
    case.decide("dave")
    case.grant()
    world.tick(HOUR - 1)
    act = signed(case)
    with refused(world, DeniedError, waits):
        act()
    world.tick(1)
    case.open()


def test_the_stricter_release_mode_holds_where_the_roster_is_gone() -> None:
    world = World()
    world.seal()
    case = world.file()
    gone = tuple(roster for roster in world.state.root.rosters if roster.name != CUSTODIANS.name)
    world.replace_root(rosters=gone)
    for person in case.quorum:
        case.decide(person)
    act = partial(case.log_release, case.release("alice"), "alice")
    with refused(world, DeniedError, "only after the grant and the cool-off"):
        act()
    case.grant()
    case.open()


def test_a_cool_off_that_a_newer_root_brings_in_holds_for_shares_that_came_before_it() -> None:
    world = World()
    case = world.granted()
    for person in case.quorum:
        case.send(person)
    world.replace_root(rosters=tuple(_slower(roster) for roster in world.state.root.rosters))
    with refused(world, DeniedError, "the cool-off is not over"):
        case.begin_opening()
    world.tick(HOUR)
    case.begin_opening()


def _slower(roster: Roster) -> Roster:
    if roster.name != CUSTODIANS.name:
        return roster
    return msgspec.structs.replace(roster, release=BOARD.release, cool_off=BOARD.cool_off)


def test_a_release_after_the_terms_are_over_is_refused() -> None:
    world = World()
    case = world.granted()
    world.tick(26 * HOUR)
    act = signed(case)
    with refused(world, DeniedError, "the terms are over"):
        act()


def test_a_release_for_terms_that_lost_is_refused() -> None:
    world, case = approved()
    narrower = case.make_terms(sessions=U64(1))
    case.found.terms[narrower.digest] = narrower.document(Terms)  # as a custodian who narrows will make them
    for person in ("alice", "bob"):
        envelope = case.decision(person, terms=narrower.digest)
        case.log_decision(envelope, person)
    case.grant(terms=narrower.digest, persons=("alice", "bob"))
    act = signed(case)
    with refused(world, DeniedError, "other terms were granted"):
        act()


@pytest.mark.parametrize("phase", ["open", "withdrawn", "closed"])
def test_a_release_that_nobody_waits_for_is_refused(phase: str) -> None:
    world = World()
    case = world.opened() if phase == "open" else world.granted()
    if phase != "open":
        case.log_stop(case.stop("withdraw", "frank"), "frank")
    if phase == "closed":
        case.close("withdrawn")
    act = signed(case)
    with refused(world, DeniedError, f"the request is {'open' if phase == 'open' else 'withdrawn'}"):
        act()


def test_shares_do_not_change_while_they_are_being_used() -> None:
    world = World()
    case = world.granted()
    for person in case.quorum:
        case.send(person)
    case.begin_opening()
    act = signed(case)
    with refused(world, ConflictError, "the lease is being opened with the shares that are at hand"):
        act()
    case.end_opening("failed", reason="bad-share", slot=case.slot("alice"))
    case.send("alice")
    case.begin_opening()


def keyed(case: Case, who: str = "broker-1", **changes: Any) -> Act:
    """A release key that was changed before it was signed."""
    return partial(case.log_key, case.make_key(who=who, **changes))


def key_entered(case: Case, **changes: Any) -> Act:
    """An honest release key in an entry that was changed."""
    return partial(case.log_key, case.make_key(), **changes)


def used_elsewhere(world: World, case: Case) -> Act:
    other = world.file(reason="another one")
    return keyed(case, xwing=other.key.document(ReleaseKey).xwing)


def signed_by_a_person(world: World, case: Case) -> Act:
    key = case.make_key().document(ReleaseKey)
    return partial(case.log_key, world.sign(key, "alice"))


def signed_by_the_other_broker(world: World, case: Case) -> Act:
    key = case.make_key().document(ReleaseKey)
    return partial(case.log_key, world.sign(key, "broker-2"))


@params(
    [
        (
            "of another deployment",
            lambda _, c: keyed(c, deployment="staging.example.org/log"),
            IntegrityError,
            "of another deployment",
        ),
        ("for another request", lambda _, c: keyed(c, request=NONE), IntegrityError, "the release key is for another"),
        ("of another broker", lambda _, c: keyed(c, "broker-2"), IntegrityError, "the release key is for another"),
        ("of no broker", lambda _, c: keyed(c, broker="mallory"), IntegrityError, "the release key is for another"),
        ("signed by a person", signed_by_a_person, IntegrityError, "not signed with the key of broker broker-1"),
        ("signed by the other broker", signed_by_the_other_broker, IntegrityError, "not signed with the key of broker"),
        ("that another request had", used_elsewhere, ConflictError, "this release key was used before"),
        ("entry of no request", lambda _, c: key_entered(c, request=NONE), NotFoundError, "there is no request"),
        ("entry of other key", lambda _, c: key_entered(c, release_key=NONE), IntegrityError, "another release key"),
        ("entry of other actor", lambda w, c: key_entered(c, actor=w.party("bob")), IntegrityError, "the actor is not"),
        ("entry of other parent", lambda _, c: key_entered(c, parent=c.version.entry), IntegrityError, "not follow"),
    ]
)
def test_refused_as_a_release_key(attack: Attack, error: type[CustodyError], message: str) -> None:
    world, case = approved()
    act = attack(world, case)
    with refused(world, error, message):
        act()
    case.key = case.make_key()
    case.log_key(case.key)
    case.send("alice")


def test_shares_for_the_release_key_of_a_broker_that_was_restarted_are_void() -> None:
    world, case = approved()
    late = case.release("alice")
    case.send("alice")
    case.key = case.make_key()
    case.log_key(case.key)
    assert case.found.releases == {}
    with refused(world, DeniedError, "the share was released to a release key that is no longer in use"):
        case.log_release(late, "alice")
    case.send("alice")


@pytest.mark.parametrize("phase", ["opening", "open", "stopped", "closed"])
def test_a_release_key_that_nobody_waits_for_is_refused(phase: str) -> None:
    world = World()
    case = world.opened() if phase == "open" else world.granted()
    if phase == "opening":
        for person in case.quorum:
            case.send(person)
        case.begin_opening()
    if phase in ("stopped", "closed"):
        case.log_stop(case.stop("withdraw", "frank"), "frank")
    if phase == "closed":
        case.close("withdrawn")
    act = keyed(case)
    with refused(world, IntegrityError, "the request is not waiting for shares"):
        act()


def test_a_recipient_counts_by_its_release_key_not_by_its_place() -> None:
    _, case = approved()
    (mine,) = case.release("alice").document(Release).recipients
    other = Recipient(broker="broker-2", release_key=NONE, wrapped=NONE)
    case.log_release(case.release("alice", recipients=(other, mine)), "alice", release_key=mine.release_key)
    assert case.found.releases[case.slot("alice")].release.recipients == (other, mine)
