"""What is refused whatever the type of the entry: roots, policies, brokers, clocks, ids, documents; and hellos."""

from functools import partial
from typing import Any

import msgspec
import pytest

from custody.documents.actor import Person
from custody.documents.hello import Hello
from custody.entries.entry import DocumentRef, Parent, Party
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, IntegrityError
from custody.rules.step import CLOCK_TOLERANCE
from custody.values import U64, Time
from tests.doubles.actors import Workload
from tests.doubles.refusal import Act, Attack, params, refused
from tests.doubles.world import HOUR, JOB, World, reference

NONE = "00" * 32


def said(world: World, **changes: Any) -> Act:
    """A system entry, changed."""
    return partial(world.append, "system", **({"reason": "broker-start"} | changes))


def greeted(world: World, who: str | Workload = "alice", **changes: Any) -> Act:
    """A hello that was changed before it was signed."""
    return partial(world.log_hello, world.hello(who, **changes), who)


def hello_as_stop(world: World) -> Act:
    world.seal()
    case = world.file()
    hello = world.hello("frank")
    named = DocumentRef(kind="stop", document=hello.digest, envelope=hello.envelope_digest)
    fields = {"request": case.digest, "parent": case.found.entry, "actor": world.party("frank"), "reason": "withdrawn"}
    return partial(world.append, "stop", hello, documents=(named,), **fields)


def hello_with_a_passenger(world: World) -> Act:
    """A second document rides along that no rule looks at."""
    first, second = world.hello(), world.hello("bob")
    return partial(
        world.append,
        "hello",
        first,
        second,
        actor=world.party("alice"),
        documents=(reference(first), reference(second)),
    )


def hello_with_an_unnamed_passenger(world: World) -> Act:
    hello = world.hello()
    stray = DocumentRef(kind="note", document=NONE, envelope=NONE)
    return partial(world.append, "hello", hello, actor=world.party("alice"), documents=(reference(hello), stray))


def with_another_document_digest(world: World) -> Act:
    hello = world.hello()
    wrong = msgspec.structs.replace(reference(hello), document=NONE)
    return partial(world.append, "hello", hello, actor=world.party("alice"), documents=(wrong,))


def replayed_hello(world: World) -> Act:
    hello = world.hello()
    world.log_hello(hello)
    return partial(world.log_hello, hello)


def hello_of_staging(world: World) -> Act:
    return partial(world.log_hello, World(deployment="staging.example.org/log").hello())


def hello_of_another_person(world: World) -> Act:
    hello = world.hello("bob").document(Hello)
    forged = msgspec.structs.replace(hello, actor=Person(person="alice"))
    return partial(world.log_hello, world.sign(forged, "bob"))


def id_of_genesis(world: World) -> Act:
    return said(world, id=world.log.entries[0].id)


def broker_two() -> Party:
    return Party(id="broker:broker-2", credential=World().second_broker.key_id)


@params(
    [
        ("of another root", lambda w: said(w, root=NONE), IntegrityError, "another trust root than the one in force"),
        ("of another policy", lambda w: said(w, policy=NONE), IntegrityError, "another policy than the trust root's"),
        ("of no broker", lambda w: said(w, broker="mallory"), IntegrityError, "mallory is not a broker of the trust"),
        ("with an id that was used", id_of_genesis, IntegrityError, "its id was used before"),
        ("for another broker", lambda w: said(w, actor=broker_two()), IntegrityError, "it speaks for another broker"),
        (
            "with another key of its broker",
            lambda w: said(w, actor=Party(id="broker:broker-1", credential=NONE)),
            IntegrityError,
            "it speaks for another broker",
        ),
        (
            "with a hello for a stop",
            hello_as_stop,
            FormatError,
            "payload type is application/vnd.custody.hello.v1+json",
        ),
        ("with two hellos", hello_with_a_passenger, IntegrityError, "other documents than its type has"),
        ("with a passenger", hello_with_an_unnamed_passenger, IntegrityError, "other documents than its type has"),
        ("with another digest", with_another_document_digest, IntegrityError, "is not the document the entry names"),
        ("hello of another deployment", hello_of_staging, IntegrityError, "it is of another deployment"),
        ("hello of another person", hello_of_another_person, IntegrityError, "not signed with a device of alice"),
        ("hello that was used", replayed_hello, ConflictError, "this hello was used before"),
        ("hello from the past", lambda w: greeted(w, issued=Time(w.now - 301)), DeniedError, "301 seconds behind"),
        ("hello from the future", lambda w: greeted(w, issued=Time(w.now + 301)), DeniedError, "301 seconds ahead"),
        (
            "hello of another actor",
            lambda w: partial(w.log_hello, w.hello(), actor=w.party("bob")),
            IntegrityError,
            "the actor is not person:alice, who signed",
        ),
    ]
)
def test_refused_whatever_it_says(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    act = attack(world)
    with refused(world, error, message):
        act()
    said(world)()
    greeted(world)()


def test_the_clock_may_stop_but_not_run_back() -> None:
    world = World()
    said(world)()
    said(world)()
    world.tick(-CLOCK_TOLERANCE)
    said(world)()
    world.tick(-1)
    with refused(world, IntegrityError, "its time lies 6 seconds before the entry before it"):
        said(world)()
    assert world.state.time == world.now + CLOCK_TOLERANCE + 1


def test_small_steps_back_do_not_add_up() -> None:
    world = World()
    latest = world.now
    for _ in range(CLOCK_TOLERANCE):
        world.tick(-1)
        said(world)()
    world.tick(-1)
    with refused(world, IntegrityError, "6 seconds before"):
        said(world)()
    assert world.state.time == latest


def test_a_clock_that_jumped_a_year_ahead_ends_leases_and_lengthens_none() -> None:
    world = World()
    case = world.opened()
    world.tick(365 * 24 * HOUR)
    said(world)()
    world.tick(-365 * 24 * HOUR)
    with refused(world, IntegrityError, "seconds before the entry before it"):
        case.begin()


def test_a_person_and_a_workload_greet() -> None:
    world = World()
    greeted(world, world.job())()
    world.log_hello(world.hello("alice/token"), "alice/token")


def test_a_tls_identity_of_a_broker_is_no_workload() -> None:
    world = World()
    job = world.job("spiffe://example.org/broker-1")
    act = greeted(world, job)
    with refused(world, IntegrityError, "is the identity of a person or broker"):
        act()


def test_a_strangers_parent_is_not_believed() -> None:
    world = World()
    case = world.granted()
    with refused(world, IntegrityError, "does not follow from the entry it names"):
        case.begin_opening(parent=Parent(index=U64(0), leaf=NONE), persons=case.quorum)


@pytest.mark.parametrize("spiffe", [JOB])
def test_an_svid_of_the_second_after_its_end_is_refused(spiffe: str) -> None:
    world = World()
    job = world.ca.issue(spiffe, world.now - HOUR, HOUR)
    world.log_hello(world.hello(job), job)  # the last second of its life
    world.tick(1)
    act = greeted(world, job)
    with refused(world, IntegrityError, "it expired at 2026-11-22T08:00:00Z"):
        act()
