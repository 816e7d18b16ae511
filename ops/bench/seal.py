"""Sealing to a file system in memory: a whole version, manifest and all, beside copying and other encrypted files."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from custody.adapters.store_local import LocalStore
from custody.app.into_store import IntoStore
from custody.app.roots import read_envelope
from custody.app.sealing import Sealing, seal
from custody.app.source import scan
from custody.crypto.sodium import random_into
from custody.documents.actor import Person
from custody.documents.root import Root
from ops.bench import limits, peers
from ops.bench.deployment import Deployment
from ops.bench.model import Model
from ops.bench.rows import Contender, Row, Target, beside, measure, rate
from ops.bench.rows import Part as _Part

__all__ = ["rows"]

_CP: Final = Target(0.5, 0.8)
_TENSORIZER: Final = Target(4, 8)
_VERSION: Final = "demo/sealed@1"


def rows(deployment: Deployment, model: Model, work: Path, memory: Path, runs: int) -> Sequence[Row]:
    """Seal the model, from a file whose pages are cached."""
    root = read_envelope(deployment.directory / "keys/root.json").document(Root)
    names = ("sealed", "copy", "steps", "locked", "quarter.age")
    store, copy, steps, locked, quarter = (memory / name for name in names)

    with deployment.unlocked("dave") as signer:

        def ours() -> object:
            job = Sealing(version=_VERSION, files=scan(model.path), sealer=Person(person="dave"), signer=signer)
            target = IntoStore(LocalStore(store), _VERSION)
            return seal(job, root=root, target=target, rng=os.urandom, random_into=random_into, clock=_now)

        def tensorizer() -> Contender:
            run = peers.Tensorizer(model).save(locked, encrypted=True)
            name = "tensorizer, encrypted"
            return Contender(name, run, after=locked.unlink, size=model.size, target=_TENSORIZER)

        def age() -> Contender:
            tool = peers.Age(model)
            run = tool.encrypt(work / "quarter", quarter)
            return Contender("age (pyrage), a quarter of it", run, after=quarter.unlink, size=tool.size)

        return measure(
            _Part(
                "seal, to tmpfs",
                "GB/s",
                rate,
                [
                    Contender("custody", ours, before=store.mkdir, after=lambda: shutil.rmtree(store), size=model.size),
                    Contender("cp", peers.cp(model, copy), after=copy.unlink, size=model.size, target=_CP),
                    Contender(
                        "only read, hash, encrypt, write",
                        limits.sealing_steps(model, steps),
                        after=steps.unlink,
                        size=model.size,
                    ),
                    beside("tensorizer, encrypted", tensorizer, _TENSORIZER),
                    beside("age (pyrage)", age),
                ],
            ),
            runs,
        )


def _now() -> int:
    return int(time.time())
