from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.witness.state import CheckpointStore, SystemDisk
from tests.doubles.tlog import witness_signer

__all__ = ["disk", "store"]


class FaultyDisk(SystemDisk):
    """A disk whose steps fail on demand, before or after having been done."""

    def __init__(self) -> None:
        self.fail = ""
        self.done_all_the_same = False
        self.steps: list[str] = []

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.fail:
            raise OSError(5, "Input/output error")

    def write(self, path: Path, data: bytes) -> int:
        if self.fail == "write" and self.done_all_the_same:
            path.write_bytes(data[: len(data) // 2])
        self._step("write")
        return super().write(path, data)

    def sync(self, descriptor: int) -> None:
        self._step(f"sync {sum(step.startswith('sync') for step in self.steps) % 2}")
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        if self.done_all_the_same:
            super().rename(source, target)
        self._step("rename")
        if not self.done_all_the_same:
            super().rename(source, target)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FaultyDisk) -> Iterator[CheckpointStore]:
    with CheckpointStore(tmp_path, witness_signer().vkey, disk) as opened:
        yield opened
