"""Plans the runs, forks a child for every life, and counts what did not hold.

A run is one or two lives with faults and a last one without. First comes each operation of each component alone, the
kinds of fault in turn; then pairs, both in one life or one in each of two. All of it follows from the seed.
"""

import gc
import hashlib
import os
import select
import shutil
import signal
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import BinaryIO, Final

from custody.adapters import ledger
from custody.adapters.ledger_engine import connect_database
from tests.campaign.life import Facts, Report, grow, live, outlive
from tests.campaign.mutants import apply
from tests.campaign.site import COMPONENTS, ROW_KEY, WITNESSES, Plan
from tests.doubles.faults import KILLED, Kind
from tests.doubles.tlog import ORIGIN
from tests.unit.publishing.world import World, document_entry

__all__ = ["Campaign", "Violation"]

_STUCK: Final = 60  # seconds without a word after which a life is ended
_LAST: Final = 9  # the number of the life that is judged
_KINDS: Final = tuple(Kind)
_HEAD: Final = struct.Struct(">BI")
_WORDS: Final = (
    "seen",
    "cosigned",
    "committed",
    "released",
    "refused",
    "broken",
    "met",
    "operations",
    "ended",
    "judged",
)

Operations = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Violation:
    """What did not hold in which run."""

    run: int
    what: str
    faults: str


@dataclass(frozen=True)
class _Run:
    """The faults of each life, on a copy of a template."""

    template: str
    lives: Sequence[Plan]


class Campaign:
    """Runs with one seed. ``mutant`` breaks the program under test on purpose."""

    def __init__(self, seed: int, mutant: str | None = None) -> None:
        self.violations: list[Violation] = []
        self.runs = 0
        self.met: Counter[tuple[str, Kind]] = Counter()
        self._seed = seed
        self._mutant = mutant
        self._refused = 0
        self._processes = 0
        self._began = perf_counter()

    def run(self, numbers: Iterable[int], plan: Callable[[Random], _Run] | None = None, *, stop: bool = False) -> None:
        """Do these runs: each operation alone and then pairs, or what ``plan`` says; ``stop`` at a violation."""
        memory = Path("/dev/shm")  # what is durable the layers decide: memory will do
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            self._folder = Path(folder)
            _warm_up(self._folder / "run/broker")
            (self._folder / "run").rmdir()
            self._operations = {name: self._prepare(name) for name in ("grown", "new")}
            alone = self._alone()
            for number in numbers:
                rng = Random(f"{self._seed}/{number}")
                single = plan is None and number < len(alone)
                self._one(number, alone[number] if single else (plan or self.pair)(rng), rng)
                if stop and self.violations:
                    break

    def summary(self) -> str:
        """Return the report: what was tried, and each run in which something did not hold."""
        kinds: Counter[str] = Counter()
        places: Counter[str] = Counter()
        for (component, kind), count in self.met.items():
            kinds[kind.value] += count
            places["witnesses" if component in WITNESSES else component] += count
        tried = ", ".join(f"{count} {name}" for name, count in (kinds + places).items())
        found = f"{len(self.violations)} violations, {perf_counter() - self._began:.0f} s"
        lines = [
            f"fault campaign, seed {self._seed}: {self.runs} runs, {self._processes} processes, {found}",
            f"  faults met: {tried}; {self._refused} times the program stopped by itself",
        ]
        lines += [f"  run {bad.run}: {bad.what}  [{bad.faults}]" for bad in self.violations[:50]]
        return "\n".join(lines) + "\n"

    def _prepare(self, name: str) -> Operations:
        """Make a template, and list the operations of a life on it."""
        place = self._folder / name
        for folder in ("broker/log", *WITNESSES):
            (place / folder).mkdir(parents=True)
        ledger.open_journal(f"sqlite:///{place}/broker/ledger", ROW_KEY, ORIGIN).close()
        if name == "grown":
            self._child(lambda report: grow(place, report), Facts())
        copy = shutil.copytree(place, self._folder / "run")
        facts = Facts()
        self._child(lambda report: live(copy, {}, 1, 0, report), facts)
        shutil.rmtree(copy)
        operations: Operations = facts.operations
        if not operations or facts.broken or facts.refused:
            raise AssertionError(f"a life without faults failed: {facts.broken or facts.refused}")
        return operations

    def _alone(self) -> Sequence[_Run]:
        """Each operation once; every kind comes at each place in the code, since operations repeat."""
        runs = [
            _Run(template, [{component: {number: _KINDS[(number + turn) % len(_KINDS)]}}])
            for template, operations in self._operations.items()
            for turn, component in enumerate(COMPONENTS)
            for number in range(len(operations[component]))
        ]
        Random(self._seed).shuffle(runs)
        return runs

    def pair(self, rng: Random) -> _Run:
        """Two faults anywhere: in one life, or the second in the life that comes after the first. Every fourth time
        ``doubt``.
        """
        if rng.random() < 0.25:
            return self.doubt(rng)
        template = rng.choice(("grown", "grown", "new"))
        first, second = self._fault(template, rng), self._fault(template, rng)
        if rng.random() < 0.5:
            return _Run(template, [first, second])
        both = {component: dict(faults) for component, faults in first.items()}
        for component, faults in second.items():
            both.setdefault(component, {}).update(faults)
        return _Run(template, [both])

    def doubt(self, rng: Random) -> _Run:
        """A sync fails and a power cut comes later: whoever syncs again and goes on loses what it promised."""
        component = rng.choice(("ledger", "log", "log"))
        names = self._operations["grown"][component]
        syncs = [
            number
            for number, name in enumerate(names)
            if name == "sync" or (name == "fsync" and names[number - 1] in {"link", "rename", "mkdir"})
        ]
        failed = rng.choice(syncs)
        later = failed + rng.randint(1, 50)
        return _Run("grown", [{component: {failed: rng.choice((Kind.EIO, Kind.PERSISTED)), later: Kind.POWER}}])

    def _fault(self, template: str, rng: Random) -> Plan:
        component = rng.choice(COMPONENTS)
        return {component: {rng.randrange(len(self._operations[template][component])): rng.choice(_KINDS)}}

    def _one(self, number: int, run: _Run, rng: Random) -> None:
        """Do one run on a copy of its template."""
        place = shutil.copytree(self._folder / run.template, self._folder / "run")
        facts = Facts()
        lives = [(turn, plan, rng.getrandbits(32)) for turn, plan in enumerate(run.lives, start=1)]
        killed = 0
        while not facts.judged:
            left = lives[facts.ended + killed :]
            status = self._child(partial(self._live_on, place, left, facts), facts)
            killed += status == KILLED
            if status not in (0, KILLED):
                facts.broken.append(f"a process ended with status {status}")
                break
        self.runs += 1
        self.met.update(facts.met)
        self._refused += len(facts.refused)
        for what in dict.fromkeys(facts.broken):
            self.violations.append(Violation(number, what, _describe(run)))
        shutil.rmtree(place)

    def _live_on(self, place: Path, lives: Sequence[tuple[int, Plan, int]], facts: Facts, report: Report) -> None:
        """In a child: live one life after the other, and the judged one last. A fault that kills ends the child, and
        the parent forks another for what is left; an orderly end saves the fork.
        """
        if self._mutant:
            apply(self._mutant)

        def tell(word: str, data: bytes) -> None:
            report(word, data)
            facts.take(word, data)

        for turn, plan, seed in lives:
            live(place, plan, turn, seed, tell)
            tell("ended", b"")
        outlive(place, facts, _LAST, report)
        report("judged", b"")

    def _child(self, work: Callable[[Report], object], facts: Facts) -> int:
        """Fork a child for ``work``; take what it reports, and return its status."""
        reader, writer = os.pipe()
        self._processes += 1
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                work(lambda word, data: _tell(writer, word, data))
            except BaseException:  # noqa: BLE001 - the parent is told, whatever it is
                _tell(writer, "broken", traceback.format_exc(limit=-4).encode())
                os._exit(1)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            for word, data in _listen(pipe, child):
                facts.take(word, data)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _warm_up(place: Path) -> None:
    """Do what a life does once in this process, so that its children find all of it imported and compiled: Python, and
    the SQL of the ledger in ``place``, whose engine they all inherit without a connection.
    """
    place.mkdir(parents=True)
    url = f"sqlite:///{place}/ledger"
    inherited = connect_database(url)
    setattr(ledger, "connect_database", lambda asked: inherited if asked == url else connect_database(asked))  # noqa: B010
    world = World(place)
    for number in range(2):
        envelope = b"an envelope of the parent %d" % number
        with world.journal.transaction() as transaction:
            transaction.add_document(hashlib.sha256(envelope).hexdigest(), envelope)
            transaction.append(document_entry(number, envelope))
        publisher = world.running()
        publisher.wait(number, 0)
        publisher.stop()
    world.close()
    shutil.rmtree(place)
    gc.disable()
    gc.freeze()


def _tell(pipe: int, word: str, data: bytes) -> None:
    os.write(pipe, _HEAD.pack(_WORDS.index(word), len(data)) + data)


def _listen(pipe: BinaryIO, child: int) -> Iterator[tuple[str, bytes]]:
    """Yield what a child says until it ends; end it when it says nothing for long."""
    heard = b""
    while True:
        if not select.select([pipe], [], [], _STUCK)[0]:
            os.kill(child, signal.SIGKILL)
            yield "broken", b"a process hung"
            return
        piece = pipe.read(1 << 16)
        if not piece:
            return
        heard += piece
        while len(heard) >= _HEAD.size:
            word, size = _HEAD.unpack_from(heard)
            if len(heard) < _HEAD.size + size:
                break
            yield _WORDS[word], heard[_HEAD.size : _HEAD.size + size]
            heard = heard[_HEAD.size + size :]


def _describe(run: _Run) -> str:
    lives = [
        ", ".join(f"{name} {number} {kind.value}" for name, faults in plan.items() for number, kind in faults.items())
        for plan in run.lives
    ]
    return f"{run.template}: {' | then '.join(lives)}"
