"""A wrong history for each rule of proto/spec/entries.md: openings and sessions."""

from typing import Any

import pytest

from custody.documents.request import Range
from custody.documents.session import OpenSession
from custody.entries.entry import Entry
from custody.values import U64, Time
from tests.doubles.case import Case
from tests.doubles.world import DOMAIN, HOUR, JOB, World
from tests.unit.audit.wrong import (
    AB,
    OTHER,
    Lie,
    Prepare,
    board_granted,
    closed,
    granted,
    half_used,
    in_session,
    judge,
    later,
    opened,
    opening,
    requested,
    stopped,
    stranger,
    unprovoked,
    used_up,
    wrong,
)

QUORUM = ("alice", "bob")


def sent(world: World) -> Case:
    """Granted, and a quorum of shares is at hand."""
    case = granted(world)
    for person in QUORUM:
        case.send(person)
    return case


def sent_for_later(world: World) -> Case:
    """The same; the lease begins in an hour."""
    case = world.granted(not_before=Time(world.now + HOUR))
    for person in QUORUM:
        case.send(person)
    return case


def cooling(world: World) -> Case:
    """The board's shares are at hand; then a root makes the board cool off for longer."""
    case = board_granted(world)
    world.tick(HOUR)
    for person in case.quorum:
        case.send(person)
    longer = tuple(
        type(roster)(
            name=roster.name,
            guards=roster.guards,
            groups=roster.groups,
            release=roster.release,
            cool_off=U64(3 * HOUR if roster.name == "board" else int(roster.cool_off)),
        )
        for roster in world.state.root.rosters
    )
    world.replace_root(rosters=longer)
    return case


def session(**changes: Any) -> Lie:
    return lambda world, case: case.begin(world.job(), **changes)


def entry(**changes: Any) -> Lie:
    """Log an honest document, and say something else in the entry."""

    def lie(world: World, case: Case) -> object:
        job = world.job()
        return case.log_session(case.session(job), job, **changes)

    return lie


def live(case: Case) -> str:
    return next(iter(case.found.live_sessions))


def ended(name: str | None = None, /, *served: tuple[int, int]) -> Lie:
    return lambda _, case: case.end(name or live(case), *served)


def replayed(world: World, case: Case) -> object:
    """The document of a session once more."""
    first = next(item for item in world.log.entries if item.type == "session-intent")
    envelope = world.log.envelopes[first.documents[0].envelope]
    names = (
        "actor version content request terms session beneficiary files ceiling parent"  # all but id, time and documents
    )
    return world.append("session-intent", envelope, **{name: getattr(first, name) for name in names.split()})


def misdated(world: World, case: Case, *, seconds: int) -> object:
    return case.begin(world.job(), issued=Time(world.now + seconds))


def begun_by(world: World, case: Case, spiffe: str) -> object:
    return case.begin(world.job(spiffe))


def expired(world: World, case: Case) -> object:
    return case.begin(world.ca.issue(JOB, world.now - 2 * HOUR))


def forged(world: World, case: Case) -> object:
    job, other = world.job(), world.job()
    envelope = world.sign(case.session(job).document(OpenSession), other)
    signature = type(envelope.signatures[0])(keyid=job.key_id, sig=envelope.signatures[0].sig)
    renamed = type(envelope)(payload=envelope.payload, payloadType=envelope.payloadType, signatures=(signature,))
    return case.log_session(renamed, job)


def opening_intent(**changes: Any) -> Lie:
    fields = {"persons": QUORUM} | changes
    return lambda _, case: case.begin_opening(**fields)


def before_grant(_: World, case: Case) -> Entry:
    return case.begin_opening(persons=QUORUM, parent=case.found.entry)


def before_lease(world: World, case: Case) -> object:
    job = world.job()
    return case.log_session(case.session(job), job, parent=case.found.entry)


def again(world: World, case: Case) -> Entry:
    over = next(item for item in world.log.entries if item.type == "session-outcome")
    return case.end(str(over.session), (0, 1), parent=over.parent)


def first_file(world: World) -> Case:
    case = opened(world)
    case.begin(world.job(), files=(Range(first=U64(0), last=U64(0)),))
    return case


def sent_once(world: World) -> Case:
    case = granted(world)
    case.send("alice")
    return case


def direct(world: World) -> Case:
    return world.opened(mode="direct")


def in_direct_session(world: World) -> Case:
    case = direct(world)
    case.begin(xwing=world.devices["bob"].xwing, bytes=U64(5700))
    return case


def direct_that_says_stream(world: World, case: Case) -> object:
    job = world.job()
    document = case.session(job, xwing=world.devices["bob"].xwing, bytes=U64(5700))
    return case.log_session(document, job, mode=None)


OPENINGS = [
    wrong("another sharing", sent, "it names another sharing", opening_intent(sharing=AB)),
    wrong(
        "fewer shares than a quorum",
        sent_once,
        "shares of alice are at hand, needed",
        opening_intent(persons=("alice",)),
    ),
    wrong("not granted", requested, "these terms were not granted", before_grant),
    wrong("no share at hand", granted, "the persons whose shares are at hand", opening_intent()),
    wrong(
        "a share nobody sent", sent, "the persons whose shares are at hand", opening_intent(persons=("alice", "carol"))
    ),
    wrong("before its window", sent_for_later, "the lease begins only at", opening_intent()),
    wrong("after its start window", sent, "had to be opened before", later(24, opening_intent())),
    wrong("after its end", sent, "the lease ended at", later(30, opening_intent())),
    wrong("inside the cool-off", cooling, "the cool-off is not over", opening_intent(persons=("alice", "bob", "dave"))),
    wrong("by the broker without the key", sent, "another broker's", opening_intent(broker="broker-2")),
    wrong("another release key", sent, "another release key", opening_intent(release_key=AB)),
    wrong("twice at once", opening, "an opening is under way", opening_intent()),
    wrong("of an open lease", opened, "the request is open", opening_intent()),
    wrong("of a stopped one", stopped, "the request is revoked", opening_intent()),
    wrong(
        "an outcome of no opening", sent, "no opening is under way", lambda w, c: c.end_opening(parent=c.found.entry)
    ),
    wrong(
        "another key",
        opening,
        "the key that was rebuilt is not the version's",
        lambda w, c: c.end_opening(key_commit=AB),
    ),
    wrong(
        "a success with a reason", opening, "a success with a reason", lambda w, c: c.end_opening(reason="bad-share")
    ),
    wrong(
        "a failure without a reason",
        opening,
        "a failure without a reason",
        lambda w, c: c.end_opening("failed", reason=None),
    ),
    wrong(
        "other persons than the intent's",
        opening,
        "other persons than the intent",
        lambda w, c: c.end_opening(persons=("alice", "carol")),
    ),
]

SESSIONS = [
    wrong("another version than the lease's", opened, "other version", entry(version="demo/tiny@2")),
    wrong(
        "another beneficiary than the document's",
        opened,
        "it names another beneficiary",
        entry(beneficiary=f"spiffe://{DOMAIN}/job/other"),
    ),
    wrong("a lease that does not exist", opened, "there is no lease", entry(terms=AB)),
    wrong(
        "less than the whole files in direct mode",
        direct,
        "direct mode counts the whole files",
        lambda w, c: c.begin(w.job(), xwing=w.devices["bob"].xwing, bytes=U64(5699)),
    ),
    wrong("a direct session that says it is a stream", direct, "it names another mode", direct_that_says_stream),
    wrong("a stream that says it is direct", opened, "it names another mode", entry(mode="direct")),
    wrong(
        "a part of a file in direct mode", in_direct_session, "direct mode serves whole files", ended(None, (0, 100))
    ),
    wrong("success with nothing in direct mode", in_direct_session, "direct mode serves whole files", ended()),
    wrong(
        "an outcome under another request",
        in_session,
        "it is of another request",
        lambda w, c: c.end(live(c), (0, 1), request=AB),
    ),
    wrong("not open yet", granted, "the lease is granted", session()),
    wrong("no lease at all", requested, "it is of another lease", before_lease),
    wrong("being stopped", stopped, "the lease is being stopped", session()),
    wrong("closed after it was returned", closed, "the lease is being stopped", session()),
    wrong("signed long ago", opened, "behind the broker's clock", lambda w, c: misdated(w, c, seconds=-301)),
    wrong("signed ahead of time", opened, "ahead of the broker's clock", lambda w, c: misdated(w, c, seconds=301)),
    wrong("a document used twice", in_session, "this session was used before", replayed),
    wrong(
        "another workload",
        opened,
        f"the lease is for {JOB}",
        lambda w, c: begun_by(w, c, f"spiffe://{DOMAIN}/job/other"),
    ),
    wrong("an expired certificate", opened, "it expired at", expired),
    wrong("a certificate of a stranger", opened, "does not verify", lambda w, c: c.begin(stranger(w, JOB))),
    wrong("a signature with another key", opened, "SVID signature does not verify", forged),
    wrong(
        "files beyond the lease's",
        lambda w: w.opened(files=(Range(first=U64(0), last=U64(1)),)),
        "not all of them are in the lease",
        session(files=(Range(first=U64(0), last=U64(2)),)),
    ),
    wrong("after the end", opened, "the lease ended at", later(30, session())),
    wrong("one session too many", used_up, "all 3 sessions of the lease are used", session()),
    wrong("more bytes than are left", half_used, "8300 left in the lease", session(bytes=U64(8301))),
    wrong(
        "a key in stream mode",
        opened,
        "the lease is of mode stream",
        lambda w, c: c.begin(w.job(), xwing=w.devices["bob"].xwing),
    ),
    wrong("another ceiling than the document's", opened, "other files or bytes", entry(ceiling=U64(5))),
    wrong(
        "other files than the document's",
        opened,
        "other files or bytes",
        entry(files=(Range(first=U64(0), last=U64(0)),)),
    ),
    wrong("another session id", opened, "it names another session", entry(session=AB)),
    wrong("another lease in the document", opened, "it opens another lease", session(lease=AB)),
    wrong("a document of another deployment", opened, "of another deployment", session(deployment=OTHER)),
    wrong("a session ended twice", half_used, "there is no such session open", again),
    wrong("a session that never began", in_session, "there is no such session open", ended(AB)),
    wrong("files outside the session", first_file, "files outside the session", ended(None, (1, 5))),
    wrong("more than the ceiling", in_session, "more than the session's ceiling", ended(None, (0, 700), (1, 301))),
]


@pytest.mark.parametrize(("prepare", "text", "lie"), OPENINGS)
def test_a_wrong_opening_is_found(prepare: Prepare, text: str, lie: Lie) -> None:
    judge(prepare, text, lie)


@pytest.mark.parametrize(("prepare", "text", "lie"), SESSIONS)
def test_a_wrong_session_is_found(prepare: Prepare, text: str, lie: Lie) -> None:
    judge(prepare, text, lie)


def test_no_rule_for_these_was_forgotten() -> None:
    assert unprovoked([*OPENINGS, *SESSIONS], "opening") == set()
