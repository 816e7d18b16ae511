"""A sealing that was interrupted or has failed tells its target, which may wait for a network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from custody.app.sealing import Sealing, seal
from custody.app.source import scan
from custody.documents.actor import Person
from custody.errors import ConflictError
from custody.segments.finishing import GivenUpError
from custody.segments.streams import Sink
from tests.doubles.interrupting import interrupting
from tests.doubles.seal_site import SEGMENT, VERSION
from tests.doubles.world import World

WAIT = 20.0
SIZES = {"a": 3 * SEGMENT, "b": 10, "c": 10}


@dataclass
class Away:
    """A target that waits, until it is told, where it writes ``writes`` or ends ``ends``; ``fails`` fails at its end,
    and ``breaks`` when it is written, once somebody waits.
    """

    writes: str = ""
    ends_with: str = ""
    fails: str = ""
    breaks: str = ""
    in_time: bool = False
    ends: int = 3
    waits: threading.Event = field(default_factory=threading.Event)
    told: threading.Event = field(default_factory=threading.Event)

    def sealing(self, _vid: bytes, _job: Sealing) -> nullcontext[None]:
        return nullcontext()

    @contextmanager
    def writer(self, key: str) -> Iterator[Sink]:
        yield _Sink(self, key)
        if self.ends_with and key.endswith(self.ends_with):
            self.wait()
        if self.fails and key.endswith(self.fails):
            assert self.waits.wait(WAIT)
            raise ConflictError(f"{key} exists")

    def wait(self) -> None:
        self.waits.set()
        self.in_time = self.told.wait(WAIT)
        raise GivenUpError("given up")

    def give_up(self) -> None:
        self.told.set()

    def publish(self, _vid: bytes, _manifest: bytes) -> None:
        pytest.fail("it is not whole")


@dataclass
class _Sink:
    away: Away
    key: str

    def write(self, _data: memoryview, /) -> None:
        if self.away.writes and self.key.endswith(self.away.writes):
            self.away.wait()
        if self.away.breaks and self.key.endswith(self.away.breaks):
            assert self.away.waits.wait(WAIT)
            raise ConflictError(f"{self.key} broke")


def sealed(folder: Path, target: Away) -> None:
    model = folder / "model"
    model.mkdir()
    for name, size in SIZES.items():
        (model / name).write_bytes(bytes(size))
    world = World()
    job = Sealing(
        version=VERSION, files=scan(model), sealer=Person(person="sam"), signer=world.signer("sam"), segment=SEGMENT
    )

    def fill(buffer: memoryview) -> None:
        buffer[:] = world.rng(len(buffer))

    seal(job, root=world.root, target=target, rng=world.rng, random_into=fill, clock=lambda: world.now)


@pytest.mark.parametrize("target", [Away(writes="0.floe"), Away(ends_with="0.floe")], ids=["writing", "ending"])
def test_ctrl_c_reaches_who_waits(tmp_path: Path, target: Away) -> None:
    with (  # noqa: PT012 - what is tested
        pytest.raises(KeyboardInterrupt),
        interrupting(times=1, then=lambda: None) as begin,
    ):
        threading.Thread(target=lambda: target.waits.wait(WAIT) and begin()).start()
        sealed(tmp_path, target)
    assert target.in_time


@pytest.mark.parametrize(
    ("waits", "fails"),
    [("0.floe", "1.digests"), ("0.floe", "2.floe"), ("1.floe", "0.digests"), ("2.digests", "0.digests")],
)
def test_an_end_that_fails_lets_the_others_go_and_is_what_is_told(tmp_path: Path, waits: str, fails: str) -> None:
    target = Away(ends_with=waits, fails=fails)
    with pytest.raises(ConflictError, match=fails):
        sealed(tmp_path, target)
    assert target.in_time


def test_a_write_that_is_let_go_is_not_what_is_told(tmp_path: Path) -> None:
    target = Away(writes="2.floe", fails="0.digests")
    with pytest.raises(ConflictError, match=r"0\.digests"):
        sealed(tmp_path, target)
    assert target.in_time


def test_a_write_that_fails_lets_those_go_who_end(tmp_path: Path) -> None:
    target = Away(ends_with="0.floe", breaks="2.floe")
    with pytest.raises(ConflictError, match=r"2\.floe broke"):
        sealed(tmp_path, target)
    assert target.in_time
