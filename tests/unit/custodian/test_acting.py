"""A custodian's acts against an honest counter and against lying ones: what is verified, and what is sent when."""

from dataclasses import replace
from typing import Any

import pytest

from custody.crypto import hpke
from custody.custodian.acting import look
from custody.documents.dsse import Envelope
from custody.documents.manifest import Wrap
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError
from tests.doubles.world import HOUR, World
from tests.unit.custodian.counter import Counter
from tests.unit.custodian.scene import BOARD, NAME, Scene


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


def _with(person: Any, devices: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(person, devices=devices)
