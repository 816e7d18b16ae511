"""A custodian's acts against an honest counter and against lying ones: what is verified, and what is sent when."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from custody.crypto import hpke
from custody.crypto.secret import SecretBytes
from custody.custodian.acting import Acted, decide, look, release
from custody.custodian.review import Review
from custody.custodian.rewrap_child import rewrap
from custody.custodian.signing import draft_decision
from custody.documents.dsse import Envelope
from custody.documents.manifest import Wrap
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, UnavailableError
from tests.doubles.case import Case
from tests.doubles.world import HOUR, World
from tests.unit.custodian.counter import Counter, Memory, raising

NAME = "demo/tiny@1"
BOARD = "frontier/llm@1"


class Scene:
    """A world, a request, and the tool of one person."""

    def __init__(self, person: str = "alice", version: str = NAME) -> None:
        self.world = World()
        self.world.seal(version)
        self.case = self.world.file(version)
        self.counter = Counter(self.world, person, self.case)
        self.person = person
        self.device = self.world.devices[person]
        self.desk = self.counter.desk()

    def look(self, **settings: Any) -> Review:
        view = self.desk.request(self.case.digest)
        return look(
            self.desk, view, person=self.person, device=self.device.key_id, clock=lambda: self.world.now, **settings
        )

    def decide(self, verdict: str = "approve", shown: Review | None = None) -> Acted:
        shown = shown or self.look()
        decision = draft_decision(shown, verdict, "", issued=self.world.now)  # type: ignore[arg-type]
        return decide(self.desk, shown, decision, self.device, clock=lambda: self.world.now, rewrap=rewrap)

    def release(self, shown: Review | None = None, wrapping: Callable[..., Any] = rewrap) -> Acted:
        return release(self.desk, shown or self.look(), self.device, clock=lambda: self.world.now, rewrap=wrapping)

    def opened(self, case: Case | None = None) -> bytes:
        """What the broker can open of the share that was sent."""
        case = case or self.case
        slot = case.slot(self.person)
        info = hpke.release_info(
            bytes.fromhex(case.digest),
            bytes.fromhex(case.lease),
            bytes.fromhex(case.key.digest),
            bytes.fromhex(case.version.sharing_digest),
            slot.group,
            slot.index,
            bytes.fromhex(self.device.key_id),
        )
        with SecretBytes(32) as y:
            hpke.open_into(case.seed, info, self.counter.shares[self.person], y)
            return bytes(y.view)

    def share(self) -> bytes:
        shares = self.world.shares[self.case.version.content.vid]
        return bytes(shares[self.case.slot(self.person)].view)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def board() -> Scene:
    """A roster whose shares travel an hour after the quorum."""
    return Scene(version=BOARD)


# ---------------------------------------------------------------------------------------------------------- approving


def test_an_approval_sends_hello_decision_and_share_in_this_order(scene: Scene) -> None:
    acted = scene.decide()
    assert scene.counter.sent == ["hello", "decision", "release"]
    assert acted.decision is not None
    assert acted.release is not None
    assert acted.freshness.proven
    assert scene.opened() == scene.share()


def test_what_is_signed_is_what_was_shown(scene: Scene) -> None:
    shown = scene.look()
    scene.decide(shown=shown)
    signed = scene.case.found.decisions[0].decision
    assert (signed.request, signed.terms) == (scene.case.digest, shown.terms_digest)
    assert signed.sharing == shown.view.version.version.sharing_digest
    assert signed.expires == shown.terms.open_before


def test_a_denial_sends_no_share(scene: Scene) -> None:
    acted = scene.decide("deny")
    assert scene.counter.sent == ["hello", "decision"]
    assert acted.release is None


def test_a_roster_that_releases_after_the_quorum_gets_no_share_with_the_decision(board: Scene) -> None:
    acted = board.decide()
    assert board.counter.sent == ["hello", "decision"]
    assert "custody release" in acted.later


def test_a_share_that_is_not_the_committed_one_stops_everything_before_a_decision_is_sent(scene: Scene) -> None:
    slot = scene.case.slot("alice")
    info = hpke.wrap_info(
        bytes.fromhex(scene.case.version.sharing_digest), slot.group, slot.index, bytes.fromhex(scene.device.key_id)
    )
    bad = Wrap(slot=slot, device=scene.device.key_id, wrapped=hpke.seal(scene.device.xwing, info, bytes(32)))
    honest = scene.counter.get_version
    scene.counter.lie("get_version", lambda name: replace(honest(name), wraps=[bad]))
    with pytest.raises(IntegrityError, match="not the one that the sealer committed to"):
        scene.decide()
    assert scene.counter.sent == ["hello"]


def test_the_wrap_of_another_slot_stops_everything(scene: Scene) -> None:
    others = scene.counter.log.wraps(NAME, "bob")
    honest = scene.counter.get_version
    mine = [
        Wrap(slot=scene.case.slot("alice"), device=scene.device.key_id, wrapped=wrap.wrapped) for wrap in others[:1]
    ]
    scene.counter.lie("get_version", lambda name: replace(honest(name), wraps=mine))
    with pytest.raises(IntegrityError, match="does not open"):
        scene.decide()
    assert scene.counter.sent == ["hello"]


def test_no_wrap_for_this_device_stops_everything(scene: Scene) -> None:
    honest = scene.counter.get_version
    scene.counter.lie("get_version", lambda name: replace(honest(name), wraps=[]))
    with pytest.raises(IntegrityError, match="no wrapped share of slot 0/1"):
        scene.decide()
    assert scene.counter.sent == ["hello"]


def test_nobody_decides_twice(scene: Scene) -> None:
    scene.decide()
    with pytest.raises(ConflictError, match="alice has decided on these terms already: approve"):
        scene.decide()


def test_the_requester_and_the_owner_cannot_decide() -> None:
    scene = Scene()
    own = scene.world.file(NAME, "alice", reason="for myself")
    scene.counter.cases.append(own)
    scene.case = own
    with pytest.raises(DeniedError, match="alice may not decide"):
        scene.decide()
    assert scene.counter.sent == ["hello"]


def test_somebody_without_a_share_is_told_who_has_one() -> None:
    scene = Scene("grace")
    with pytest.raises(DeniedError, match="grace holds no share"):
        scene.decide()


def test_a_device_that_the_root_no_longer_names_is_refused_before_anything_is_shown(scene: Scene) -> None:
    scene.world.tick(60)
    persons = tuple(person for person in scene.world.root.persons if person.id != "bob")
    alice = next(person for person in persons if person.id == "alice")
    token = scene.world.devices["alice/token"]
    only = tuple(device for device in alice.devices if device.key_id == token.key_id)
    changed = tuple(_with(person, only) if person.id == "alice" else person for person in scene.world.root.persons)
    scene.world.replace_root(persons=changed)
    scene.desk = scene.counter.desk()
    with pytest.raises(DeniedError, match="does not name this device"):
        scene.look()


def test_a_stopped_request_is_not_approved(scene: Scene) -> None:
    scene.case.log_stop(scene.case.stop("withdraw", "frank"), "frank")
    with pytest.raises(DeniedError, match="the request is over: withdrawn"):
        scene.decide()


def test_a_request_whose_start_window_is_over_is_not_approved(scene: Scene) -> None:
    scene.world.tick(25 * HOUR)
    with pytest.raises(DeniedError, match="start window ended"):
        scene.decide()


# ------------------------------------------------------------------------------------------- between look and signing


def test_a_request_that_was_withdrawn_while_you_looked_is_not_signed(scene: Scene) -> None:
    shown = scene.look()
    scene.case.log_stop(scene.case.stop("withdraw", "frank"), "frank")
    with pytest.raises(ConflictError, match="whether it was stopped changed while you looked"):
        scene.decide(shown=shown)
    assert scene.counter.sent == ["hello"]


def test_a_release_key_that_changed_while_you_looked_is_not_wrapped_to(scene: Scene) -> None:
    shown = scene.look()
    scene.case.log_key(scene.case.make_key())
    with pytest.raises(ConflictError, match="the release key changed while you looked"):
        scene.decide(shown=shown)
    assert scene.counter.sent == ["hello"]


def test_a_root_that_came_while_you_looked_is_noticed_by_the_hello(scene: Scene) -> None:
    shown = scene.look()
    scene.world.replace_root()
    with pytest.raises(ConflictError, match="the trust root changed while you looked"):
        scene.decide(shown=shown)
    assert scene.counter.sent == ["hello"]


def test_a_newer_root_that_is_held_back_when_asked_for_is_a_lie(scene: Scene) -> None:
    shown = scene.look()
    old = scene.counter.get_roots()
    scene.world.replace_root()
    scene.counter.lie("get_roots", lambda: old)
    with pytest.raises(IntegrityError, match="trust root that does not follow"):
        scene.decide(shown=shown)
    assert scene.counter.sent == ["hello"]


def test_a_fresh_tool_that_is_shown_an_old_root_does_not_sign(scene: Scene) -> None:
    honest = scene.counter.get_roots()
    scene.world.replace_root()
    scene.counter.lie("get_roots", lambda: [(envelope, scene.counter.log.receipt(0)) for envelope, _ in honest])
    scene.desk = scene.counter.desk()
    with pytest.raises(IntegrityError, match="another trust root in force"):
        scene.look()
    assert scene.counter.sent == []


def test_a_view_replayed_from_before_is_noticed(scene: Scene) -> None:
    shown = scene.look()
    old = scene.counter.get_request(scene.case.digest)
    scene.case.decide("bob")
    scene.case.decide("carol")
    scene.case.grant()
    scene.counter.lie("get_request", lambda *_, **__: old)
    with pytest.raises(CustodyError):
        scene.decide(shown=shown)  # the old view verifies; the log itself refuses a decision on what was granted
    assert "release" not in scene.counter.sent


def test_an_answer_to_somebody_elses_hello_is_refused(scene: Scene) -> None:
    shown = scene.look()
    other = scene.world.log_hello(scene.world.hello("bob"), "bob")
    scene.counter.lie("hello", lambda _: scene.counter.log.receipt_of(other))
    with pytest.raises(IntegrityError, match="receipt is of another entry"):
        scene.decide(shown=shown)


def test_a_receipt_of_another_decision_does_not_confirm_ones_own(scene: Scene) -> None:
    scene.case.decide("bob")
    bobs = scene.counter.log.view(scene.case).receipts[-1]
    scene.counter.lie("decide", lambda _: bobs)
    with pytest.raises(IntegrityError, match="receipt is of another entry"):
        scene.decide()


@pytest.mark.parametrize(("offset", "word"), [(7200, "ahead of"), (-7200, "behind")])
def test_a_clock_two_hours_off_the_witnesses_is_said_in_one_line(scene: Scene, offset: int, word: str) -> None:
    """The broker has the same wrong clock, and so does not notice."""
    honest = scene.counter.hello

    def hello(envelope: Envelope) -> Receipt:
        entry = Entry.parse(honest(envelope).entry)
        scene.counter.log.checkpoints.clear()
        scene.counter.log.publish(time=scene.world.now - offset)
        return scene.counter.log.receipt_of(entry)

    scene.counter.lie("hello", hello)
    with pytest.raises(DeniedError, match=f"this computer's clock is 7200 seconds {word} the witnesses'"):
        scene.desk.greet("alice", scene.device)


def test_a_certificate_that_had_ended_when_witnesses_saw_the_request_is_refused() -> None:
    world = World()
    world.seal(NAME)
    job = world.job()
    case = world.file(NAME, job)
    counter = Counter(world, "alice", case)
    desk = counter.desk()
    index = len(world.log.entries) - 1
    look(desk, desk.request(case.digest), person="alice", device=world.devices["alice"].key_id, clock=lambda: world.now)
    world.tick(5 * HOUR)
    counter.log.checkpoints.clear()
    for size in range(index + 1, len(world.log.entries) + 1):
        counter.log.publish(size)
    desk = counter.desk()
    view = desk.request(case.digest)
    with pytest.raises(IntegrityError, match="was not valid when witnesses first saw entry"):
        look(desk, view, person="alice", device=world.devices["alice"].key_id, clock=lambda: world.now)


def test_a_job_whose_certificate_has_ended_since_is_still_believed() -> None:
    world = World()
    world.seal(NAME)
    case = world.file(NAME, world.job())
    counter = Counter(world, "alice", case)
    counter.log.publish()
    world.tick(5 * HOUR)
    case.decide("bob")
    desk = counter.desk()
    view = desk.request(case.digest)
    seen = look(desk, view, person="alice", device=world.devices["alice"].key_id, clock=lambda: world.now)
    assert seen.slot is not None


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


def _with(person: Any, devices: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(person, devices=devices)
