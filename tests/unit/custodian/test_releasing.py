"""Sending a share again, or after the quorum: nobody is believed, least of all whoever says: send now."""

from dataclasses import replace

import pytest

from custody.errors import ConflictError, DeniedError, IntegrityError, UnavailableError
from tests.doubles.world import HOUR, World
from tests.unit.custodian.counter import Counter, Memory, raising
from tests.unit.custodian.scene import BOARD, Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def board() -> Scene:
    """A roster whose shares travel an hour after the quorum."""
    return Scene(version=BOARD)


# ---------------------------------------------------------------------------------------------------------- releasing


def test_after_a_restart_the_share_goes_to_the_new_release_key_without_deciding_again(scene: Scene) -> None:
    scene.decide()
    key = scene.case.make_key()
    scene.case.log_key(key)
    scene.case.key = key
    acted = scene.release()
    assert acted.decision is None
    assert acted.release is not None
    assert scene.opened() == scene.share()


def test_who_has_not_approved_releases_nothing(scene: Scene) -> None:
    with pytest.raises(DeniedError, match="alice has not approved these terms"):
        scene.release()
    assert scene.counter.sent == ["hello"]


def test_a_lease_that_is_open_needs_no_share(scene: Scene) -> None:
    scene.decide()
    scene.counter.claimed = "open"
    scene.case.decide("bob")
    scene.case.grant()
    with pytest.raises(ConflictError, match="open already"):
        scene.release()


def test_a_lease_that_has_ended_gets_no_share(scene: Scene) -> None:
    scene.decide()
    scene.case.decide("bob")
    scene.case.grant()
    scene.world.tick(27 * HOUR)
    with pytest.raises(DeniedError, match="the lease ended at"):
        scene.release()


def test_a_lease_that_had_to_be_opened_before_gets_no_share(scene: Scene) -> None:
    scene.decide()
    scene.case.decide("bob")
    scene.case.grant()
    scene.world.tick(24 * HOUR + 60)
    with pytest.raises(DeniedError, match="start window ended"):
        scene.release()


def _board_granted(board: Scene) -> None:
    for person in ("alice", "bob", "dave"):
        board.case.decide(person)
    board.case.grant()
    board.counter.log.publish()


def test_after_the_quorum_and_the_cool_off_the_share_is_sent(board: Scene) -> None:
    _board_granted(board)
    board.world.tick(HOUR)
    assert board.release().release is not None
    assert board.opened() == board.share()


def test_below_the_quorum_no_share_is_sent_whatever_the_broker_claims(board: Scene) -> None:
    board.case.decide("alice")
    board.counter.claimed = "granted"
    with pytest.raises(DeniedError, match="the log holds no grant yet"):
        board.release()
    assert board.counter.sent == ["hello"]


def test_inside_the_cool_off_no_share_is_sent(board: Scene) -> None:
    _board_granted(board)
    board.world.tick(HOUR - 1)
    with pytest.raises(DeniedError, match="the cool-off is not over"):
        board.release()
    assert board.counter.sent == ["hello"]


def test_the_cool_off_is_counted_in_witnesses_time_not_in_the_brokers(board: Scene) -> None:
    """The broker wrote the grant with a time two hours ago; no witness saw it before now."""
    for person in ("alice", "bob", "dave"):
        board.case.decide(person)
    board.case.grant()
    board.world.tick(2 * HOUR)
    board.counter.log.checkpoints.clear()
    board.desk = board.counter.desk()
    with pytest.raises(DeniedError, match="the cool-off is not over"):
        board.release()


def test_a_veto_that_the_broker_leaves_out_of_the_view_is_found_in_the_log(board: Scene) -> None:
    _board_granted(board)
    without = board.counter.log.view(board.case)
    board.case.decide("carol", "veto")
    board.world.tick(HOUR)
    receipts = len(without.receipts)

    def hiding(*_: object, **__: object) -> object:
        view = board.counter.log.view(board.case)
        return replace(view, receipts=view.receipts[:receipts], envelopes=without.envelopes)

    board.counter.lie("get_request", hiding)
    with pytest.raises(IntegrityError, match=r"the broker left out entry \d+ of the log, a veto"):
        board.release()
    assert "release" not in board.counter.sent


def test_a_roster_that_is_gone_from_the_root_counts_as_the_stricter_one(scene: Scene) -> None:
    scene.world.tick(60)
    rosters = tuple(roster for roster in scene.world.root.rosters if roster.name != "custodians")
    scene.world.replace_root(rosters=rosters)
    scene.counter.log.publish()
    scene.desk = scene.counter.desk()
    acted = scene.decide()
    assert acted.release is None
    assert scene.counter.sent == ["hello", "decision"]


def test_the_decision_stands_where_the_release_is_refused(scene: Scene) -> None:
    scene.counter.lie("release_share", raising(DeniedError("the request is closed")))
    acted = scene.decide()
    assert acted.decision is not None
    assert acted.later == "the request is closed"
    assert isinstance(acted.refused, DeniedError)


def test_a_share_that_is_not_needed_any_more_is_no_failure(scene: Scene) -> None:
    scene.counter.lie("release_share", raising(ConflictError("the lease is open already; the share is not needed")))
    acted = scene.decide()
    assert acted.decision is not None
    assert acted.refused is None


def test_a_broker_that_does_not_answer_is_asked_a_few_times_and_then_named(scene: Scene) -> None:
    asked: list[str] = []

    def silent(*_: object, **__: object) -> object:
        asked.append("")
        raise UnavailableError("the broker cannot be reached")

    scene.counter.lie("get_request", silent)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        scene.desk.request(scene.case.digest)
    assert len(asked) == 4


# ----------------------------------------------------------------------------------------------------------- memory


def test_a_log_smaller_than_the_one_seen_before_is_refused(scene: Scene) -> None:
    memory = Memory()
    scene.counter.desk(memory)
    seen = memory.now.size
    younger = Counter(World(), "alice")
    younger.world.rng(1)
    assert len(younger.world.log.entries) < seen
    with pytest.raises(IntegrityError, match="rollback"):
        younger.desk(memory)


def test_an_older_chain_of_roots_than_the_one_seen_before_is_refused(scene: Scene) -> None:
    memory = Memory()
    old = scene.counter.get_roots()
    scene.world.replace_root()
    scene.counter.desk(memory)
    assert memory.now.epoch == 1
    scene.counter.lie("get_roots", lambda: old)
    with pytest.raises(IntegrityError, match="rollback"):
        scene.counter.desk(memory)
