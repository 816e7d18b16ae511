"""A wrong history for each rule of proto/spec/entries.md: stops, closes and hellos."""

from typing import Any

import pytest

from custody.documents.hello import Hello
from custody.documents.stop import Stop
from custody.entries.entry import Entry
from custody.values import Time
from tests.doubles.case import Case
from tests.doubles.world import World
from tests.unit.audit.wrong import (
    AB,
    OTHER,
    Lie,
    Prepare,
    closed,
    granted,
    half_used,
    judge,
    opened,
    requested,
    stopped,
    unprovoked,
    used_up,
    withdrawn,
    wrong,
)


def denied(world: World) -> Case:
    case = requested(world)
    case.decide("alice", "deny")
    return case


def stop(action: str, who: str, /, **changes: Any) -> Lie:
    return lambda _, case: case.log_stop(case.stop(action, who, **changes), who)


def close(reason: str, /, **changes: Any) -> Lie:
    return lambda _, case: case.close(reason, **changes)


def stop_replayed(world: World, case: Case) -> Entry:
    first = next(item for item in world.log.entries if item.type == "stop")
    envelope = world.log.envelopes[first.documents[0].envelope]
    assert envelope.document(Stop).action == "revoke"
    return case.log_stop(envelope, "carol")


def hello_replayed(world: World, _: Case) -> Entry:
    first = next(item for item in world.log.entries if item.type == "hello")
    return world.log_hello(world.log.envelopes[first.documents[0].envelope])


def greeted(world: World) -> None:
    world.seal()
    world.log_hello(world.hello())


ENDS = [
    wrong(
        "a stop of another request",
        opened,
        "it stops another request",
        lambda w, c: c.log_stop(c.stop("revoke", "carol"), "carol", request=AB),
    ),
    wrong(
        "a stop of another lease",
        opened,
        "it stops another lease",
        lambda w, c: c.log_stop(c.stop("revoke", "carol"), "carol", terms=AB),
    ),
    wrong("a stop by somebody without a say", opened, "person:sam may not revoke this", stop("revoke", "sam")),
    wrong("a withdrawal by a custodian", requested, "person:bob may not withdraw this", stop("withdraw", "bob")),
    wrong(
        "a lease returned by a person",
        opened,
        "person:frank may not return this",
        lambda w, c: c.log_stop(
            w.sign(
                c.stop("return", w.job()).document(Stop), "frank", actor=c.stop("revoke", "frank").document(Stop).actor
            ),
            "frank",
        ),
    ),
    wrong("a revocation before the grant", requested, "there is no lease to end", stop("revoke", "alice")),
    wrong("a stop used twice", stopped, "this stop was used before", stop_replayed),
    wrong("a stop of a closed lease", closed, "it is closed already: returned", stop("revoke", "carol")),
    wrong(
        "another reason than the document's",
        opened,
        "it names another action",
        lambda w, c: c.log_stop(c.stop("revoke", "carol"), "carol", reason="returned"),
    ),
    wrong(
        "a stop that somebody else signed",
        opened,
        "not signed with a device of carol",
        lambda w, c: c.log_stop(w.sign(c.stop("revoke", "carol").document(Stop), "bob"), "carol"),
    ),
    wrong("a stop of another deployment", opened, "of another deployment", stop("revoke", "carol", deployment=OTHER)),
    wrong("closed as revoked, and nobody did", opened, "the reason revoked does not hold", close("revoked")),
    wrong("closed as denied while a quorum is possible", denied, "the reason denied does not hold", close("denied")),
    wrong("closed as expired too early", opened, "the reason expired does not hold", close("expired")),
    wrong("closed for its budget with a session open", used_up, "the reason budget does not hold", close("budget")),
    wrong("closed for its budget with bytes left", half_used, "the reason budget does not hold", close("budget")),
    wrong("closed as withdrawn when it was revoked", stopped, "the reason withdrawn does not hold", close("withdrawn")),
    wrong("closed twice", closed, "it is closed already", close("returned")),
    wrong("a lost broker that held no key", granted, "the lease is not open", close("broker-lost")),
    wrong("a close of another lease", opened, "it closes another lease", close("expired", terms=AB)),
    wrong("a close of an unknown request", withdrawn, "there is no request", close("withdrawn", request=AB)),
    wrong("a hello used twice", greeted, "this hello was used before", hello_replayed),
    wrong(
        "a hello signed long ago",
        greeted,
        "behind the broker's clock",
        lambda w, _: w.log_hello(w.hello(issued=Time(w.now - 301))),
    ),
    wrong(
        "a hello of another deployment",
        greeted,
        "of another deployment",
        lambda w, _: w.log_hello(w.hello(deployment=OTHER)),
    ),
    wrong(
        "a hello that nobody of the root signed",
        greeted,
        "not signed with a device of alice",
        lambda w, _: w.log_hello(w.sign(w.hello().document(Hello), "bob")),
    ),
]


@pytest.mark.parametrize(("prepare", "text", "lie"), ENDS)
def test_a_wrong_stop_close_or_hello_is_found(prepare: Prepare, text: str, lie: Lie) -> None:
    judge(prepare, text, lie)


def test_no_rule_for_these_was_forgotten() -> None:
    assert unprovoked(ENDS, "stopping", "watching") == {
        r"it\ speaks\ for\ another\ broker",  # test_wrong_entries.py
        r"somebody\ else\ than\ the\ broker\ ends\ the\ log",  # test_wrong_successors.py
    }
