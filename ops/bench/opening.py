"""Opening from a directory in direct mode, whole and in part, into fresh memory, every byte verified."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from custody.client import Custody, Lease, Session
from custody.documents.request import Mode
from ops.bench import limits, peers
from ops.bench.deployment import Deployment
from ops.bench.model import Model
from ops.bench.rows import Contender, Part, Row, Target, beside, measure, rate, took

__all__ = ["Loader", "part_rows", "rows"]

_SAFETENSORS: Final = Target(1.3, 2)
_TENSORIZER: Final = Target(3.5, 6)
_CRYPTOTENSORS: Final = Target(1.8, 3)
_MEMORY: Final = Target(0.45, 0.7)
_ONE: Final = Target(0.05, 0.02, below=True)


class Loader:
    """A job that loads tensors in a session of its own each time: the digest list and the store's place are asked for
    in the time that is taken, the session is not, which the table's note says.
    """

    def __init__(self, deployment: Deployment, job: Custody, model: Model, mode: Mode) -> None:
        self._model = model
        self._lease: Lease = deployment.lease(job, mode)
        self._session: Session | None = None

    def open(self) -> None:
        """Open a session."""
        self._session = self._lease.open()

    def load(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Load all tensors, or some."""
        if self._session is None:
            raise AssertionError
        return self._session.load_tensors(self._model.name, names, framework=self._model.framework)

    def read_into(self, memory: memoryview) -> None:
        """Read the whole file into memory that is there."""
        if self._session is None:
            raise AssertionError
        self._session.readinto(self._model.name, memory)

    def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def reader(self, name: str, memory: memoryview, **more: Any) -> Contender:
        """Return the reading of the whole file into memory that is there, as it is measured."""
        size = len(memory)
        return Contender(name, lambda: self.read_into(memory), before=self.open, after=self.close, size=size, **more)

    def contender(self, name: str, names: Sequence[str] | None = None, **more: Any) -> Contender:
        """Return the loading of all tensors, or some, as it is measured."""
        size = self._model.size if names is None else self._model.tensor * len(names)
        return Contender(name, lambda: self.load(names), before=self.open, after=self.close, size=size, **more)


def rows(deployment: Deployment, model: Model, work: Path, runs: int) -> Sequence[Row]:
    """Open all of it."""

    def safetensors() -> Contender:
        run = peers.safetensors_private_copy(model)
        return Contender("safetensors, plain, private copy", run, size=model.size, target=_SAFETENSORS)

    def plain() -> Contender:
        run = peers.Tensorizer(model).load(work / "plain.tensors", encrypted=False)
        return Contender("tensorizer, plain", run, size=model.size)

    def locked() -> Contender:
        run = peers.Tensorizer(model).load(work / "locked.tensors", encrypted=True)
        return Contender("tensorizer, encrypted", run, size=model.size, target=_TENSORIZER)

    def cryptotensors() -> Contender:
        run = peers.CryptoTensors(model, work / "model.cryptotensors").load()
        return Contender("cryptotensors", run, size=model.size, target=_CRYPTOTENSORS)

    def age() -> Contender:
        tool = peers.Age(model)
        return Contender("age (pyrage), a quarter of it", tool.decrypt(), size=tool.size)

    copy, steps = limits.copy_into_huge_pages(model), limits.opening_steps(model)
    with deployment.job() as job:
        contenders = [
            Loader(deployment, job, model, "direct").contender("custody, direct"),
            Contender("copy into huge pages, 2 threads", copy, size=model.size, target=_MEMORY),
            Contender("only read, decrypt, hash, 2 threads", steps, size=model.size),
            beside("safetensors, plain, private copy", safetensors, _SAFETENSORS),
            beside("tensorizer, plain", plain),
            beside("tensorizer, encrypted", locked, _TENSORIZER),
            beside("cryptotensors", cryptotensors, _CRYPTOTENSORS),
            beside("age (pyrage)", age),
        ]
        return measure(Part("open, local", "GB/s", rate, contenders), runs)


def part_rows(deployment: Deployment, model: Model, runs: int) -> Sequence[Row]:
    """Open one tensor of a hundred, by its name."""
    with deployment.job() as job:
        direct, stream = (Loader(deployment, job, model, mode) for mode in ("direct", "stream"))
        parts = [
            Part(
                f"one tensor, {name}",
                "ms",
                took,
                [
                    loader.contender("custody, a hundredth, by name", [model.one]),
                    loader.contender("custody, the whole file", target=_ONE),
                ],
                ours=2,
            )
            for name, loader in (("direct", direct), ("streamed", stream))
        ]
        return [row for part in parts for row in measure(part, runs)]
