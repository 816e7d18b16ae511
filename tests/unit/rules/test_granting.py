"""What is refused as a grant. After each refusal the honest one is accepted."""

from functools import partial

from custody.errors import CustodyError, DeniedError, IntegrityError, NotFoundError
from tests.doubles.case import Case
from tests.doubles.refusal import Attack, params, refused
from tests.doubles.world import HOUR, World

NONE = "00" * 32


def new(version: str = "demo/tiny@1") -> tuple[World, Case]:
    """A request that waits for decisions."""
    world = World()
    world.seal(version)
    return world, world.file(version)


def test_two_devices_of_one_person_make_no_quorum() -> None:
    world, case = new()
    case.decide("alice")
    with refused(world, DeniedError, "there is no quorum"):
        case.grant()
    with refused(world, IntegrityError, "does not name the persons whose approvals count"):
        case.grant(persons=("alice", "alice"))
    with refused(world, IntegrityError, "does not name the persons whose approvals count"):
        case.grant(persons=("alice", "bob"))
    case.decide("bob")
    case.grant()


def test_quorum_of_one_group_is_not_enough_where_two_must_be_met() -> None:
    world, case = new("frontier/llm@1")
    for person in ("alice", "bob", "carol"):
        case.decide(person)
    with refused(world, DeniedError, "no quorum on these terms: 2 of alice, bob, carol; and 1 of dave, grace"):
        case.grant()
    case.decide("grace")
    case.grant()


def test_an_expired_approval_does_not_grant() -> None:
    world, case = new()
    case.decide("alice")
    case.decide("bob")
    world.tick(HOUR)
    with refused(world, IntegrityError, "does not name the persons whose approvals count"):
        case.grant(persons=("alice", "bob"))


@params(
    [
        ("no request", lambda w, c: partial(c.grant, request=NONE), NotFoundError, "there is no request"),
        ("other terms", lambda w, c: partial(c.grant, terms=NONE), IntegrityError, "it grants other terms"),
        ("other version", lambda w, c: partial(c.grant, version="demo/tiny@2"), IntegrityError, "other version"),
        ("other content", lambda w, c: partial(c.grant, content=NONE), IntegrityError, "other version"),
        ("other sharing", lambda w, c: partial(c.grant, sharing=NONE), IntegrityError, "names another sharing"),
        (
            "other beneficiary",
            lambda w, c: partial(c.grant, beneficiary="spiffe://example.org/job/other"),
            IntegrityError,
            "names another beneficiary",
        ),
        ("other parent", lambda w, c: partial(c.grant, parent=c.version.entry), IntegrityError, "does not follow"),
        ("fewer persons", lambda w, c: partial(c.grant, persons=("alice",)), IntegrityError, "name the persons whose"),
        (
            "other persons",
            lambda w, c: partial(c.grant, persons=("alice", "carol")),
            IntegrityError,
            "name the persons",
        ),
        ("other order", lambda w, c: partial(c.grant, persons=("bob", "alice")), IntegrityError, "name the persons"),
    ]
)
def test_refused_as_a_grant(attack: Attack, error: type[CustodyError], message: str) -> None:
    world, case = new()
    case.decide("alice")
    case.decide("bob")
    with refused(world, error, message):
        attack(world, case)()
    case.grant()


def test_a_workload_that_lost_its_owners_is_granted_nothing() -> None:
    world, case = new()
    world.replace_root(owners=())
    for person in case.quorum:
        case.decide(person)
    with refused(world, DeniedError, "spiffe://example.org/job/serve has no owner in the trust root any more"):
        case.grant()


def test_a_second_grant_is_refused() -> None:
    world = World()
    case = world.granted()
    with refused(world, IntegrityError, "the request is granted"):
        case.grant()


def test_a_grant_after_the_start_window_is_refused() -> None:
    world, case = new()
    world.tick(24 * HOUR - 1)
    case.decide("alice")
    case.decide("bob")
    world.tick(1)
    with refused(world, DeniedError, "the start window of these terms is over"):
        case.grant()


def test_a_grant_of_a_request_that_was_withdrawn_is_refused() -> None:
    world, case = new()
    case.decide("alice")
    case.decide("bob")
    case.log_stop(case.stop("withdraw", "frank"), "frank")
    with refused(world, IntegrityError, "the request is withdrawn"):
        case.grant()
