"""What is refused as an opening, and the life of an opening that fails or is lost."""

from functools import partial

import pytest

from custody.errors import CustodyError, DeniedError, IntegrityError, NotFoundError
from custody.values import U64, Time
from tests.doubles.case import Case
from tests.doubles.refusal import Attack, params, refused
from tests.doubles.world import HOUR, World

NONE = "00" * 32


def ready() -> tuple[World, Case]:
    """A granted lease with a quorum of shares at hand."""
    world = World()
    case = world.granted()
    for person in case.quorum:
        case.send(person)
    return world, case


@params(
    [
        ("no request", lambda _, c: partial(c.begin_opening, request=NONE), NotFoundError, "there is no request"),
        ("other terms", lambda _, c: partial(c.begin_opening, terms=NONE), IntegrityError, "were not granted"),
        ("other version", lambda _, c: partial(c.begin_opening, version="a@1"), IntegrityError, "other version"),
        ("other content", lambda _, c: partial(c.begin_opening, content=NONE), IntegrityError, "other version"),
        ("other sharing", lambda _, c: partial(c.begin_opening, sharing=NONE), IntegrityError, "another sharing"),
        ("other key", lambda _, c: partial(c.begin_opening, release_key=NONE), IntegrityError, "another release key"),
        ("other broker", lambda _, c: partial(c.begin_opening, broker="broker-2"), IntegrityError, "another broker's"),
        ("parent not the grant", lambda _, c: partial(c.begin_opening, parent=c.found.entry), IntegrityError, "follow"),
        ("one person", lambda _, c: partial(c.begin_opening, persons=("bob",)), IntegrityError, "shares are at hand"),
        (
            "a person without a share",
            lambda _, c: partial(c.begin_opening, persons=("alice", "carol")),
            IntegrityError,
            "it does not name the persons whose shares are at hand",
        ),
    ]
)
def test_refused_as_an_opening_intent(attack: Attack, error: type[CustodyError], message: str) -> None:
    world, case = ready()
    with refused(world, error, message):
        attack(world, case)()
    case.begin_opening()


def test_a_request_that_is_not_granted_is_not_opened() -> None:
    world = World()
    world.seal()
    case = world.file()
    with refused(world, IntegrityError, "these terms were not granted"):
        case.begin_opening(parent=case.found.entry, persons=case.quorum)


def test_too_few_shares_open_nothing_though_a_quorum_approved() -> None:
    world = World()
    case = world.granted()
    case.send("alice")
    with refused(world, DeniedError, "shares of alice are at hand, needed: 2 of alice, bob, carol"):
        case.begin_opening()


def test_shares_of_one_group_do_not_stand_for_another() -> None:
    world = World()
    case = world.granted("frontier/llm@1")
    world.tick(HOUR)
    case.send("alice")
    case.send("dave")
    with refused(world, DeniedError, "shares of alice, dave are at hand, needed: 2 of alice, bob, carol; and 1 of"):
        case.begin_opening()


@pytest.mark.parametrize(("hours", "message"), [(24, "the lease had to be opened before"), (26, "the lease ended at")])
def test_a_lease_is_first_opened_inside_its_window(hours: int, message: str) -> None:
    world, case = ready()
    world.tick(hours * HOUR)
    with refused(world, DeniedError, message):
        case.begin_opening()


def test_a_lease_is_not_opened_before_its_window() -> None:
    world = World()
    world.seal()
    case = world.file(not_before=Time(world.now + HOUR))
    for person in case.quorum:
        case.decide(person)
        case.send(person)
    case.grant()
    with refused(world, DeniedError, "the lease begins only at 2026-11-22T09:00:00Z"):
        case.begin_opening()
    world.tick(HOUR)
    case.begin_opening()


def test_a_second_opening_waits_for_the_outcome_of_the_first() -> None:
    world, case = ready()
    case.begin_opening()
    with refused(world, IntegrityError, "an opening is under way"):
        case.begin_opening()


def test_a_lease_that_is_open_or_stopped_is_not_opened() -> None:
    world, case = ready()
    case.begin_opening()
    case.end_opening()
    with refused(world, IntegrityError, "the request is open"):
        case.begin_opening()
    world, case = ready()
    case.log_stop(case.stop("revoke", "carol"), "carol")
    with refused(world, IntegrityError, "the request is revoked"):
        case.begin_opening()


@params(
    [
        ("no request", lambda _, c: partial(c.end_opening, request=NONE), NotFoundError, "there is no request"),
        ("other terms", lambda _, c: partial(c.end_opening, terms=NONE), IntegrityError, "were not granted"),
        ("parent not the intent", lambda _, c: partial(c.end_opening, parent=c.found.entry), IntegrityError, "follow"),
        ("other persons", lambda _, c: partial(c.end_opening, persons=("carol",)), IntegrityError, "other persons"),
        ("another key", lambda _, c: partial(c.end_opening, key_commit=NONE), IntegrityError, "not the version's"),
        ("no key", lambda _, c: partial(c.end_opening, key_commit=None), IntegrityError, "not the version's"),
        ("a reason", lambda _, c: partial(c.end_opening, reason="lucky"), IntegrityError, "a success with a reason"),
        (
            "a bad slot",
            lambda _, c: partial(c.end_opening, slot=c.slot("alice")),
            IntegrityError,
            "a success with a reason or a bad slot",
        ),
        (
            "a failure with a key",
            lambda _, c: partial(c.end_opening, "failed", key_commit=NONE),
            IntegrityError,
            "a failure without a reason",
        ),
        (
            "a failure without a reason",
            lambda _, c: partial(c.end_opening, "failed", reason=None),
            IntegrityError,
            "a failure without a reason",
        ),
    ]
)
def test_refused_as_an_opening_outcome(attack: Attack, error: type[CustodyError], message: str) -> None:
    world, case = ready()
    case.begin_opening()
    with refused(world, error, message):
        attack(world, case)()
    case.end_opening(persons=("alice", "bob"))


def test_an_outcome_without_an_intent_is_refused() -> None:
    world, case = ready()
    with refused(world, IntegrityError, "no opening is under way"):
        case.end_opening(parent=case.found.grant_entry)


def test_a_bad_share_is_void_and_the_others_stay() -> None:
    world, case = ready()
    case.begin_opening()
    case.end_opening("failed", reason="bad-share", slot=case.slot("alice"))
    assert list(case.found.releases) == [case.slot("bob")]
    assert (case.found.phase, case.found.opening) == ("granted", None)
    with refused(world, DeniedError, "shares of bob are at hand"):
        case.begin_opening()
    case.send("alice")
    case.begin_opening()
    case.end_opening()


def test_a_failure_of_no_custodian_keeps_the_shares() -> None:
    _, case = ready()
    case.begin_opening()
    case.end_opening("failed")
    case.begin_opening()


def test_keys_that_died_with_the_broker_are_rebuilt_by_the_same_lease_even_after_the_start_window() -> None:
    world, case = ready()
    case.begin_opening()
    case.end_opening()
    first = case.begin(bytes=U64(4000))
    world.tick(25 * HOUR)
    case.close("broker-lost")
    assert (case.found.phase, case.found.releases, case.found.opening) == ("granted", {}, None)
    assert (case.found.spent, case.found.live_sessions) == (4000, set())  # nobody knows: the whole ceiling
    with refused(world, IntegrityError, "there is no such session open"):
        case.end(first, (0, 10))
    with refused(world, IntegrityError, "it does not name the persons"):
        case.begin_opening(persons=("alice", "bob"))
    case.key = case.make_key()
    case.log_key(case.key)
    case.open()
    with refused(world, DeniedError, "bytes: 6001 asked, 6000 left in the lease"):
        case.begin(bytes=U64(6001))
    case.begin(bytes=U64(6000))


def test_no_share_is_sent_to_a_release_key_whose_seed_died_with_the_broker() -> None:
    world, case = ready()
    case.begin_opening()
    case.end_opening()
    case.close("broker-lost")
    act = partial(case.log_release, case.release("alice"), "alice")
    with refused(world, DeniedError, "released to a release key that is no longer in use"):
        act()


def test_an_opening_that_died_with_the_broker_begins_anew() -> None:
    world, case = ready()
    case.begin_opening()
    case.close("broker-lost")
    with refused(world, IntegrityError, "no opening is under way"):
        case.end_opening(parent=case.found.grant_entry)


def test_broker_lost_does_not_reopen_what_was_closed_or_never_open() -> None:
    world, case = ready()
    with refused(world, IntegrityError, "the lease is not open"):
        case.close("broker-lost")
    case.log_stop(case.stop("revoke", "carol"), "carol")
    case.close("revoked")
    with refused(world, IntegrityError, "it is closed already"):
        case.close("broker-lost")


def test_a_stop_survives_a_lost_broker() -> None:
    world, case = ready()
    case.begin_opening()
    case.end_opening()
    case.log_stop(case.stop("revoke", "carol"), "carol")
    case.close("broker-lost")
    case.key = case.make_key()
    with refused(world, IntegrityError, "the request is not waiting for shares"):
        case.log_key(case.key)
    with refused(world, IntegrityError, "the request is revoked"):
        case.begin_opening(persons=case.quorum)
    case.close("revoked")
