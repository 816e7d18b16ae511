"""What is refused as a decision. After each refusal the honest one is accepted."""

from functools import partial
from typing import Any

import msgspec
import pytest

from custody.documents.decision import Decision
from custody.documents.dsse import sign
from custody.documents.root import Roster
from custody.documents.sharing import Slot
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.rules.step import step
from custody.rules.stopping import overdue
from custody.values import Time
from tests.doubles.case import Case
from tests.doubles.refusal import Act, Attack, params, refused
from tests.doubles.world import HOUR, World

NONE = "00" * 32


def new(version: str = "demo/tiny@1") -> tuple[World, Case]:
    """A request that waits for decisions."""
    world = World()
    world.seal(version)
    return world, world.file(version)


def signed(world: World, case: Case, who: str = "alice", **changes: Any) -> Act:
    """A decision that was changed before it was signed."""
    return partial(case.log_decision, case.decision(who, **changes), who)


def entered(world: World, case: Case, **changes: Any) -> Act:
    """An honest decision in an entry that was changed."""
    return partial(case.log_decision, case.decision("alice"), "alice", **changes)


def by_the_requester(world: World, case: Case) -> Act:
    return signed(world, world.file("demo/tiny@1", "carol"), "carol")


def by_an_owner(world: World, case: Case) -> Act:
    owned = msgspec.structs.replace(world.state.root.owners[0], persons=("bob", "erin"))
    world.replace_root(owners=(owned,))
    return signed(world, case, "bob")


def replayed_from_another_request(world: World, case: Case) -> Act:
    other = world.file(reason="another one")
    return partial(case.log_decision, other.decision("alice"), "alice", request=case.digest, terms=case.lease)


def replayed_from_another_deployment(world: World, case: Case) -> Act:
    staging = World(deployment="staging.example.org/log")  # the same keys
    staging.seal()
    approval = staging.file().decision("alice")
    return partial(case.log_decision, approval, "alice", request=case.digest, terms=case.lease)


def signed_by_another_person(world: World, case: Case) -> Act:
    forged = world.sign(case.decision("alice").document(Decision), "bob")
    return partial(case.log_decision, forged, "alice")


def signed_with_a_key_of_no_root(world: World, case: Case) -> Act:
    world.devices["mallory"] = world.device("mallory")
    forged = world.sign(case.decision("alice").document(Decision), "mallory")
    return partial(case.log_decision, forged, "alice", actor=world.party("mallory"))


def with_the_signature_of_a_denial(world: World, case: Case) -> Act:
    deny, approve = case.decision("alice", "deny"), case.decision("alice")
    return partial(case.log_decision, msgspec.structs.replace(approve, signatures=deny.signatures), "alice")


def signed_by_two_at_once(world: World, case: Case) -> Act:
    document = case.decision("alice").document(Decision)
    return partial(case.log_decision, sign(document, [world.signer("alice"), world.signer("bob")]), "alice")


def with_other_signatures_than_logged(world: World, case: Case) -> Act:
    """The entry names one envelope, and the reader is served another one with the same payload."""
    document = case.decision("alice").document(Decision)
    first, second = world.sign(document, "alice"), world.sign(document, "alice/token")
    twin, same = new()
    same.log_decision(first, "alice")
    return partial(step, world.state, twin.log.entries[-1], {first.envelope_digest: second})


def with_no_envelope_at_hand(world: World, case: Case) -> Act:
    twin, same = new()
    same.decide("alice")
    return partial(step, world.state, twin.log.entries[-1], {})


@params(
    [
        ("of another deployment", replayed_from_another_deployment, IntegrityError, "of another deployment"),
        ("of another request", replayed_from_another_request, IntegrityError, "decides on another request"),
        ("on no request", lambda w, c: signed(w, c, request=NONE), IntegrityError, "decides on another request"),
        ("on terms nobody made", lambda w, c: signed(w, c, terms=NONE), IntegrityError, "decides on other terms"),
        ("under another root", lambda w, c: signed(w, c, root=NONE), DeniedError, "another trust root or sharing"),
        ("under another sharing", lambda w, c: signed(w, c, sharing=NONE), DeniedError, "trust root or sharing"),
        ("in another slot", lambda w, c: signed(w, c, slot=c.slot("bob")), IntegrityError, "not hold slot 0/2"),
        ("in no slot", lambda w, c: signed(w, c, slot=Slot(group=3, index=9)), IntegrityError, "not hold slot 3/9"),
        ("of nobody on the roster", lambda w, c: signed(w, c, "dave"), IntegrityError, "dave does not hold slot"),
        ("of the requester", by_the_requester, DeniedError, "carol may not decide: requester or owner"),
        ("of an owner", by_an_owner, DeniedError, "bob may not decide: requester or owner"),
        ("signed by another person", signed_by_another_person, IntegrityError, "not signed with a device of alice"),
        ("signed by a stranger", signed_with_a_key_of_no_root, IntegrityError, "not signed with a device of alice"),
        ("with a signature of a denial", with_the_signature_of_a_denial, IntegrityError, "does not verify"),
        ("signed by two at once", signed_by_two_at_once, FormatError, "2 signatures on a document"),
        ("in another envelope", with_other_signatures_than_logged, IntegrityError, "not the document the entry"),
        ("that is missing", with_no_envelope_at_hand, NotFoundError, "is missing"),
        ("from the future", lambda w, c: signed(w, c, issued=Time(w.now + 301)), DeniedError, "301 seconds ahead"),
        ("expired", lambda w, c: signed(w, c, issued=Time(0), expires=Time(w.now)), DeniedError, "has expired"),
        ("a veto before the grant", lambda w, c: signed(w, c, verdict="veto"), DeniedError, "a veto is possible only"),
        ("entry of no request", lambda w, c: entered(w, c, request=NONE), NotFoundError, "there is no request"),
        ("entry of other terms", lambda w, c: entered(w, c, terms=NONE), IntegrityError, "decides on other terms"),
        ("entry of other version", lambda w, c: entered(w, c, version="demo/tiny@2"), IntegrityError, "other version"),
        ("entry of other content", lambda w, c: entered(w, c, content=NONE), IntegrityError, "other version"),
        ("entry of other sharing", lambda w, c: entered(w, c, sharing=NONE), IntegrityError, "names another slot"),
        ("entry of other slot", lambda w, c: entered(w, c, slot=c.slot("bob")), IntegrityError, "names another slot"),
        ("entry of other verdict", lambda w, c: entered(w, c, verdict="deny"), IntegrityError, "another verdict"),
        ("entry of other actor", lambda w, c: entered(w, c, actor=w.party("bob")), IntegrityError, "the actor is not"),
        (
            "entry of other credential",
            lambda w, c: entered(w, c, actor=w.party("alice/token")),
            IntegrityError,
            "the actor is not",
        ),
        (
            "entry of other parent",
            lambda w, c: entered(w, c, parent=c.version.entry),
            IntegrityError,
            "does not follow from the entry it names",
        ),
    ]
)
def test_refused_as_a_decision(attack: Attack, error: type[CustodyError], message: str) -> None:
    world, case = new()
    act = attack(world, case)
    with refused(world, error, message):
        act()


def test_the_honest_decision_of_all_these_is_accepted() -> None:
    world, case = new()
    signed(world, case)()
    assert [item.decision.person for item in case.found.decisions] == ["alice"]


@pytest.mark.parametrize("second", ["alice", "alice/token"])
@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_a_person_decides_once_whatever_the_device_and_the_first_decision_stands(second: str, verdict: str) -> None:
    world, case = new()
    case.decide("alice")
    act = signed(world, case, second, verdict=verdict)
    with refused(world, ConflictError, "alice has decided on these terms already"):
        act()


def test_the_same_decision_again_counts_once() -> None:
    world, case = new()
    approval = case.decision("alice")
    case.log_decision(approval, "alice")
    with refused(world, ConflictError, "alice has decided on these terms already"):
        case.log_decision(approval, "alice")


def test_a_person_may_decide_again_once_the_first_decision_has_expired() -> None:
    world, case = new()
    case.decide("alice")
    world.tick(HOUR)
    case.decide("bob")
    with refused(world, DeniedError, "there is no quorum"):
        case.grant()
    case.decide("alice")
    case.grant()


def test_a_new_root_voids_decisions_that_have_not_granted() -> None:
    world, case = new()
    case.decide("alice")
    case.decide("bob")
    old = case.decision("carol")
    world.replace_root()
    with refused(world, IntegrityError, "does not name the persons whose approvals count"):
        case.grant(persons=("alice", "bob"))
    with refused(world, DeniedError, "another trust root or sharing"):
        case.log_decision(old, "carol")
    case.decide("alice")
    case.decide("bob")
    case.grant()


def test_a_fired_custodian_decides_no_more_though_the_sharing_still_has_the_slot() -> None:
    world, case = new()
    without = [person for person in world.state.root.persons if person.id != "bob"]
    rosters = tuple(_without(roster, "bob") for roster in world.state.root.rosters)
    world.replace_root(persons=tuple(without), rosters=rosters)
    act = signed(world, case, "bob")
    with refused(world, IntegrityError, "not signed with a device of bob that the trust root names"):
        act()
    case.decide("alice")
    case.decide("carol")
    case.grant()


def test_a_stolen_device_that_the_root_no_longer_names_decides_no_more() -> None:
    world, case = new()
    token = world.named("alice", world.devices["alice/token"])
    persons = tuple(token if person.id == "alice" else person for person in world.state.root.persons)
    world.replace_root(persons=persons)
    act = signed(world, case, "alice")
    with refused(world, IntegrityError, "not signed with a device of alice"):
        act()
    case.decide("alice/token")


def _without(roster: Roster, person: str) -> Roster:
    groups = tuple(
        msgspec.structs.replace(group, members=tuple(member for member in group.members if member != person))
        for group in roster.groups
    )
    return msgspec.structs.replace(roster, groups=groups)


def test_late_approval_after_the_grant_is_refused() -> None:
    world = World()
    case = world.granted()
    act = signed(world, case, "carol")
    with refused(world, ConflictError, "the request is granted already"):
        act()


def test_decision_on_a_request_that_was_withdrawn_is_refused() -> None:
    world, case = new()
    case.log_stop(case.stop("withdraw", "frank"), "frank")
    act = signed(world, case)
    with refused(world, ConflictError, "the request is over: withdrawn"):
        act()


def test_denials_that_leave_no_quorum_deny_the_request() -> None:
    world, case = new()
    case.decide("alice", "deny")
    assert overdue(world.state, case.found, world.now) == ""
    with refused(world, IntegrityError, "the reason denied does not hold"):
        case.close("denied")
    case.decide("bob", "deny")
    case.close("denied")
    assert (case.found.phase, case.found.reason) == ("closed", "denied")


def test_one_custodian_alone_cannot_block_a_quorum_of_others() -> None:
    _, case = new()
    case.decide("carol", "deny")
    case.decide("alice")
    case.decide("bob")
    case.grant()
    assert case.found.granted_by == ("alice", "bob")


def test_a_request_whose_custodians_have_left_is_denied() -> None:
    world, case = new()
    rosters = tuple(_without(roster, "bob") for roster in world.state.root.rosters)
    people = tuple(person for person in world.state.root.persons if person.id != "bob")
    world.replace_root(persons=people, rosters=rosters)
    assert overdue(world.state, case.found, world.now) == ""
    case.decide("carol", "deny")
    case.close("denied")


def test_no_quorum_is_left_when_the_requester_and_a_denier_are_custodians() -> None:
    world = World()
    world.seal()
    case = world.file("demo/tiny@1", "carol")
    case.decide("alice", "deny")
    case.close("denied")


VETO = "a veto is possible only between the grant and the end of the cool-off"


def test_a_veto_inside_the_cool_off_stops_the_opening_even_if_the_broker_never_closes() -> None:
    world = World()
    case = world.granted("frontier/llm@1")
    case.decide("carol", "veto")
    assert case.found.stopped == "denied"
    world.tick(HOUR)
    act = partial(case.log_release, case.release("alice"), "alice")
    with refused(world, DeniedError, "the request is denied"):
        act()
    with refused(world, IntegrityError, "the request is denied"):
        case.begin_opening(persons=case.quorum)
    case.close("denied")


def test_a_veto_after_the_cool_off_is_refused() -> None:
    world = World()
    case = world.granted("frontier/llm@1")
    world.tick(HOUR)
    act = signed(world, case, "carol", verdict="veto")
    with refused(world, DeniedError, VETO):
        act()


def test_a_veto_where_the_roster_has_no_cool_off_is_refused() -> None:
    world = World()
    case = world.granted()
    act = signed(world, case, "carol", verdict="veto")
    with refused(world, DeniedError, VETO):
        act()


def test_a_veto_by_nobody_on_the_roster_is_refused() -> None:
    world = World()
    case = world.granted("frontier/llm@1")
    act = signed(world, case, "erin", verdict="veto")
    with refused(world, IntegrityError, "erin does not hold slot"):
        act()


def test_who_approved_vetoes_by_revoking() -> None:
    world = World()
    case = world.granted("frontier/llm@1")
    act = signed(world, case, "alice", verdict="veto")
    with refused(world, ConflictError, "alice has decided on these terms already"):
        act()
    case.log_stop(case.stop("revoke", "alice"), "alice")
    case.close("revoked")
