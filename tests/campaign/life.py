"""What one process does between its start and its end, and how its last successor is judged.

A life recovers, publishes what is left, appends a few batches and hands out the receipts. It tells its parent at once
what leaves the process; nothing that happens later can take that back:

    seen       a checkpoint that a witness was shown
    cosigned   the size that a witness answered for
    committed  an entry whose transaction returned
    released   an entry whose receipt was handed out: whoever holds it goes on, as a job does that gets its key
    refused    why the process stopped by itself
    broken     an invariant that does not hold
"""

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from custody.entries.receipt import verify
from custody.errors import CustodyError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, leaf_hash
from custody.tlog.note import Note
from custody.witness.state import origin_hash
from tests.campaign.site import POLICY, Plan, Process
from tests.doubles.faults import Kind
from tests.doubles.tlog import ORIGIN
from tests.unit.publishing.tiny_reader import read_log
from tests.unit.publishing.world import document_entry, entry

__all__ = ["GROWN", "Facts", "Report", "grow", "live", "outlive"]

Report = Callable[[str, bytes], None]
_T = TypeVar("_T")

GROWN: Final = 254
"""Entries in the template of a log that has grown: two more make the first full tile."""

_BATCHES: Final = (1, 2)  # entries; the first names a document
_PATIENCE: Final = 4  # attempts at what a fault may fail; then the disk gets room again, and as many more


class Facts:
    """What the lives of one run told."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.cosigned: dict[str, int] = {}
        self.committed: dict[int, bytes] = {}
        self.released: dict[int, bytes] = {}
        self.refused: list[str] = []
        self.broken: list[str] = []
        self.met: Counter[tuple[str, Kind]] = Counter()
        self.operations: dict[str, Any] = {}
        self.ended = 0
        self.judged = False

    def take(self, word: str, data: bytes) -> None:
        """Remember one thing that was told."""
        if word == "seen":
            self.seen.add(data)
        elif word in ("committed", "released"):
            known: dict[int, bytes] = getattr(self, word)
            index, digest = int.from_bytes(data[:8], "big"), data[8:]
            if known.setdefault(index, digest) != digest:
                self.broken.append(f"two entries were {word} as number {index}")
        elif word == "cosigned":
            name, size = data.decode().split()
            self.cosigned[name] = max(int(size), self.cosigned.get(name, 0))
        elif word == "met":
            component, kind = data.decode().split()
            self.met[component, Kind(kind)] += 1
        elif word == "ended":
            self.ended += 1
        elif word == "judged":
            self.judged = True
        elif word == "operations":
            self.operations = pickle.loads(data)  # noqa: S301 - from our own child
        else:
            getattr(self, word).append(data.decode())


class _Life:
    """One process at work. ``number`` makes its entries differ from those of other lives."""

    def __init__(self, process: Process, report: Report, number: int) -> None:
        self._process = process
        self._report = report
        self._number = number
        self._envelope = b"an envelope of life %d" % number

    def run(self, batches: Sequence[int]) -> None:
        process = self._process
        self._try(process.publisher.recover)
        self._publish(process.journal.size())
        for turn, count in enumerate(batches):
            first = process.journal.size()
            numbers = [1000 * self._number + 10 * turn + place for place in range(count)]
            made = [entry(number) if turn else document_entry(number, self._envelope) for number in numbers]
            self._try(lambda made=made, turn=turn: self._append(made, documents=not turn))  # type: ignore[misc]
            self._publish(first)

    def _append(self, entries: Sequence[bytes], *, documents: bool) -> None:
        with self._process.journal.transaction() as transaction:
            if documents:
                transaction.add_document(hashlib.sha256(self._envelope).hexdigest(), self._envelope)
            indexes = [transaction.append(data) for data in entries]
        for index, data in zip(indexes, entries, strict=True):
            self._report("committed", index.to_bytes(8, "big") + hashlib.sha256(data).digest())

    def _publish(self, first: int) -> None:
        """Publish all there is, then hand out the receipts from ``first`` on, each verified as a client does."""
        publisher = self._process.publisher
        while self._try(publisher.publish_once):
            pass
        for index in range(first, self._try(self._process.journal.size)):
            receipt = self._try(lambda index=index: publisher.wait(index, 0))  # type: ignore[misc]
            self._report("released", index.to_bytes(8, "big") + hashlib.sha256(receipt.entry).digest())
            if publisher.at_hand(index) not in (None, receipt):
                self._report("broken", b"the receipt that is at hand is another one")
            try:
                proven = verify(receipt, POLICY).index
            except CustodyError as error:
                self._report("broken", f"a receipt does not verify: {error.message}".encode())
            else:
                if proven != index:
                    self._report("broken", b"a receipt is that of another entry")

    def _try(self, action: Callable[[], _T]) -> _T:
        """Do it again while that may help, as the publisher's thread and callers do."""
        for attempt in range(2 * _PATIENCE):
            if attempt == _PATIENCE:
                self._process.cure()
            try:
                return action()
            except UnavailableError:
                if self._process.publisher.failed is not None:
                    raise
        return action()


def grow(place: Path, report: Report) -> None:
    """Make the template of a log that has grown."""
    process = Process(place, {}, Random(0), report)
    process.start()
    process.publisher.recover()
    with process.journal.transaction() as transaction:
        for number in range(GROWN):
            transaction.append(entry(number))
    while process.publisher.publish_once():
        pass
    process.end()


def live(place: Path, plan: Plan, number: int, seed: int, report: Report) -> None:
    """Live once; a fault may end the process before its end."""
    process = Process(place, plan, Random(seed), report)
    try:
        process.start()
        _Life(process, report, number).run(_BATCHES)
    except CustodyError as error:
        report("refused", f"{type(error).__name__}: {error.message}".encode())
    report("operations", pickle.dumps({name: tuple(tap.names) for name, tap in process.taps.items()}))
    process.end()


def outlive(place: Path, facts: Facts, number: int, report: Report) -> None:
    """Start once more, without faults, and require every promise that was made before."""
    published = _size(place / "broker/log/checkpoint")
    for index in facts.released:
        if index >= published:
            report("broken", f"entry {index} was released, and the published log has {published} entries".encode())
    for name, size in dict(facts.cosigned).items():  # who listens to the children may learn of another now
        if size > _size(place / name / origin_hash(ORIGIN)):
            report("broken", f"witness {name} has cosigned size {size} and does not remember it".encode())
    later = Facts()
    process = Process(place, {}, Random(0), later.take)
    process.start()
    _Life(process, later.take, number).run([1])
    log = place / "broker/log"
    entries = read_log(log)
    for word, told in (("released", facts.released), ("committed", facts.committed)):
        for index, digest in told.items():
            if index >= len(entries) or hashlib.sha256(entries[index]).digest() != digest:
                report("broken", f"entry {index} was {word} and is not in the log".encode())
    tree = MemoryTree([leaf_hash(data) for data in entries])
    kept = {path.read_bytes() for path in (log / "checkpoints").glob("[0-9]*")}
    for note in kept | facts.seen | later.seen:
        shown = Checkpoint.parse(Note.parse(note).text)
        if shown.size > tree.size or tree.root(shown.size) != shown.root:
            report("broken", f"fork: somebody was shown another tree of size {shown.size}".encode())


def _size(path: Path) -> int:
    try:
        return Checkpoint.parse(Note.parse(path.read_bytes()).text).size
    except FileNotFoundError:
        return 0
