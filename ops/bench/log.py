#!/usr/bin/env python3
"""Measures the log: entries sequenced a second, receipts a second over gRPC, and how long one receipt takes.

Usage: ops/bench/log.py [--entries N] [--seconds S] [--directory DIR]

    receipts    64 callers, each with a connection of its own, who want the receipt of a signed entry; all of them
                in one process, which costs as little as gRPC lets it: they stand for machines elsewhere
    latency     one caller who asks now and then
    sequenced   appended to the ledger 256 at a time, tiled, signed, and cosigned by two witnesses

Everything is durable and real: SQLite, a directory, two witnesses and the broker in processes of their own, mTLS. The
callers share the machine. Exit code 1 when a figure misses its target.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from msgspec import structs

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from custody.adapters.ledger import open_journal  # noqa: E402 - found by the line above
from custody.adapters.store_local import LocalStore  # noqa: E402
from custody.adapters.witness_http import HttpWitness  # noqa: E402
from custody.crypto.sodium import random_into  # noqa: E402
from custody.documents.root import Root  # noqa: E402
from custody.publishing.publisher import Publisher  # noqa: E402
from custody.tlog.note import ED25519, NoteSigner, VKey  # noqa: E402
from custody.tlog.policy import Group, LogKey, Policy, Witness  # noqa: E402
from custody.wire.messages import receipt_from  # noqa: E402
from custody.wire.tls import channel_credentials  # noqa: E402
from custody.wire.v1 import broker_pb2 as pb  # noqa: E402
from custody.wire.v1.broker_pb2_grpc import BrokerStub  # noqa: E402
from custody.witness.serve import generate_key  # noqa: E402
from ops.bench.rows import processor_seconds  # noqa: E402
from tests.doubles.site import PERSONS, Site  # noqa: E402
from tests.unit.publishing.world import entry  # noqa: E402

CALLERS = 64
BATCH = 256
SEQUENCED, RECEIPTS, LATENCY = 10_000, 500, 60  # entries a second, receipts a second, milliseconds
ORIGIN = "bench.example/log"
_UNLIMITED = "[listen]\nhellos-per-minute = 10000000\n"  # hellos stand for all that wants a receipt


def rng(size: int) -> bytes:
    """Return random bytes."""
    buffer = bytearray(size)
    random_into(memoryview(buffer))
    return bytes(buffer)


@dataclass
class OurWitness:
    """A witness: its name in the policy, and where its key and its memory lie."""

    name: str
    place: Path
    url: str = ""
    process: int = 0

    def __post_init__(self) -> None:
        """Make its key."""
        self.place.mkdir()
        secret, public = generate_key(f"{self.name}.example/witness", rng)
        (self.place / "key").write_text(secret)
        (self.place / "key").chmod(0o600)
        self.vkey = VKey.parse(public.strip())

    @contextmanager
    def running(self, log: Path) -> Iterator[None]:
        """Run it for the log whose vkey stands in a file."""
        command = [sys.executable, "-m", "custody.cli", "witness", "serve", "--key", str(self.place / "key")]
        command += ["--state", str(self.place / "state"), "--log", str(log), "--listen", "127.0.0.1:0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(  # noqa: S603 - our own program
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                self.url = (process.stdout or sys.stdin).readline().split()[-1]
                self.process = process.pid
                yield
            finally:
                process.terminate()


def all_of(log: VKey, keys: Mapping[str, VKey]) -> Policy:
    """Return the policy that wants every witness."""
    named = tuple(Witness(name, vkey) for name, vkey in keys.items())
    return Policy((LogKey(log),), named, (Group("all-of-them", len(named), tuple(keys)),), "all-of-them")


def sequenced(directory: Path, entries: int) -> float:
    """Sequence and publish entries; return how many a second."""
    signer = NoteSigner(ORIGIN, ED25519, rng(32))
    (directory / "log.vkey").write_text(f"{signer.vkey.encode()}\n")
    (directory / "log").mkdir()
    made = [entry(number) for number in range(entries)]
    journal = open_journal(f"sqlite:///{directory}/ledger", rng(32), ORIGIN)
    witnesses = [OurWitness(name, directory / name) for name in ("w1", "w2")]
    policy = all_of(signer.vkey, {one.name: one.vkey for one in witnesses})
    with ExitStack() as stack:
        for one in witnesses:
            stack.enter_context(one.running(directory / "log.vkey"))
        clients = [HttpWitness(one.name, one.vkey, one.url, timeout=30) for one in witnesses]
        publisher = Publisher(
            journal,
            LocalStore(directory / "log"),
            signer,
            policies=lambda _old, _new: [policy],
            witnesses=lambda: clients,
            clock=lambda: int(time.time()),
        )
        publisher.recover()
        publisher.start()
        began = time.perf_counter()
        for start in range(0, entries, BATCH):
            with journal.transaction() as transaction:
                for data in made[start : start + BATCH]:
                    transaction.append(data)
            publisher.notify(transaction.size)
        publisher.wait(entries - 1, 600)
        seconds = time.perf_counter() - began
        publisher.stop()
        journal.close()
    return entries / seconds


@dataclass
class BenchSite(Site):
    """A deployment with a second witness, both of which must cosign."""

    def make_root(self) -> Root:
        """Name both witnesses."""
        self.second = OurWitness("w2", self.directory / "w2")
        policy = all_of(self.created.log, {"witness-1": self.created.witness, "w2": self.second.vkey})
        return structs.replace(super().make_root(), witness_policy=tuple(policy.encode().decode().splitlines()))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run all of it."""
        self.make()
        with self.second.running(self.directory / "keys/log.vkey"):
            self.start_witness()
            self.configure(lambda text: text.replace("[listen]\n", _UNLIMITED) + f'\nw2 = "{self.second.url}"\n')
            self.start_broker()
            try:
                yield
            finally:
                for name in list(self.processes):
                    self.stop(name)


def prepared(site: Site, count: int) -> Mapping[str, Iterator[bytes]]:
    """Sign what the callers will say: that would be work on other machines."""
    return {person: iter([site.hello(person).encode() for _ in range(count // len(PERSONS))]) for person in PERSONS}


async def receipts(site: Site, said: Mapping[str, Iterator[bytes]], seconds: float) -> tuple[float, list[float]]:
    """Let the callers call for so long; return receipts a second and how long each call took."""
    begin, took = asyncio.Event(), list[float]()

    async def call(person: str) -> None:
        options = [("grpc.ssl_target_name_override", "broker-1.custody"), ("grpc.use_local_subchannel_pool", 1)]
        credentials = channel_credentials(site.tls(f"tls/{person}"))
        async with grpc.aio.secure_channel(site.address, credentials, options) as channel:
            hello = BrokerStub(channel).Hello
            await channel.channel_ready()
            await begin.wait()
            for envelope in said[person]:
                asked = time.perf_counter()
                receipt_from(await hello(pb.Envelope(envelope=envelope), timeout=30))
                took.append(time.perf_counter() - asked)

    callers = [asyncio.create_task(call(PERSONS[number % len(PERSONS)])) for number in range(CALLERS)]
    await asyncio.sleep(2)  # connections are made
    started = time.perf_counter()
    begin.set()
    ended, _ = await asyncio.wait(callers, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for caller in ended:
        caller.result()  # it has failed, or had too little to say
    count, elapsed = len(took), time.perf_counter() - started
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    return count / elapsed, took[:count]


def latency(site: Site, calls: int) -> list[float]:
    """One caller asks now and then."""
    took = []
    with site.calls("alice") as alice:
        alice.hello(site.hello("alice"))
        for _ in range(calls):
            envelope = site.hello("alice")
            time.sleep(0.05)
            started = time.perf_counter()
            alice.hello(envelope)
            took.append(time.perf_counter() - started)
    return took


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--directory", type=Path, help="where the disk is that is measured (default: the system's own)")
    options = parser.parse_args()
    fine = True

    def show(name: str, value: float, unit: str, target: float, holds: Callable[[float], bool]) -> None:
        nonlocal fine
        fine = fine and holds(value)
        print(f"{name:<10} {value:>10,.0f} {unit:<12} target {target:,.0f}{'' if holds(value) else '   MISSED'}")

    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        place = Path(folder)
        site = BenchSite(place / "site")
        with site.running():
            quiet = latency(site, 60)
            said = prepared(site, int(options.seconds * 2 * RECEIPTS))
            parts = {
                "broker": site.processes["broker"].pid,
                "one witness": site.processes["witness"].pid,
                "the other": site.second.process,
                "callers": os.getpid(),
            }
            before = {part: processor_seconds(process) for part, process in parts.items()}
            rate, took = asyncio.run(receipts(site, said, options.seconds))
            used = {part: processor_seconds(process) - before[part] for part, process in parts.items()}
        show("receipts", rate, "receipts/s", RECEIPTS, lambda value: value >= RECEIPTS)
        shares = ", ".join(f"{part} {1000 * spent / len(took):.2f}" for part, spent in used.items())
        print(f"{'':<10} {1000 * statistics.median(took):>10,.0f} ms median under that load")
        print(f"{'':<10} processor milliseconds a receipt: {shares}")
        show("latency", 1000 * statistics.median(quiet), "ms median", LATENCY, lambda value: value <= LATENCY)
        # Last, since it deletes thousands of partial tiles: ext4 without a journal then looks past each of them, for
        # minutes, wherever it makes a file (ADR 1).
        (place / "sequence").mkdir()
        rate = sequenced(place / "sequence", options.entries)
        show("sequenced", rate, "entries/s", SEQUENCED, lambda value: value >= SEQUENCED)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
