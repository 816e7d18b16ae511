"""A watch over a growing log: each increment audited and told, nothing missed, nothing told twice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from custody.adapters.home import Home
from custody.app.auditing import Audit
from custody.app.telling import Teller
from custody.app.watching import Watch
from custody.audit.patterns.thresholds import Thresholds
from custody.errors import IntegrityError, UnavailableError
from tests.doubles.world import World
from tests.unit.audit.published import Published, forced


@dataclass
class Told:
    """Somebody who is told, and who cannot be reached at times."""

    alerts: list[tuple[str, int | None]] = field(default_factory=list)
    away: bool = False

    def __call__(self, alert: Mapping[str, Any]) -> None:
        if self.away:
            raise UnavailableError("nobody answers")
        self.alerts.append((alert["code"], alert["entry"]))


@dataclass
class Scene:
    """A log that grows, and a folder for memory."""

    log: Published
    folder: Path

    @property
    def world(self) -> World:
        return self.log.world

    def watch(self, *tellers: Teller) -> Watch:
        how = Audit(Home(self.folder / "home"), self.world.genesis.digest, self.world.deployment)
        return Watch(self.log.source(), how, Thresholds(), tellers, self.folder / "state")

    def hurry(self) -> None:
        """A request that is approved at once."""
        self.world.tick(60)
        self.world.file().decide("alice")
        self.publish()

    def publish(self) -> None:
        self.log.publish()


def look(watch: Watch) -> bool:
    return watch.round(shown=lambda _: None) is not None


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    world = World(b"watch")
    world.seal()
    scene = Scene(Published(world), tmp_path)
    scene.log.publish([])
    scene.hurry()
    return scene


def test_what_was_there_before_is_learned_and_what_comes_is_told_once(scene: Scene) -> None:
    told = Told()
    watch = scene.watch(told)
    assert look(watch)
    assert told.alerts == []
    assert not look(watch), "nothing is read again while the checkpoint is the same"
    scene.hurry()
    assert look(watch)
    assert told.alerts == [("haste", 5)]


def test_a_watch_that_starts_again_goes_on_where_it_was(scene: Scene) -> None:
    look(scene.watch(Told()))
    scene.hurry()
    told = Told()
    assert look(scene.watch(told))
    assert told.alerts == [("haste", 5)]
    again = Told()
    look(scene.watch(again))
    assert again.alerts == []


def test_what_could_not_be_told_is_told_again_also_after_a_restart(scene: Scene) -> None:
    told = Told()
    watch = scene.watch(told)
    look(watch)
    scene.hurry()
    told.away = True
    for _ in range(2):
        with pytest.raises(UnavailableError):
            look(watch)
    scene.hurry()
    told.away = False
    look(watch)
    assert told.alerts == [("haste", 5), ("haste", 7)]
    scene.hurry()
    with pytest.raises(UnavailableError):
        look(scene.watch(Told(away=True)))
    later = Told()
    look(scene.watch(later))
    assert later.alerts == [("haste", 9)]


def test_nobody_answering_at_the_first_round_loses_nothing_of_the_second(scene: Scene) -> None:
    case = scene.world.file()
    forced(scene.world, lambda: case.log_decision(case.decision("erin"), "erin"))
    scene.publish()
    told = Told(away=True)
    watch = scene.watch(told)
    with pytest.raises(UnavailableError):
        look(watch)
    scene.hurry()
    told.away = False
    look(watch)
    assert ("finding-rule-decision", 5) in told.alerts
    assert ("haste", 7) in told.alerts


def test_findings_are_told_even_those_from_before_and_once(scene: Scene) -> None:
    case = scene.world.file()
    forced(scene.world, lambda: case.log_decision(case.decision("erin"), "erin"))
    scene.publish()
    told = Told()
    watch = scene.watch(told)
    look(watch)
    scene.hurry()
    look(watch)
    assert told.alerts.count(("finding-rule-decision", 5)) == 1


def test_a_log_that_is_rolled_back_is_told_and_the_watch_goes_on(scene: Scene) -> None:
    told = Told()
    watch = scene.watch(told)
    scene.hurry()
    look(watch)
    newest = dict(scene.log.files)
    del scene.log.files["checkpoints/6"]
    scene.log.files["checkpoint"] = scene.log.files["checkpoints/4"]
    look(watch)
    assert "finding-rollback" in [code for code, _ in told.alerts]
    scene.log.files = newest
    scene.hurry()
    look(watch)
    assert ("haste", 7) in told.alerts
    assert ("haste", 5) not in told.alerts


def test_a_witness_that_stays_away_is_told(scene: Scene) -> None:
    told = Told()
    watch = scene.watch(told)
    scene.log.witnesses = scene.world.witnesses
    scene.hurry()
    look(watch)
    scene.log.witnesses = scene.world.witnesses[:2]
    scene.hurry()
    look(watch)
    assert ("witness-silent", None) in told.alerts


def test_memory_that_cannot_be_read_is_no_fresh_start(scene: Scene) -> None:
    look(scene.watch())
    (scene.folder / "state.watch").write_text("{}")
    with pytest.raises(IntegrityError, match="how far the log was told"):
        scene.watch()
