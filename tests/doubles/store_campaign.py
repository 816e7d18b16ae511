"""Reading through a store that goes wrong: every kind of fault alone, lasting, and with every other, by a seed.

Each run reads one sealed file in one of three ways, through a proxy in front of a real S3 server:

* ``read`` and ``download``: a job in direct mode, its own code from the signed URL to the buffer or the file;
* ``stream``: a broker's reading of segments for a session, and the job's check of each.

What must hold: the sealer's bytes come out, or one clear error does in time and the buffer is zeros; what a resend
mends is mended, what was altered is refused; no redirect is followed and no URL is in a message; and afterwards, when
the store is well again, the same reader goes on to the end.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final, cast

from custody.adapters.http_pool import HttpPool
from custody.adapters.store_s3 import S3Store
from custody.adapters.surroundings import Surroundings
from custody.broker.reading import fetch_segments, read_digests, read_segment
from custody.broker.sessions import Session
from custody.client.direct import DirectFile
from custody.client.download import Wanted, download
from custody.client.parts import PART
from custody.errors import CustodyError
from custody.segments.open import SegmentChecker
from custody.segments.streams import ignore_progress, still_wanted
from custody.wire.messages import PlaceReply
from tests.doubles.faulty_proxy import Fault, FaultyProxy
from tests.doubles.sealed import Sealed, seal

__all__ = ["Campaign", "Run", "Violation", "plan"]

SEGMENT: Final = 4096
SIZE: Final = 9 * SEGMENT + 77
WAYS: Final = ("read", "download", "stream")
_TIMEOUT: Final = 0.15  # seconds without a byte
_LIMIT: Final = 30.0  # seconds that a run may take on a busy machine; without a deadline it would take for ever
_REFUSED: Final = frozenset({Fault.FLIPPED, Fault.FORGED, Fault.CHANGED, Fault.ELSEWHERE})
"""No resend mends them, or should."""
_EITHER: Final = frozenset({Fault.LYING_RANGE})
"""Noticed by the length, where it was cut off at an end of the object; by tag or digest otherwise."""
_HARMLESS: Final = frozenset({Fault.LATE, Fault.SLOW, Fault.STALE})


@dataclass(frozen=True)
class Run:
    """A way of reading, and which request meets which fault; a lasting one meets all that follow as well."""

    seed: int
    way: str
    faults: tuple[tuple[Fault, int], ...]
    lasting: bool

    def __str__(self) -> str:
        what = ", ".join(f"{fault.name} at request {at}" for fault, at in self.faults)
        return f"seed {self.seed}: {self.way}: {what}{' and ever after' if self.lasting else ''}"


@dataclass(frozen=True)
class Violation:
    """What did not hold in which run."""

    run: Run
    what: str


def plan(seed: int) -> Iterator[Run]:
    """Every fault alone in each way, once; lasting; and each pair of faults in one of the ways."""
    rng = Random(seed)
    numbers = iter(range(seed * 10_000, (seed + 1) * 10_000))

    def at(way: str, fault: Fault) -> tuple[Fault, int]:
        # First come digest list and header; a broker asks for the size of both. Of these two nothing can be forged.
        ranges = (2, 4, 5, 6, 7) if way == "stream" else (1, 2, 3, 4, 5, 6)
        return fault, rng.choice(ranges[2:] if fault is Fault.FORGED else ranges)

    for fault in Fault:
        for way in WAYS:
            yield Run(next(numbers), way, (at(way, fault),), lasting=False)
        way = rng.choice(WAYS)
        yield Run(next(numbers), way, (at(way, fault),), lasting=True)
    for first, second in combinations(Fault, 2):
        way = rng.choice(WAYS)
        pair = [at(way, first), at(way, second)]
        rng.shuffle(pair)
        yield Run(next(numbers), way, tuple(pair), lasting=False)


class Campaign:
    """Runs against one store, seen through one proxy. ``folder`` is for downloads."""

    def __init__(self, store: S3Store, proxy: FaultyProxy, folder: Path) -> None:
        self.violations: list[Violation] = []
        self.outcomes: Counter[str] = Counter()
        self.met: Counter[Fault] = Counter()
        self.runs = 0
        self._store = store
        self._proxy = proxy
        self._folder = folder
        self._data = Random(0).randbytes(SIZE)
        self._sealed = seal(self._data, Random(1).randbytes, segment=SEGMENT)
        proxy.choose = lambda: None
        proxy.forged = bytes(seal(self._data[::-1], Random(1).randbytes, segment=SEGMENT).ciphertext)
        store.put_new(self._sealed.plan.ciphertext_key, bytes(self._sealed.ciphertext))
        store.put_new(self._sealed.plan.digests_key, bytes(self._sealed.digests))

    def go(self, runs: Sequence[Run]) -> None:
        """Run them all; none stops the others."""
        for run in runs:
            self.runs += 1
            with _Reader.of(run, self._sealed, self._store, self._folder / str(run.seed)) as reader:
                self._judge(run, reader)
            shutil.rmtree(self._folder / str(run.seed), ignore_errors=True)

    def report(self) -> str:
        """Seeds, faults, violations in a line each."""
        lines = [f"store campaign: {self.runs} runs, {self.met.total()} faults met, {dict(self.outcomes)}"]
        lines += [f"violation: {item.run}: {item.what}" for item in self.violations]
        return "\n".join(lines)

    def _judge(self, run: Run, reader: "_Reader") -> None:
        proxy = self._proxy
        proxy.begin(_script(run))
        before, followed = Counter(proxy.served), proxy.followed
        begin = time.monotonic()
        try:
            wrong, error = reader.attempt(self._data)
        except Exception as stray:  # noqa: BLE001 - whatever is not one of ours is a finding
            wrong, error = f"{type(stray).__name__} came out: {stray}", None
        took = time.monotonic() - begin
        proxy.begin(lambda: None)
        met = {fault for fault in Fault if proxy.served[fault] > before[fault]}
        self.met.update(met)
        self.outcomes["refused" if error else "read"] += 1
        found = [wrong, _told(error), _expected(run, met, refused=error is not None)]
        if took > _LIMIT:
            found.append(f"it took {took:.0f} s")
        if proxy.followed != followed:
            found.append("a redirect was followed")
        if error and not any(found):
            wrong, error = reader.attempt(self._data)
            found.append(wrong or f"afterwards, with nothing wrong: {error}" * (error is not None))
        self.violations += [Violation(run, what) for what in found if what]


def _script(run: Run) -> Callable[[], Fault | None]:
    number = 0

    def choose() -> Fault | None:
        nonlocal number
        number += 1
        for fault, at in run.faults:
            if number == at or (run.lasting and number > at):
                return fault
        return None

    return choose


def _told(error: CustodyError | None) -> str:
    if error is None:
        return ""
    text = f"{error.message}{error.hint}"
    return "" if "\n" not in text and "X-Amz" not in text and "http:" not in text else f"not one clear line: {text}"


def _expected(run: Run, met: set[Fault], *, refused: bool) -> str:
    if met & _REFUSED and not refused:
        return "what was altered came through"
    mends = met <= _HARMLESS if run.lasting else not met & (_REFUSED | _EITHER)
    return "refused, though trying again mends it" if mends and refused else ""


_Outcome = tuple[str, CustodyError | None]
"""What is wrong with what came out, and the error instead of it."""


class _Reader:
    """One reader of the file, which can be asked again when it has failed."""

    def __init__(self, sealed: Sealed, folder: Path) -> None:
        self._sealed = sealed
        self._folder = folder

    @classmethod
    @contextmanager
    def of(cls, run: Run, sealed: Sealed, store: S3Store, folder: Path) -> Iterator["_Reader"]:
        # Time passes faster, so that patience is short: but not where all can be mended, even on a busy machine.
        faster = (30 if run.lasting else 5) * (4 if run.way == "stream" else 1)
        around = Surroundings(
            lambda: int(time.time()),
            Random(run.seed).randbytes,
            monotonic=lambda: faster * time.monotonic(),
            sleep=lambda seconds: time.sleep(seconds / 50),
        )
        with ExitStack() as stack:
            pool = HttpPool(timeout=_TIMEOUT)
            stack.callback(pool.close)
            kinds: dict[str, type[_Reader]] = {"read": _Read, "download": _Download, "stream": _Stream}
            reader = kinds[run.way](sealed, folder)
            reader.begin(stack, around, store, pool)
            yield reader

    def begin(self, stack: ExitStack, around: Surroundings, store: S3Store, pool: HttpPool) -> None:
        raise NotImplementedError

    def attempt(self, data: bytes) -> _Outcome:
        """Read all."""
        raise NotImplementedError


class _Read(_Reader):
    """A job in direct mode that fills a buffer."""

    def begin(self, stack: ExitStack, around: Surroundings, store: S3Store, pool: HttpPool) -> None:
        plan = self._sealed.plan
        blobs = [store.pin(key) for key in (plan.ciphertext_key, plan.digests_key)]
        self._live: Any = SimpleNamespace(
            content=SimpleNamespace(files=[self._sealed.content]),
            digest_key=lambda _: self._sealed.digest_key,
            file_key=lambda _: self._sealed.file_key,
            locate=lambda *_: PlaceReply("", *(store.presign_get(blob, 60) for blob in blobs)),
            patience=15.0,
            pool=pool,
            around=around,
            require_open=still_wanted,
        )
        self._stack = stack
        self._file: DirectFile | None = None

    def attempt(self, data: bytes) -> _Outcome:
        out = bytearray(b"?" * len(data))
        try:
            self.opened().read_into(0, memoryview(out))
        except CustodyError as error:
            begun = self._file is not None
            clean = out == (bytes(len(out)) if begun else b"?" * len(out))
            return "" if clean else "the buffer was not wiped", error
        return "" if out == data else "wrong bytes", None

    def opened(self) -> DirectFile:
        if self._file is None:
            self._file = DirectFile(self._live, self._sealed.plan)
            self._stack.callback(self._file.close)
        return self._file


class _Download(_Read):
    """The same to a file; what is there counts as far as it is right."""

    def attempt(self, data: bytes) -> _Outcome:
        self._folder.mkdir(exist_ok=True)
        target = self._folder / self._sealed.plan.path
        try:
            plan = self._sealed.plan
            download(
                [Wanted(plan.path, plan.size, partial(DirectFile, self._live, plan))],
                self._folder,
                progress=ignore_progress,
                present=ignore_progress,
                fetched=lambda _path, _there: None,
            )
        except CustodyError as error:
            return "a file that was refused has its name" if target.exists() else "", error
        if target.with_name(target.name + PART).exists():
            return "a part is left", None
        return "" if target.read_bytes() == data else "wrong bytes", None


class _Stream(_Reader):
    """A broker that reads for a session, and the job's check of each segment that it serves."""

    def begin(self, stack: ExitStack, around: Surroundings, store: S3Store, pool: HttpPool) -> None:
        sealed = self._sealed
        store._around, store._http = around, pool
        keys = SimpleNamespace(file_key=sealed.file_key)
        self._context: Any = SimpleNamespace(
            ledger=SimpleNamespace(clock=around.clock),
            vault=SimpleNamespace(file_keys=lambda *_: keys),
            store=store,
        )
        files = (SimpleNamespace(first=0, last=0),)
        job = SimpleNamespace(spiffe="spiffe://example.org/job")
        document: Any = SimpleNamespace(lease="", workload=job, files=files, xwing=None, bytes=1 << 40)
        content: Any = SimpleNamespace(
            vid=sealed.plan.vid.hex(),
            segment=SEGMENT,
            files=[SimpleNamespace(size=sealed.plan.size, path=sealed.plan.path)],
        )
        self._session = Session(
            document, digest="", request="", content=content, entry=cast("Any", None), not_after=1 << 40
        )
        stack.callback(self._session.end)

    def attempt(self, data: bytes) -> _Outcome:
        sealed, checker = self._sealed, None
        for i in range(0, sealed.plan.count, 4):
            run = range(i, min(i + 2, sealed.plan.count))
            out = bytearray(b"?" * sealed.plan.locate(i).length)
            try:
                if checker is None:
                    digests = b"".join(read_digests(self._context, self._session, 0))
                    checker = SegmentChecker(sealed.plan, sealed.digest_key, digests, sealed.content.digests)
                # As streams read a store that is waited for, and as the first segment would be without.
                fetched = fetch_segments(self._context, self._session, 0, run) if i % 8 else None
                size = read_segment(self._context, self._session, 0, i, memoryview(out), fetched=fetched)
                checker.check(i, memoryview(out)[:size])
            except CustodyError as error:
                clean = out in (bytes(len(out)), b"?" * len(out))
                return "" if clean else "the buffer was not wiped", error
            if out != data[i * SEGMENT :][: len(out)]:
                return "wrong bytes", None
        return "", None
