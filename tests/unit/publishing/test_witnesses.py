"""Witnesses that are down, slow, or lie. Nothing is published without a quorum, and one liar stops nobody."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from custody.errors import IntegrityError, UnavailableError
from custody.publishing.publisher import Publisher
from tests.doubles.tlog import TIME, witness_signer
from tests.doubles.witness import LIES, LocalWitness, LyingWitness
from tests.unit.publishing.world import QUICK, World, entry

SHORT = replace(QUICK, witness_timeout=1.0)


def lying(world: World, number: int, lie: str) -> LyingWitness:
    """Put a liar in the place of a witness."""
    liar = LyingWitness(f"w{number}", witness_signer(number), [world.signer.vkey], lambda: world.now, lie=lie)
    world.witnesses[number - 1] = liar
    return liar


@contextmanager
def thread_of(publisher: Publisher) -> Iterator[None]:
    publisher.start()
    yield
    publisher.stop()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("witness w1 does not answer: connection refused", "witness w1 does not answer: connection refused"),
        ("witness w1: still busy with an earlier call", "witness w1 fails: still busy with an earlier call"),
        ("the disk is full", "witness w1 fails: the disk is full"),
    ],
)
def test_a_witness_is_named_once(world: World, monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    def fails(*_: object) -> None:
        raise UnavailableError(said)

    publisher = world.running()
    world.append(entry(0))
    monkeypatch.setattr(world.witnesses[0], "add_checkpoint", fails)
    world.witnesses[2].down = True
    with pytest.raises(UnavailableError) as caught:
        publisher.publish_once()
    assert told in caught.value.message
    assert caught.value.message.count("w1") == 1


def test_without_a_quorum_nothing_is_published_and_the_missing_are_named(world: World) -> None:
    publisher = world.running()
    world.append(entry(0))
    world.witnesses[0].down = world.witnesses[2].down = True
    with pytest.raises(UnavailableError) as caught:
        publisher.publish_once()
    assert "witness w1 fails: connection refused" in caught.value.message
    assert "witness w3 fails: connection refused" in caught.value.message
    assert "w2" not in caught.value.message
    assert publisher.published.size == 0
    assert not world.store.exists("checkpoints/1")
    assert publisher.failed is None


def test_who_waits_is_told_within_the_deadline_which_witness_did_not_answer(world: World) -> None:
    publisher = world.running()
    world.witnesses[0].down = world.witnesses[1].down = True
    world.append(entry(0))
    with pytest.raises(UnavailableError):
        publisher.publish_once()
    with thread_of(publisher):
        with pytest.raises(UnavailableError, match=r"entry 0 is not published after 0\.2 s: .*witness w1 fails"):
            publisher.wait(0, 0.2)
        assert publisher.published.size == 0
        world.witnesses[0].down = world.witnesses[1].down = False
        assert world.verify(publisher.wait(0, 30)).index == 0


def test_who_waits_is_told_of_a_witness_that_hangs_before_its_own_time_is_over(world: World) -> None:
    publisher = world.running()
    liars = [lying(world, 1, "hangs"), lying(world, 2, "hangs")]
    world.append(entry(0))
    with thread_of(publisher):
        assert all(liar.called.wait(30) for liar in liars)
        with pytest.raises(UnavailableError, match="witness w1 has not answered; witness w2 has not answered"):
            publisher.wait(0, 0.1)
        for liar in liars:
            liar.release.set()


def test_a_failed_round_signs_more_and_the_next_one_publishes_all_of_it(world: World) -> None:
    publisher = world.running()
    world.witnesses[0].down = world.witnesses[1].down = True
    for i in range(3):
        world.append(entry(i))
        with pytest.raises(UnavailableError):
            publisher.publish_once()
    world.witnesses[0].down = False
    world.publish(publisher)
    assert publisher.published.size == 3
    assert list(world.store.list("checkpoints/")) == ["checkpoints/0", "checkpoints/3"]


@pytest.mark.parametrize("lie", LIES)
def test_one_lying_witness_cannot_stop_the_log(world: World, lie: str) -> None:
    publisher = world.running()
    liar = lying(world, 3, lie)
    for i in range(4):
        world.append(entry(i))
        world.publish(publisher)
    liar.release.set()
    assert publisher.failed is None
    assert set(world.policy.check(publisher.published.checkpoint).cosigned) == {"w1", "w2"}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_witness_does_not_count_for_the_quorum(world: World, lie: str) -> None:
    publisher = world.publisher(settings=SHORT)
    publisher.recover()
    world.publish(publisher)
    liar = lying(world, 3, lie)
    world.witnesses[1].down = True
    world.append(entry(0))
    for _ in range(3):
        with pytest.raises(UnavailableError, match="witness w3"):
            publisher.publish_once()
    assert publisher.published.size == 0
    assert publisher.failed is None
    liar.release.set()
    world.witnesses[1].down = False
    world.publish(publisher)
    assert publisher.published.size == 1


def test_a_cosignature_in_the_name_of_another_witness_is_ignored(world: World) -> None:
    publisher = world.running()
    first, second, third = world.witnesses

    class Parrot(LocalWitness):
        def add_checkpoint(self, old: int, proof: object, checkpoint: bytes) -> list[bytes]:
            return [second.signer.sign(checkpoint.rpartition(b"\n\n")[0] + b"\n", TIME)]

    world.witnesses[2] = Parrot("w3", third.signer, [], lambda: TIME)
    second.down = True
    world.append(entry(0))
    with pytest.raises(UnavailableError, match="witness w3 fails: answers without a cosignature of its key"):
        publisher.publish_once()
    assert first.sizes[-1] == 1


def test_a_witness_outside_the_policy_is_not_asked(world: World) -> None:
    publisher = world.running()
    stranger = LocalWitness("w9", witness_signer(9), [world.signer.vkey], lambda: world.now)
    world.witnesses[0] = stranger
    world.witnesses[1].down = True
    world.append(entry(0))
    with pytest.raises(UnavailableError, match=r"w1 is not connected.*w9 is not in the quorum"):
        publisher.publish_once()
    assert stranger.asked == []


def test_a_clock_that_jumped_publishes_nothing_until_it_is_right(world: World) -> None:
    publisher = world.running()
    world.append(entry(0))
    true = world.witnesses[0]._clock
    for jump in (-365 * 86_400, 365 * 86_400, 301, -301):
        publisher._panel._clock = lambda jump=jump: TIME + jump  # type: ignore[misc]
        with pytest.raises(UnavailableError, match=f"states time {TIME}, our clock says"):
            publisher.publish_once()
    publisher._panel._clock = true
    world.publish(publisher)
    assert publisher.published.size == 1


def test_a_cosignature_older_than_the_witnesss_last_one_does_not_count(world: World) -> None:
    publisher = world.running()
    world.witnesses[2].down = True
    world.append(entry(0))
    world.publish(publisher)
    world.now -= 10
    world.append(entry(1))
    with pytest.raises(UnavailableError, match="earlier than its last one"):
        publisher.publish_once()
    world.now += 10
    world.publish(publisher)
    assert publisher.published.size == 2


def test_tiles_that_were_changed_under_the_publisher_are_our_trouble_not_the_witnesss(world: World) -> None:
    publisher = world.running()
    world.append(*[entry(i) for i in range(300)])
    world.publish(publisher)
    world.witnesses[2].down = True
    world.append(*[entry(i) for i in range(300, 600)])
    (world.path / "log/tile/0/000").unlink()
    (world.path / "log/tile/0/000").write_bytes(bytes(8192))
    world.witnesses[0].state = world.witnesses[1].state = None  # so that they need a proof from the start
    publisher._panel._seats["w1"].size = 100
    with pytest.raises(IntegrityError, match="tile/0/000"):
        world.publish(publisher)
    assert publisher.failed is not None
