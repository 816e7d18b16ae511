"""The audit of a large log: writes one that keeps every rule, and times what ``custody log verify`` does with it.

    python ops/bench/log_audit.py --entries 1000000

Of 499 entries 490 are the intents and outcomes of 245 sessions; nine are what leads to them (a request, two decisions,
two releases, the grant, the opening) and the close. Every signature is real: each session has its own document, signed
with the P-256 key of an SVID that opens ``--per-certificate`` sessions; a checkpoint with two cosignatures stands after
every ``--batch`` entries. Documents lie as a broker publishes them.

Timed, each in a process of its own with its largest memory: hashes and structure alone; everything; then, with the
memory of that run, an increment of one lease.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from custody.adapters.home import Home  # noqa: E402 - after the path is set
from custody.app.auditing import Audit, audit, open_log  # noqa: E402
from custody.audit.report import Report  # noqa: E402
from custody.documents.dsse import Envelope, Signature, pae  # noqa: E402
from custody.documents.request import Range  # noqa: E402
from custody.documents.session import OpenSession  # noqa: E402
from custody.entries.entry import DocumentRef, Entry, FileBytes, Parent, Party  # noqa: E402
from custody.entries.stored import large_documents  # noqa: E402
from custody.publishing.tree import DocumentWriter, TreeWriter  # noqa: E402
from custody.tlog.checkpoint import Checkpoint  # noqa: E402
from custody.tlog.merkle import leaf_hash  # noqa: E402
from custody.values import U64, Time  # noqa: E402
from tests.doubles.actors import Workload  # noqa: E402
from tests.doubles.world import JOB, World  # noqa: E402

__all__ = ["main"]

SESSIONS: Final = 245  # of a lease
LEASE: Final = 2 * SESSIONS + 9  # entries
_LIVE: Final = 7  # sessions at once
_CEILING: Final = 1000
_FILES: Final = (Range(first=U64(0), last=U64(2)),)


@dataclass(frozen=True, slots=True)
class Work:
    """The sessions of one lease, to be made by any process. ``fields`` are those that all of its entries share."""

    number: int
    start: int
    now: int
    batch: int
    per_certificate: int
    deployment: str
    grant: Parent
    intent: dict[str, Any]
    outcome: dict[str, Any]


Logged = tuple[bytes, Sequence[bytes]]
"""An entry, and the envelopes that it names."""

_world: World | None = None  # of a forked process: its parent made it


def _sessions(work: Work) -> Sequence[Logged]:
    """Make and sign the sessions of a lease; return the entries and what stands behind each."""
    if _world is None:
        raise RuntimeError("fork after the world is made")
    entries: list[Logged] = []
    live: deque[tuple[str, Parent]] = deque()
    jobs: list[Workload] = []
    for number in range(SESSIONS):
        if number % work.per_certificate == 0:
            jobs.append(_world.ca.issue(JOB, work.now - 60))
        now = Time(work.now)
        index = work.start + len(entries)
        session, entry, envelope = _intent(work, jobs[-1], f"{work.number}/{number}", now)
        data = entry.encode()
        entries.append((data, [envelope]))
        live.append((session, Parent(index=U64(index), leaf=leaf_hash(data).hex())))
        if len(live) == _LIVE or number == SESSIONS - 1:
            while live:
                session, parent = live.popleft()
                entries.append((_outcome(work, session, parent, now).encode(), []))
    return entries


def _intent(work: Work, job: Workload, name: str, now: Time) -> tuple[str, Entry, bytes]:
    document = OpenSession(
        deployment=work.deployment,
        lease=work.intent["terms"],
        files=_FILES,
        bytes=U64(_CEILING),
        nonce=hashlib.sha256(name.encode()).hexdigest(),
        xwing=None,
        workload=job.actor,
        issued=now,
    )
    payload, kind = document.encode(), OpenSession.payload_type
    signature = Signature(keyid=job.key_id, sig=job.sign(pae(kind, payload)))
    envelope = Envelope(payload=payload, payloadType=kind, signatures=(signature,))
    data = envelope.encode()
    reference = DocumentRef(kind="open", document=envelope.digest, envelope=hashlib.sha256(data).hexdigest())
    entry = Entry(
        type="session-intent",
        id=hashlib.sha256(b"intent" + name.encode()).hexdigest()[:32],
        time=now,
        actor=Party(id=JOB, credential=job.key_id),
        parent=work.grant,
        documents=(reference,),
        beneficiary=JOB,
        session=envelope.digest,
        files=_FILES,
        ceiling=U64(_CEILING),
        **work.intent,
    )
    return envelope.digest, entry, data


def _outcome(work: Work, session: str, parent: Parent, now: Time) -> Entry:
    return Entry(
        type="session-outcome",
        id=hashlib.sha256(b"outcome" + session.encode()).hexdigest()[:32],
        time=now,
        parent=parent,
        session=session,
        served=(FileBytes(file=U64(1), bytes=U64(_CEILING)),),
        outcome="ok",
        **work.outcome,
    )


class Builder:
    """A log in a directory that grows lease by lease, each in a second or several."""

    def __init__(self, directory: Path, *, batch: int, per_certificate: int) -> None:
        self.world = World(b"bench")
        self.directory = directory
        self._batch = batch
        self._per_certificate = per_certificate
        self._tree = TreeWriter()
        self._documents = DocumentWriter()
        (directory / "checkpoints").mkdir(parents=True)
        self._publish([], self.world.now)
        self.world.seal()
        self._taken = 0

    def grow(self, leases: int) -> None:
        """Add leases; their sessions are made on all cores."""
        global _world  # noqa: PLW0603 - what forked processes see of this one
        _world = self.world
        heads: deque[tuple[Sequence[Logged], Sequence[Logged], int]] = deque()
        with multiprocessing.get_context("fork").Pool() as pool:
            for made in pool.imap(_sessions, self._heads(leases, heads)):
                head, tail, now = heads.popleft()
                self._publish([*head, *made, *tail], now)

    def _heads(self, leases: int, heads: deque[tuple[Sequence[Logged], Sequence[Logged], int]]) -> Iterator[Work]:
        world = self.world
        for number in range(leases):
            world.tick(max(1, LEASE // self._batch))
            case = world.file(sessions=U64(SESSIONS), bytes=U64(SESSIONS * _CEILING))
            case.decide("alice")
            case.decide("bob")
            case.grant()
            case.open()
            head = self._new()
            found, state, start = case.found, world.state, world.state.size
            common = {"schema": "custody/entry/v1", "broker": "broker-1", "build": "b1" * 32}
            common |= {"root": state.root_digest, "policy": state.root.policy}
            common |= {"request": case.digest, "terms": case.lease}
            version = {"version": found.request.version, "content": found.request.content}
            state.size += 2 * SESSIONS
            found.begun, found.spent = SESSIONS, SESSIONS * _CEILING
            case.close("budget")
            heads.append((head, self._new(), world.now))
            if found.grant_entry is None:
                raise RuntimeError("not granted")
            yield Work(
                number=start + number,
                start=start,
                now=world.now,
                batch=self._batch,
                per_certificate=self._per_certificate,
                deployment=world.deployment,
                grant=found.grant_entry,
                intent=common | version,
                outcome=common,
            )

    def _new(self) -> Sequence[Logged]:
        """Return the entries that the world has logged since, and what stands behind each."""
        entries = self.world.log.entries[self._taken :]
        self._taken += len(entries)
        known = self.world.log.envelopes
        return [(entry.encode(), [known.pop(item.envelope).encode() for item in entry.documents]) for entry in entries]

    def _publish(self, entries: Sequence[Logged], now: int) -> None:
        for start in range(0, len(entries), self._batch) if entries else [0]:
            batch = entries[start : start + self._batch]
            full = self._tree.extend([data for data, _ in batch])
            full += self._documents.extend([documents for _, documents in batch])
            for path, data in large_documents(chain.from_iterable(documents for _, documents in batch)).items():
                self._store(path, data)
            for stored in full:
                self._store(stored.tile.path(), stored.data)
            text = Checkpoint(self.world.log_key.vkey.name, self._tree.size, self._tree.root()).encode()
            note = text + b"\n" + self.world.log_key.sign(text)
            note += b"".join(witness.sign(text, now) for witness in self.world.witnesses[:2])
            self._store(f"checkpoints/{self._tree.size}", note)
        for stored in [*self._tree.partial(), *self._documents.partial()]:
            self._store(stored.tile.path(), stored.data)
        self._store("checkpoint", note)

    def _store(self, name: str, data: bytes) -> None:
        path = self.directory / name
        with suppress(FileNotFoundError):
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _timed(log: Path, genesis: str, *options: str) -> dict[str, Any]:
    """Audit in a process of its own; return what it reports of itself."""
    command = [sys.executable, str(Path(__file__).resolve()), "--audit", str(log), "--genesis", genesis, *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this very script
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _audit(arguments: argparse.Namespace) -> None:
    begun = time.monotonic()
    how = Audit(
        Home(arguments.audit / "no-home"),
        genesis=arguments.genesis,
        state=arguments.state,
        directory=arguments.audit,
        structure=arguments.structure,
    )
    with open_log(arguments.audit, how.home) as source:
        report: Report = audit(source, how)
    seconds = time.monotonic() - begun
    if not report.ok:
        raise SystemExit(f"the log is not what it must be: {report.findings[:3]}")
    mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    figures = {
        "entries": report.size - report.begun,
        "seconds": round(seconds, 1),
        "per_second": round((report.size - report.begun) / seconds),
        "cpu_seconds": round(mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime, 1),
        "megabytes": mine.ru_maxrss // 1024,
        "worker_megabytes": theirs.ru_maxrss // 1024,
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures))


def main(argv: Sequence[str] | None = None) -> None:
    """Make a log and time its audit; print one line of JSON for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000, help="at least this many  [default: 100000]")
    parser.add_argument("--batch", type=int, default=100, help="entries of a checkpoint  [default: 100]")
    parser.add_argument("--per-certificate", type=int, default=5, help="sessions of one SVID  [default: 5]")
    parser.add_argument("--directory", type=Path, help="where to make the log, and to leave it")
    for hidden in ("--audit", "--state"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--genesis", help=argparse.SUPPRESS)
    parser.add_argument("--structure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.audit:
        _audit(arguments)
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary)
        begun = time.monotonic()
        builder = Builder(directory / "log", batch=arguments.batch, per_certificate=arguments.per_certificate)
        builder.grow(-(-arguments.entries // LEASE))
        genesis = builder.world.genesis.digest
        print(json.dumps({"made": round(time.monotonic() - begun, 1), "genesis": genesis}), flush=True)
        state = directory / "audit.state"
        for name, options in (("structure", ["--structure"]), ("full", ["--state", str(state)])):
            print(json.dumps({name: _timed(directory / "log", genesis, *options)}), flush=True)
        builder.grow(1)
        figures = _timed(directory / "log", genesis, "--state", str(state))
        print(json.dumps({"increment": figures | {"state_megabytes": state.stat().st_size >> 20}}), flush=True)


if __name__ == "__main__":
    main()
