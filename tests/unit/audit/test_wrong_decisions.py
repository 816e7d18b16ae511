"""A wrong history for each rule of proto/spec/entries.md: decisions, releases, grants."""

from typing import Any

import pytest

from custody.documents.decision import Decision
from custody.entries.entry import Entry
from custody.values import Time
from tests.doubles.case import Case
from tests.doubles.world import DOMAIN, HOUR, World
from tests.unit.audit.wrong import (
    AB,
    OTHER,
    Lie,
    Prepare,
    approved,
    approved_once,
    board_granted,
    granted,
    judge,
    later,
    opened,
    opening,
    requested,
    sealed,
    unprovoked,
    withdrawn,
    wrong,
)


def decision(who: str, verdict: str = "approve", /, **changes: Any) -> Lie:
    def lie(_: World, case: Case) -> object:
        return case.log_decision(case.decision(who, verdict, **changes), who)

    return lie


def release(who: str, /, **changes: Any) -> Lie:
    return lambda _, case: case.log_release(case.release(who, **changes), who)


def forged(world: World, case: Case) -> Entry:
    document = case.decision("bob")
    return case.log_decision(world.sign(document.document(Decision), "carol"), "bob")


def owned_by_carol(world: World) -> Case:
    sealed(world)
    return world.file()


def after_new_root(world: World) -> Case:
    case = requested(world)
    world.replace_root()
    return case


def approved_then_new_root(world: World) -> Case:
    case = approved(world)
    world.replace_root()
    return case


def denied_by_bob(world: World) -> Case:
    case = approved_once(world)
    case.decide("bob", "deny")
    return case


def approved_for_long(world: World) -> Case:
    case = requested(world)
    for who in ("alice", "bob"):
        case.log_decision(case.decision(who, expires=Time(world.now + 100 * HOUR)), who)
    return case


def orphaned(world: World) -> Case:
    case = requested(world)
    world.replace_root(owners=())
    case.decide("alice")
    case.decide("bob")
    return case


def board_once(world: World) -> Case:
    world.seal("frontier/llm@1")
    case = world.file("frontier/llm@1")
    case.decide("alice")
    return case


def board_security(world: World) -> Case:
    case = board_once(world)
    case.decide("bob")
    return case


def other_key(world: World, case: Case) -> Entry:
    case.key = case.make_key()
    return case.log_release(case.release("alice"), "alice")


DECISIONS = [
    wrong(
        "another slot than the document's",
        requested,
        "it names another slot",
        lambda w, c: c.log_decision(c.decision("bob"), "bob", slot=c.slot("carol")),
    ),
    wrong("somebody without a slot", requested, "frank does not hold slot", decision("frank")),
    wrong(
        "the slot of another",
        requested,
        "does not hold slot",
        lambda w, c: c.log_decision(c.decision("bob", slot=c.slot("carol")), "bob"),
    ),
    wrong("a signature of somebody else", requested, "not signed with a device of bob", forged),
    wrong(
        "the requester",
        lambda w: (w.seal(), w.file("demo/tiny@1", "alice"))[1],
        "alice may not decide",
        decision("alice"),
    ),
    wrong("an owner of the beneficiary", owned_by_carol, "carol may not decide", decision("carol")),
    wrong(
        "the same person twice", approved_once, "alice has decided on these terms already", decision("alice", "deny")
    ),
    wrong(
        "the same person with another device",
        approved_once,
        "alice has decided on these terms already",
        decision("alice/token"),
    ),
    wrong(
        "under an older root",
        after_new_root,
        "under another trust root or sharing",
        lambda w, c: c.log_decision(c.decision("bob", root=w.genesis.digest), "bob"),
    ),
    wrong("another sharing", requested, "another trust root or sharing", decision("bob", sharing=AB)),
    wrong(
        "expired",
        requested,
        "the decision of bob has expired",
        lambda w, c: c.log_decision(c.decision("bob", issued=Time(w.now - 60), expires=Time(w.now)), "bob"),
    ),
    wrong(
        "from the future",
        requested,
        "ahead of the broker's clock",
        lambda w, c: c.log_decision(c.decision("bob", issued=Time(w.now + 301)), "bob"),
    ),
    wrong("other terms", requested, "it decides on other terms", decision("bob", terms=AB)),
    wrong("another request", requested, "it decides on another request", decision("bob", request=AB)),
    wrong("a decision of another deployment", requested, "of another deployment", decision("bob", deployment=OTHER)),
    wrong("after it was withdrawn", withdrawn, "the request is over: withdrawn", decision("bob")),
    wrong("after the grant", granted, "the request is granted already", decision("carol")),
    wrong("a veto before the grant", requested, "a veto is possible only between", decision("bob", "veto")),
    wrong("a veto where nothing cools off", granted, "a veto is possible only between", decision("carol", "veto")),
    wrong(
        "a veto after the cool-off",
        board_granted,
        "a veto is possible only between",
        later(1, decision("carol", "veto")),
    ),
]

RELEASES = [
    wrong("for another request", granted, "it is for another request", release("alice", request=AB)),
    wrong(
        "another slot than the document's",
        granted,
        "it names another slot",
        lambda w, c: c.log_release(c.release("alice"), "alice", slot=c.slot("carol")),
    ),
    wrong("without an approval", approved_once, "bob has not approved these terms", release("bob")),
    wrong("by somebody who was not of the quorum", granted, "carol has not approved these terms", release("carol")),
    wrong("to a release key that is not in use", granted, "no longer in use", other_key),
    wrong("before the quorum", board_once, "only after the grant and the cool-off", release("alice")),
    wrong("inside the cool-off", board_granted, "only after the grant and the cool-off", later(0.5, release("alice"))),
    wrong("while it is being opened", opening, "the lease is being opened", release("alice")),
    wrong("after it was opened", opened, "the request is open", release("alice")),
    wrong("after the terms are over", granted, "the terms are over", later(30, release("alice"))),
    wrong("for another sharing", granted, "for another sharing", release("alice", sharing=AB)),
    wrong(
        "the slot of another",
        granted,
        "does not hold slot",
        lambda w, c: c.log_release(c.release("alice", slot=c.slot("bob")), "alice"),
    ),
    wrong("for other terms", granted, "for other terms", release("alice", terms=AB)),
    wrong(
        "from the future",
        granted,
        "ahead of the broker's clock",
        lambda w, c: c.log_release(c.release("alice", issued=Time(w.now + 301)), "alice"),
    ),
]

GRANTS = [
    wrong(
        "one approval of two",
        approved_once,
        "there is no quorum on these terms",
        lambda w, c: c.grant(persons=("alice",)),
    ),
    wrong(
        "an approval that nobody gave",
        approved_once,
        "persons whose approvals count",
        lambda w, c: c.grant(persons=("alice", "bob")),
    ),
    wrong("an approval left out", approved, "persons whose approvals count", lambda w, c: c.grant(persons=("alice",))),
    wrong(
        "one person counted twice",
        approved_once,
        "persons whose approvals count",
        lambda w, c: c.grant(persons=("alice", "alice")),
    ),
    wrong(
        "approvals that expired",
        approved,
        "persons whose approvals count",
        later(1, lambda w, c: c.grant(persons=("alice", "bob"))),
    ),
    wrong(
        "approvals under an older root",
        approved_then_new_root,
        "persons whose approvals count",
        lambda w, c: c.grant(persons=("alice", "bob")),
    ),
    wrong("one group of two", board_security, "there is no quorum", lambda w, c: c.grant(persons=("alice", "bob"))),
    wrong(
        "a denial counted as an approval",
        denied_by_bob,
        "persons whose approvals count",
        lambda w, c: c.grant(persons=("alice", "bob")),
    ),
    wrong(
        "after the start window",
        approved_for_long,
        "the start window of these terms is over",
        later(24, lambda w, c: c.grant()),
    ),
    wrong("after it was withdrawn", withdrawn, "the request is withdrawn", lambda w, c: c.grant(persons=("alice",))),
    wrong("granted twice", granted, "the request is granted", lambda w, c: c.grant(persons=("alice", "bob"))),
    wrong("other terms", approved, "it grants other terms", lambda w, c: c.grant(terms=AB, persons=("alice", "bob"))),
    wrong(
        "another workload",
        approved,
        "it names another beneficiary",
        lambda w, c: c.grant(beneficiary=f"spiffe://{DOMAIN}/job/other"),
    ),
    wrong("another sharing", approved, "it names another sharing", lambda w, c: c.grant(sharing=AB)),
    wrong(
        "a workload that lost its owner", orphaned, "has no owner in the trust root any more", lambda w, c: c.grant()
    ),
]


@pytest.mark.parametrize(("prepare", "text", "lie"), [*DECISIONS, *RELEASES, *GRANTS])
def test_a_wrong_decision_release_or_grant_is_found(prepare: Prepare, text: str, lie: Lie) -> None:
    judge(prepare, text, lie)


def test_no_rule_for_these_was_forgotten() -> None:
    assert unprovoked([*DECISIONS, *RELEASES, *GRANTS], "deciding") == {
        r"other\ terms\ were\ granted",  # a request has one set of terms in this version
        r"it\ names\ another\ verdict",  # test_wrong_entries.py
        r"other\ version",  # the same
    }
