"""What is refused as a sealed version."""

from functools import partial
from typing import Any

import msgspec

from custody.documents.actor import Person
from custody.documents.content import Content
from custody.documents.root import Sealer
from custody.documents.sharing import Sharing
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError
from custody.values import U64, Time
from tests.doubles.actors import Workload
from tests.doubles.refusal import Act, Attack, params, refused
from tests.doubles.world import HOUR, World

NONE = "00" * 32


def sealed(
    world: World,
    version: str = "demo/tiny@1",
    who: str | Workload = "sam",
    content: dict[str, Any] | None = None,
    sharing: dict[str, Any] | None = None,
) -> Act:
    """A version of which content or sharing were changed before they were signed."""
    document = world.content(version, who, **(content or {}))
    shared = world.sharing(document, **(sharing or {}))
    return partial(world.log_manifest, world.sign(document, who), world.sign(shared, who), who)


def entered(world: World, **changes: Any) -> Act:
    """An honest version in an entry that was changed."""
    content = world.content()
    sharing = world.sharing(content)
    return partial(world.log_manifest, world.sign(content, "sam"), world.sign(sharing, "sam"), **changes)


def by_two_sealers(world: World) -> Act:
    content = world.content()
    content_envelope, sharing = world.sign(content, "sam"), world.sharing(content)
    return partial(world.log_manifest, content_envelope, world.sign(sharing, "frank"))


def by_two_named_sealers(world: World) -> Act:
    content = world.content()
    sharing = world.sharing(content, signer=Person(person="frank"))
    return partial(world.log_manifest, world.sign(content, "sam"), world.sign(sharing, "frank"))


def content_twice(world: World) -> Act:
    content = world.sign(world.content(), "sam")
    sharing = world.sign(world.sharing(content.document(Content)), "sam")
    fields = {"version": "demo/tiny@1", "content": content.digest, "sharing": sharing.digest}
    return partial(world.append, "manifest", content, content, actor=world.party("sam"), **fields)


def swapped_slots(world: World) -> Act:
    content = world.content()
    (group,) = world.sharing(content).groups
    order = msgspec.structs.replace(group, slots=(group.slots[1], group.slots[0], group.slots[2]))
    return partial(_log, world, content, world.sharing(content, groups=(order,)))


def other_threshold(world: World) -> Act:
    content = world.content()
    (group,) = world.sharing(content).groups
    return partial(_log, world, content, world.sharing(content, groups=(msgspec.structs.replace(group, threshold=1),)))


def without_carol(world: World) -> Act:
    content = world.content()
    (group,) = world.sharing(content).groups
    fewer = msgspec.structs.replace(group, slots=group.slots[:2])
    return partial(_log, world, content, world.sharing(content, groups=(fewer,)))


def of_the_weaker_roster(world: World) -> Act:
    """A frontier version shared among the custodians that guard everything else."""
    content = world.content("frontier/llm@1")
    weak = world.sharing(world.content())
    return partial(_log, world, content, world.sharing(content, roster=weak.roster, groups=weak.groups))


def unguarded(world: World) -> Act:
    content = world.content()
    sharing = world.sharing(content)
    guarded = tuple(msgspec.structs.replace(roster, guards=()) for roster in world.state.root.rosters)
    world.replace_root(rosters=guarded)
    return partial(_log, world, content, sharing)


def _log(world: World, content: Content, sharing: Sharing) -> None:
    world.log_manifest(world.sign(content, "sam"), world.sign(sharing, "sam"))


def with_expired_svid(world: World) -> Act:
    return sealed(world, "demo/tiny@1", world.ca.issue("spiffe://example.org/train/run", world.now - 2 * HOUR))


@params(
    [
        (
            "content of another deployment",
            lambda w: sealed(w, content={"deployment": "staging.example.org/log"}),
            IntegrityError,
            "it is of another deployment",
        ),
        (
            "sharing of another deployment",
            lambda w: sealed(w, sharing={"deployment": "staging.example.org/log"}),
            IntegrityError,
            "it is of another deployment",
        ),
        ("sharing of another version", lambda w: sealed(w, sharing={"version": "a@1"}), IntegrityError, "version"),
        ("sharing of another content", lambda w: sealed(w, sharing={"content": NONE}), IntegrityError, "content"),
        (
            "sharing of a later generation",
            lambda w: sealed(w, sharing={"generation": U64(1), "reshare": NONE}),
            IntegrityError,
            "the sharing is not the sealer's own",
        ),
        ("sharing that names another sealer", by_two_named_sealers, IntegrityError, "sealer's own"),
        ("sharing signed by another", by_two_sealers, IntegrityError, "with a device of sam"),
        ("content twice", content_twice, IntegrityError, "other documents than its type has"),
        ("content from the future", lambda w: sealed(w, content={"created": Time(w.now + 301)}), DeniedError, "ahead"),
        (
            "by a person without the right",
            lambda w: sealed(w, "demo/tiny@1", "frank"),
            DeniedError,
            "frank may not seal demo",
        ),
        (
            "by a workload under another name",
            lambda w: sealed(w, "frontier/llm@1", w.job("spiffe://example.org/train/run")),
            DeniedError,
            "spiffe://example.org/train/run may not seal frontier/llm@1",
        ),
        (
            "by a workload without the right",
            lambda w: sealed(w, "demo/tiny@1", w.job()),
            DeniedError,
            "spiffe://example.org/job/serve may not seal demo/tiny@1",
        ),
        (
            "in the name of the sealer",
            lambda w: sealed(w, "demo/tiny@1", "frank", content={"sealer": Person(person="sam")}),
            IntegrityError,
            "not signed with a device of sam",
        ),
        ("with an expired SVID", with_expired_svid, IntegrityError, "it expired at"),
        ("that no roster guards", unguarded, DeniedError, "no roster guards demo/tiny@1"),
        ("with another threshold", other_threshold, DeniedError, "is not that of roster custodians"),
        ("with a custodian left out", without_carol, DeniedError, "is not that of roster custodians"),
        ("with slots in another order", swapped_slots, DeniedError, "is not that of roster custodians"),
        ("shared by a weaker roster", of_the_weaker_roster, DeniedError, "is not that of roster board"),
        ("under another roster's name", lambda w: sealed(w, sharing={"roster": "board"}), DeniedError, "is not that"),
        ("entry of other version", lambda w: entered(w, version="a@1"), IntegrityError, "it names another version"),
        ("entry of other content", lambda w: entered(w, content=NONE), IntegrityError, "it names another content"),
        ("entry of other sharing", lambda w: entered(w, sharing=NONE), IntegrityError, "it names another sharing"),
        ("entry of other actor", lambda w: entered(w, actor=w.party("frank")), IntegrityError, "the actor is not"),
    ]
)
def test_refused_as_a_version(attack: Attack, error: type[CustodyError], message: str) -> None:
    world = World()
    act = attack(world)
    with refused(world, error, message):
        act()


def test_the_honest_version_of_all_these_is_accepted() -> None:
    world = World()
    sealed(world)()
    assert list(world.state.versions) == ["demo/tiny@1"]


def test_a_version_is_sealed_once_whatever_its_content() -> None:
    world = World()
    world.seal()
    act = sealed(world)
    with refused(world, ConflictError, "demo/tiny@1 exists already"):
        act()


def test_a_vid_is_used_once_whatever_its_name() -> None:
    world = World()
    vid = world.seal().content.vid
    world.shares[vid] = world.shares[vid]
    act = sealed(world, "demo/tiny@2", content={"vid": vid})
    with refused(world, ConflictError, "demo/tiny@2 exists already"):
        act()


def test_a_removed_sealer_cannot_backdate() -> None:
    world = World()
    before = world.content(), world.now
    world.tick(30 * 24 * HOUR)
    world.replace_root(sealers=(Sealer(sealer="frank", names=("*",)),))
    content = before[0]
    act = partial(_log, world, content, world.sharing(content, created=content.created))
    with refused(world, DeniedError, "sam may not seal demo/tiny@1"):
        act()


def test_the_roster_of_the_longest_pattern_guards() -> None:
    world = World()
    rosters = {roster.name: roster for roster in world.state.root.rosters}
    exact = msgspec.structs.replace(rosters["custodians"], guards=("*", "frontier/small"))
    world.replace_root(rosters=(rosters["board"], exact, rosters["governance"]))
    assert world.seal("frontier/small@1").sharing.roster == "custodians"
    assert world.seal("frontier/smaller@1").sharing.roster == "board"
    assert world.seal("frontier/small/er@1").sharing.roster == "board"
