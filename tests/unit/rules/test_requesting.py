"""What is refused as a request, with its terms and its release key."""

from functools import partial
from typing import Any

import msgspec
import pytest

from custody.documents.actor import Broker, Person
from custody.documents.request import Range, Request
from custody.documents.terms import Terms
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, NotFoundError
from custody.rules.requesting import check_request
from custody.values import U64, Time
from tests.doubles.actors import Workload
from tests.doubles.case import Case
from tests.doubles.refusal import Attack, params, refused
from tests.doubles.world import HOUR, JOB, World

NONE = "00" * 32
OTHER_JOB = "spiffe://example.org/job/other"
DAVE = "spiffe://example.org/person/dave"


def asked(world: World, who: str | Workload = "frank", /, **changes: Any) -> Case:
    """A request that was changed before it was signed; terms and release key follow it."""
    return Case.of(world, "demo/tiny@1", who, **changes)


def span(first: int, last: int) -> tuple[Range, ...]:
    return (Range(first=U64(first), last=U64(last)),)


def terms(world: World, who: str = "broker-1", **changes: Any) -> Case:
    """An honest request with other terms."""
    case = asked(world)
    case.terms = case.make_terms(who, **changes)
    return case


def key(world: World, who: str = "broker-1", **changes: Any) -> Case:
    """An honest request with another release key."""
    case = asked(world)
    case.key = case.make_key(who=who, **changes)
    return case


def a_workload_for_another(world: World) -> Case:
    return asked(world, world.job(), beneficiary=OTHER_JOB)


def a_custodian_with_a_tls_certificate(world: World) -> Case:
    """Dave's TLS identity asks for itself; dave would not be left out of the quorum."""
    owned = msgspec.structs.replace(world.state.root.owners[0], workload="spiffe://example.org/*")
    world.replace_root(owners=(owned,))
    return asked(world, world.job(DAVE))


def for_a_persons_identity(world: World) -> Case:
    owned = msgspec.structs.replace(world.state.root.owners[0], workload="spiffe://example.org/*")
    world.replace_root(owners=(owned,))
    return asked(world, beneficiary=DAVE)


def of_another_deployment(world: World) -> Case:
    staging = World(deployment="staging.example.org/log")
    staging.seal()
    other = asked(staging)
    case = asked(world)
    case.request, case.terms, case.key = other.request, other.terms, other.key
    return case


def with_expired_svid(world: World) -> Case:
    return asked(world, world.ca.issue(JOB, world.now - 2 * HOUR))


def no_quorum_left(world: World) -> Case:
    owned = msgspec.structs.replace(world.state.root.owners[0], persons=("alice", "bob"))
    world.replace_root(owners=(owned,))
    return asked(world)


@params(
    [
        ("of another deployment", lambda w: of_another_deployment(w).log_request, IntegrityError, "deployment"),
        ("of kind destroy", lambda w: asked(w, kind="destroy").log_request, DeniedError, "kind destroy are not"),
        (
            "of kind reshare",
            lambda w: asked(w, kind="reshare", roster="board").log_request,
            DeniedError,
            "kind reshare are not served",
        ),
        ("of kind lift", lambda w: asked(w, kind="lift", lifts=(NONE,)).log_request, DeniedError, "kind lift are"),
        (
            "of no version",
            lambda w: asked(w, version="demo/tiny@2").log_request,
            NotFoundError,
            "there is no version demo/tiny@2 with that content",
        ),
        ("of other content", lambda w: asked(w, content=NONE).log_request, NotFoundError, "with that content"),
        ("of files beyond", lambda w: asked(w, files=span(0, 3)).log_request, DeniedError, "has files 0 to 2"),
        ("of files far beyond", lambda w: asked(w, files=span(9, 2**64 - 1)).log_request, DeniedError, "0 to 2"),
        (
            "of more bytes than there are",
            lambda w: asked(w, bytes=U64(3 * 5700 + 1)).log_request,
            DeniedError,
            "bytes: 17101 asked, but 3 sessions of these files are 17100",
        ),
        (
            "of more bytes than the files asked for",
            lambda w: asked(w, bytes=U64(2101), files=span(0, 0)).log_request,
            DeniedError,
            "bytes: 2101 asked, but 3 sessions of these files are 2100",
        ),
        (
            "after its start window",
            lambda w: asked(w, not_before=Time(w.now - 9), open_before=Time(w.now)).log_request,
            DeniedError,
            "open_before: the start window is over",
        ),
        (
            "for another trust domain",
            lambda w: asked(w, beneficiary="spiffe://example.com/job/serve").log_request,
            DeniedError,
            "beneficiary: not in the trust domain example.org",
        ),
        (
            "for a workload without an owner",
            lambda w: asked(w, beneficiary="spiffe://example.org/train/run").log_request,
            DeniedError,
            "has no owner in the trust root",
        ),
        ("of a workload for another", lambda w: a_workload_for_another(w).log_request, DeniedError, "only for itself"),
        (
            "of a custodian as a workload",
            lambda w: a_custodian_with_a_tls_certificate(w).log_request,
            IntegrityError,
            "spiffe://example.org/person/dave is the identity of a person or broker",
        ),
        (
            "for the identity of a person",
            lambda w: for_a_persons_identity(w).log_request,
            DeniedError,
            "is the identity of a person or broker, not a workload",
        ),
        ("on which nobody could decide", lambda w: no_quorum_left(w).log_request, DeniedError, "no quorum can approve"),
        ("with an expired SVID", lambda w: with_expired_svid(w).log_request, IntegrityError, "it expired at"),
        (
            "in the name of somebody else",
            lambda w: asked(w, requester=Person(person="erin")).log_request,
            IntegrityError,
            "not signed with a device of erin",
        ),
        (
            "signed too early",
            lambda w: asked(w, created=Time(w.now - 301)).log_request,
            DeniedError,
            "301 seconds behind",
        ),
        ("signed in the future", lambda w: asked(w, created=Time(w.now + 301)).log_request, DeniedError, "301 seconds"),
        ("terms of a person", lambda w: terms(w, "alice").log_request, IntegrityError, "terms are not this broker's"),
        ("terms of another broker", lambda w: terms(w, "broker-2").log_request, IntegrityError, "not this broker's"),
        (
            "terms in the broker's name",
            lambda w: terms(w, "alice", issuer=Broker(broker="broker-1")).log_request,
            IntegrityError,
            "not signed with the key of broker broker-1",
        ),
        ("terms for another request", lambda w: terms(w, request=NONE).log_request, DeniedError, "request is wider"),
        (
            "terms of another deployment",
            lambda w: terms(w, deployment="staging.example.org/log").log_request,
            IntegrityError,
            "other deployment",
        ),
        ("key for another request", lambda w: key(w, request=NONE).log_request, IntegrityError, "is for another"),
        ("key of another broker", lambda w: key(w, "broker-2").log_request, IntegrityError, "is for another"),
        (
            "key in the broker's name",
            lambda w: key(w, "alice", broker="broker-1").log_request,
            IntegrityError,
            "not signed with the key of broker broker-1",
        ),
        (
            "key of another deployment",
            lambda w: key(w, deployment="staging.example.org/log").log_request,
            IntegrityError,
            "other deployment",
        ),
        ("entry of other request", lambda w: partial(asked(w).log_request, request=NONE), IntegrityError, "request"),
        ("entry of other terms", lambda w: partial(asked(w).log_request, terms=NONE), IntegrityError, "other terms"),
        (
            "entry of other release key",
            lambda w: partial(asked(w).log_request, release_key=NONE),
            IntegrityError,
            "it names another release key",
        ),
        ("entry of other version", lambda w: partial(asked(w).log_request, version="a@1"), IntegrityError, "version"),
        ("entry of other content", lambda w: partial(asked(w).log_request, content=NONE), IntegrityError, "version"),
        ("entry of other sharing", lambda w: partial(asked(w).log_request, sharing=NONE), IntegrityError, "sharing"),
        (
            "entry of other beneficiary",
            lambda w: partial(asked(w).log_request, beneficiary=OTHER_JOB),
            IntegrityError,
            "it names another beneficiary",
        ),
        (
            "entry of other actor",
            lambda w: partial(asked(w).log_request, actor=w.party("erin")),
            IntegrityError,
            "the actor is not person:frank, who signed",
        ),
    ]
)
def test_refused_as_a_request(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    world.seal()
    act = attack(world)
    with refused(world, error, message):
        act()


def test_the_honest_request_of_all_these_is_accepted() -> None:
    world = World()
    world.seal()
    asked(world).log_request()
    assert len(world.state.requests) == 1


def test_the_same_request_is_filed_once() -> None:
    world = World()
    world.seal()
    case = world.file()
    case.key = case.make_key()
    with refused(world, ConflictError, "this request was filed before"):
        case.log_request()


def test_a_release_key_serves_one_request() -> None:
    world = World()
    world.seal()
    first = world.file()
    second = asked(world)
    second.key = second.make_key(first.seed)
    with refused(world, ConflictError, "this release key was used before"):
        second.log_request()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": "demo/tiny@2"}, "version"),
        ({"content": NONE}, "content"),
        ({"beneficiary": OTHER_JOB}, "beneficiary"),
        ({"purpose": "training"}, "purpose"),
        ({"mode": "direct"}, "mode"),
        ({"files": span(0, 3)}, "files"),
        ({"sessions": U64(4)}, "sessions"),
        ({"bytes": U64(10_001)}, "bytes"),
        ({"not_before": -1}, "not_before"),
        ({"open_before": 1}, "open_before"),
        ({"not_after": 1}, "not_after"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_terms_never_grant_more_than_was_asked(changes: dict[str, Any], field: str) -> None:
    world = World()
    world.seal()
    honest = asked(world).terms.document(Terms)
    if field in ("not_before", "open_before", "not_after"):
        changes = {field: Time(getattr(honest, field) + changes[field])}
    case = terms(world, **changes)
    with refused(world, DeniedError, f"terms: {field} is wider than the request or differs from it"):
        case.log_request()


@pytest.mark.parametrize(
    "changes",
    [{"files": span(1, 1)}, {"sessions": U64(1)}, {"bytes": U64(1)}, {"not_after": 0}],
    ids=["files", "sessions", "bytes", "not_after"],
)
def test_narrower_terms_are_accepted(changes: dict[str, Any]) -> None:
    world = World()
    world.seal()
    if "not_after" in changes:
        changes = {"not_after": Time(asked(world).terms.document(Terms).open_before + 1)}
    case = terms(world, **changes)
    case.log_request()
    assert case.found.terms[case.lease] == case.terms.document(Terms)


def test_a_request_is_checked_the_same_before_it_is_logged() -> None:
    world = World()
    world.seal()
    request = asked(world).request.document(Request)
    assert check_request(world.state, request, world.now) == world.state.versions["demo/tiny@1"]
    with pytest.raises(DeniedError, match="for deployment staging"):
        check_request(world.state, msgspec.structs.replace(request, deployment="staging"), world.now)


def test_a_version_whose_custodians_have_left_cannot_be_asked_for() -> None:
    world = World()
    world.seal()
    root = world.state.root
    people = tuple(person for person in root.persons if person.id not in ("bob", "carol"))
    members = {"custodians": ("alice", "dave"), "security": ("alice", "erin"), "executives": ("dave", "grace")}
    rosters = tuple(
        msgspec.structs.replace(
            roster,
            groups=tuple(
                msgspec.structs.replace(group, members=members.get(group.name, group.members))
                for group in roster.groups
            ),
        )
        for roster in root.rosters
    )
    world.replace_root(persons=people, rosters=rosters)
    case = asked(world)
    with refused(world, DeniedError, "no quorum can approve this: bob, carol, erin, frank cannot decide on it"):
        case.log_request()


def test_one_byte_may_be_asked_of_empty_files() -> None:
    world = World()
    world.seal()
    asked(world, files=span(2, 2), bytes=U64(1)).log_request()
