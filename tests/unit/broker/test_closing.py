"""What a session's end answers: the entry of its own outcome, or that it has none."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from custody.broker.closing import end_session, wipe
from custody.broker.context import Context, Peer
from custody.broker.reading import close_session
from custody.broker.sessions import Ended, Session
from custody.documents.session import OpenSession
from custody.errors import ConflictError, DeniedError, UnavailableError
from custody.ports import JournalTransaction
from tests.doubles.world import World
from tests.unit.broker.place import broker_of


@pytest.fixture
def commits() -> list[int]:
    """The size of the log after each transaction."""
    return []


@pytest.fixture
def two(tmp_path: Path, commits: list[int]) -> Iterator[tuple[Context, list[Session]]]:
    """A broker with two live sessions of one lease."""
    world = World()
    case = world.opened()
    jobs = [world.job(), world.job()]
    envelopes = [case.session(job) for job in jobs]
    for job, envelope in zip(jobs, envelopes, strict=True):
        case.log_session(envelope, job)
    with broker_of(world, tmp_path, commits) as context:
        with context.ledger.reading() as now:
            found = now.requests[case.digest]
            sessions = [
                Session(
                    envelope.document(OpenSession),
                    digest=envelope.digest,
                    request=case.digest,
                    content=case.version.content,
                    entry=found.sessions[envelope.digest].entry,
                    not_after=int(found.lease.not_after),
                )
                for envelope in envelopes
            ]
        yield context, sessions


def test_a_session_that_has_ended_already_answers_with_its_own_outcome(two: tuple[Context, list[Session]]) -> None:
    """A stop may be faster than the job that closes its session; both are told the same entry."""
    context, (first, second) = two
    places = [end_session(context, session, "aborted", "stopped") for session in (first, second)]
    assert places == [end_session(context, session, "ok", None) for session in (first, second)]
    outcomes = [context.ledger.entry(place) for place in places if place is not None]
    assert [(entry.type, entry.session) for entry in outcomes] == [
        ("session-outcome", first.digest),
        ("session-outcome", second.digest),
    ]


def test_a_job_that_closes_a_session_which_was_ended_for_it_is_no_refusal(two: tuple[Context, list[Session]]) -> None:
    """It was cut off by a stop, and says goodbye all the same. Nobody else learns the outcome."""
    context, (first, second) = two
    for session in (first, second):
        session.witnessed = session is first
        context.sessions.add(session)
    stopped = end_session(context, first, "aborted", "stopped")
    end_session(context, second, "aborted", "unavailable")
    job = Peer(first.identity, "cd" * 32)
    assert close_session(context, job, first.digest) == stopped
    with pytest.raises(DeniedError, match="no such session"):
        close_session(context, Peer(first.identity + "-2", "cd" * 32), first.digest)
    with pytest.raises(ConflictError, match="did not open"):
        close_session(context, job, second.digest)


def test_all_sessions_of_a_stopped_lease_end_in_one_commit(
    two: tuple[Context, list[Session]], commits: list[int]
) -> None:
    context, sessions = two
    for session in sessions:
        context.sessions.add(session)
    before = context.ledger.glance().size
    wipe(context, sessions[0].request, sessions[0].lease)
    assert len(commits) == 1
    assert context.ledger.glance().size == before + 2
    assert {context.ledger.entry(before + n).session for n in (0, 1)} == {session.digest for session in sessions}
    assert [session.outcome for session in sessions] == [before, before + 1]
    assert not context.sessions.all()


def test_an_outcome_that_could_not_be_committed_is_none(
    two: tuple[Context, list[Session]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, (session, _) = two

    @contextmanager
    def failing() -> Iterator[JournalTransaction]:
        with whole() as transaction:
            yield transaction
            raise UnavailableError("the ledger is full")

    whole = context.ledger._journal.transaction
    monkeypatch.setattr(context.ledger._journal, "transaction", failing)
    with pytest.raises(UnavailableError, match="full"):
        end_session(context, session, "ok", None)
    assert session.outcome is None
    monkeypatch.undo()
    place = end_session(context, session, "ok", None)
    assert place is not None
    assert context.ledger.entry(place).session == session.digest


def test_a_session_that_ended_without_an_outcome_has_none_to_show(two: tuple[Context, list[Session]]) -> None:
    """Its lease was given back while it could not be logged what the session was served."""
    context, (session, _) = two
    with context.ledger.reading() as state:
        found = state.requests[session.request]
        context.ledger.append(
            "close", request=found.digest, terms=found.granted, reason="broker-lost", parent=found.entry
        )
    session.witnessed = True
    context.sessions.add(session)
    for _ in range(2):
        with pytest.raises(ConflictError, match="has no outcome"):
            close_session(context, Peer(session.identity, "cd" * 32), session.digest)
    with pytest.raises(DeniedError, match="the session is over"):
        session.require_live(0)
    assert not context.sessions.all()


def test_of_a_session_that_is_over_no_more_is_remembered_than_its_end(two: tuple[Context, list[Session]]) -> None:
    """What was served stands there file by file; ten thousand sessions are remembered."""
    context, sessions = two
    session = sessions[0]
    sessions.clear()
    context.sessions.add(session)
    session.witnessed = True
    digest, identity = session.digest, session.identity
    place = end_session(context, session, "ok", None)
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    assert context.sessions.ended(digest, identity) == Ended(identity, place, True)  # noqa: FBT003 - a tuple's field
    assert context.sessions.ended(digest, "spiffe://example.org/another") is None
