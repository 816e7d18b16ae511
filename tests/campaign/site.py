"""One log in a directory, as a process sees it: the real ledger, log store and witnesses, each behind its faulty layer.

::

    <place>/broker/ledger*          SQLite
    <place>/broker/log/             the published log
    <place>/w1 … w3/                the memory of each witness, two of which make a quorum

The witnesses live in the same process, each with its own disk and its own power: what the broker's death does to them
is what a network that goes silent does.
"""

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final, Never

from custody.adapters import ledger, local_files, store_local
from custody.adapters.store_local import LocalStore
from custody.errors import ConfigError, IntegrityError, UnavailableError
from custody.publishing.publisher import Publisher
from custody.publishing.settings import Settings
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.tlog.policy import Group, LogKey, Policy
from custody.tlog.policy import Witness as PolicyWitness
from custody.tlog.witness_protocol import AddCheckpoint, Refused
from custody.witness import state as witness_state
from custody.witness.cosigner import Cosigner
from custody.witness.state import CheckpointStore
from tests.doubles.disk_layer import DiskLayer, LayeredOs
from tests.doubles.faults import KILLED, Cut, Host, Kind, Tap
from tests.doubles.sqlite_layer import SqliteLayer
from tests.doubles.store import Dead
from tests.doubles.tlog import ORIGIN, TIME, log_signer, witness_signer
from tests.doubles.witness import WitnessAtError

__all__ = ["COMPONENTS", "POLICY", "ROW_KEY", "WITNESSES", "Plan", "Process"]

WITNESSES: Final = ("w1", "w2", "w3")
COMPONENTS: Final = ("ledger", "log", *WITNESSES)
ROW_KEY: Final = bytes(range(32))
_CONFLICT: Final = 409
_SETTINGS: Final = Settings(delay=0.0, witness_timeout=20.0, batch=256)

_SIGNERS: Final = {name: witness_signer(number) for number, name in enumerate(WITNESSES, start=1)}
POLICY: Final = Policy(
    (LogKey(log_signer().vkey),),
    tuple(PolicyWitness(name, signer.vkey) for name, signer in _SIGNERS.items()),
    (Group("all", 2, WITNESSES),),
    "all",
)

Plan = Mapping[str, Mapping[int, Kind]]
_working_for = threading.local()


class _Witness:
    """A witness with its disk. What it is shown is told to ``saw`` before it answers."""

    def __init__(
        self,
        name: str,
        folder: Path,
        plan: Mapping[int, Kind],
        rng: Random,
        *,
        report: Callable[[str, bytes], None],
        met: Callable[[Kind], None],
    ) -> None:
        self.name = name
        self._folder = folder
        self._after = folder.with_name(f"{name}.after")
        self._settle()
        self._report = report
        self._rng = rng
        self.tap = Tap(Host(self._die), plan, met)
        self._layer = DiskLayer(folder, self.tap)
        self._store: CheckpointStore | None = None
        with self._at_work(), suppress(ConfigError):  # a witness may refuse to start
            self._store = CheckpointStore(folder, _SIGNERS[name].vkey)
        self._cosigner = (
            None if self._store is None else Cosigner(_SIGNERS[name], [log_signer().vkey], self._store, lambda: TIME)
        )

    def add_checkpoint(self, old: int, proof: Sequence[bytes], checkpoint: bytes) -> Sequence[bytes]:
        if self.tap.dead:
            raise UnavailableError("connection refused")
        self._report("seen", checkpoint)
        answer: bytes | Refused | None = None
        with self._at_work():
            if self._cosigner is not None:
                answer = self._cosigner.add_checkpoint(AddCheckpoint(old, tuple(proof), checkpoint).encode())
        if answer is None:
            raise UnavailableError("connection refused")
        if isinstance(answer, Refused):
            if answer.status == _CONFLICT:
                raise WitnessAtError(answer.size or 0)
            raise IntegrityError(f"refused: {answer.status} {answer.reason}")
        size = Checkpoint.parse(Note.parse(checkpoint).text).size
        self._report("cosigned", f"{self.name} {size}".encode())
        return [answer]

    def latest(self, origin: str) -> bytes | None:
        if self._store is None or self.tap.dead:
            raise UnavailableError("connection refused")
        return self._store.latest(origin)

    def end(self) -> None:
        """Give up the directory."""
        if self._store is not None:
            self._store.close()

    def _at_work(self) -> "_AtWork":
        return _AtWork(self._layer)

    def _die(self, power: bool) -> Never:  # noqa: FBT001 - called by a Tap, which knows nothing else
        if not power:
            raise Dead
        making = self._after.with_suffix(".making")
        self._layer.cut_power(making, self._rng)
        making.rename(self._after)
        self._settle()
        raise Cut

    def _settle(self) -> None:
        """Put what a power cut has left in the place of the directory; the process may have ended amid that."""
        shutil.rmtree(self._after.with_suffix(".making"), ignore_errors=True)
        if self._after.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._after.rename(self._folder)


class _AtWork:
    """While a witness works, the calls of its module go to its disk; its death ends there."""

    def __init__(self, layer: DiskLayer) -> None:
        self._layer = layer

    def __enter__(self) -> None:
        _working_for.layer = self._layer

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        _working_for.layer = None
        return kind is not None and issubclass(kind, (Dead, Cut))


class Process:
    """A broker's process over the directory: made once in a forked child, it patches that child for good.

    ``report`` is told what leaves the process. A fault that kills ends the child with status ``KILLED``.
    """

    def __init__(self, place: Path, plan: Plan, rng: Random, report: Callable[[str, bytes], None]) -> None:
        self._place = place
        self._rng = rng
        self._report = report
        self.started = False
        broker = place / "broker"
        host = Host(self._die)
        self.taps = {name: Tap(host, plan.get(name, {}), self._met(name)) for name in ("ledger", "log")}
        self._sqlite = SqliteLayer(self.taps["ledger"])
        for path in broker.glob("ledger*"):
            if path.suffix != ".shm" and not path.name.endswith("-shm"):
                self._sqlite.remember(path)
        self._log = DiskLayer(broker / "log", self.taps["log"])
        ours = LayeredOs(lambda: self._log)
        for module in (store_local, local_files):
            module.os = ours  # type: ignore[attr-defined]
        setattr(ledger, "bring_up_to_date", lambda _connection: None)  # noqa: B010 - no export; the template is up to date
        setattr(witness_state, "os", LayeredOs(lambda: getattr(_working_for, "layer", None)))  # noqa: B010 - no export
        store_local._SYNCERS = 1  # type: ignore[misc]  # the operations of a seed come in one order
        self.witnesses = [
            _Witness(
                name,
                place / name,
                plan.get(name, {}),
                Random(rng.random()),
                report=report,
                met=self._met(name),
            )
            for name in WITNESSES
        ]
        self.taps |= {witness.name: witness.tap for witness in self.witnesses}

    def start(self) -> None:
        """Open ledger and log store, as a broker's start does."""
        broker = self._place / "broker"
        self.journal = ledger.open_journal(f"sqlite:///{broker}/ledger", ROW_KEY, ORIGIN)
        self.store = LocalStore(broker / "log")
        self.publisher = Publisher(
            self.journal,
            self.store,
            log_signer(),
            policies=lambda _old, _new: [POLICY],
            witnesses=lambda: self.witnesses,
            clock=lambda: TIME,
            settings=_SETTINGS,
        )
        self.started = True

    def end(self) -> None:
        """Give up everything that is open. No more faults come."""
        for tap in self.taps.values():
            tap.disarm()
        for witness in self.witnesses:
            witness.end()
        if self.started:
            self.publisher.stop()
            self.journal.close()
            self.store.close()

    def cure(self) -> None:
        """Make room on every disk."""
        for tap in self.taps.values():
            tap.cure()

    def _met(self, name: str) -> Callable[[Kind], None]:
        return lambda kind: self._report("met", f"{name} {kind.value}".encode())

    def _die(self, power: bool) -> Never:  # noqa: FBT001 - called by a Tap, which knows nothing else
        if power:
            try:
                self._cut_power()
            except BaseException as error:  # noqa: BLE001 - in a callback of C it would vanish
                self._report("broken", f"the replay of the power cut failed: {error!r}".encode())
        os._exit(KILLED)

    def _cut_power(self) -> None:
        self._sqlite.cut_power(self._rng)
        after = self._place / "broker/log.after"
        self._log.cut_power(after, self._rng)
        shutil.rmtree(self._place / "broker/log")
        after.rename(self._place / "broker/log")
        for path in (self._place / "broker").glob("*-shm"):
            path.unlink()
