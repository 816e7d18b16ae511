"""A whole deployment of real parts for tests: broker and witness as processes, mTLS, SQLite, a directory as store.

Not a double: only the persons' keys are made without Argon2, since a test needs many of them and no passphrase. Broker
and witness are forked from a process that has imported them (``warm``), or, where it matters that they start from
nothing, started by Python (``cold``).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from cryptography.hazmat.primitives import serialization
from msgspec.structs import replace

from custody.app.broker_config import template
from custody.app.ca import Authority, load_authority
from custody.app.deployment import Created, create_deployment
from custody.crypto.keyfile import UnlockedKey
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import random_into
from custody.documents.dsse import Envelope, sign
from custody.documents.root import BrokerKey, Device, Group, Log, NamedPerson, Owner, Root, Roster, Sealer
from custody.values import U64, Time
from custody.wire.tls import TlsFiles
from tests.doubles import warm
from tests.doubles.ports import own_ports

PERSONS = ("alice", "bob", "carol", "dave", "olga")
DOMAIN = "example.org"
DEPLOYMENT = "custody.example.org/test"
JOB = f"spiffe://{DOMAIN}/job/serving"
VERSION = "demo/model@1"


def rng(size: int) -> bytes:
    return os.urandom(size)


def now() -> int:
    return int(time.time())


@dataclass
class DeviceSigner:
    """A person's device as documents know it."""

    key: UnlockedKey

    @property
    def key_id(self) -> str:
        return self.key.key_id.hex()

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


@dataclass(frozen=True)
class Server:
    """A broker or witness that runs, and what it says on standard output."""

    process: "subprocess.Popen[bytes] | warm.Warm"
    said: IO[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int) -> None:
        """Send a signal, and wait for the end."""
        self.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.said.close()


@dataclass
class Deployment:
    """One deployment; as a context manager it runs."""

    directory: Path
    rosters: Sequence[Roster] | None = None
    address: str = field(default_factory=lambda: f"127.0.0.1:{own_ports(1)[0]}")
    witness_port: int = field(default_factory=lambda: own_ports(1)[0])
    change_root: Callable[[Root], Root] = lambda root: root
    change_config: Callable[[str], str] = lambda text: text
    keys: dict[str, UnlockedKey] = field(default_factory=dict)
    processes: dict[str, Server] = field(default_factory=dict)
    cold: bool = False

    def __enter__(self) -> Self:
        self.make()
        self.start_witness()
        self.configure()
        self.start_broker()
        return self

    def __exit__(self, *_: object) -> None:
        for name in sorted(self.processes):  # the broker first: its end is witnessed
            self.stop(name)

    # -- making it

    def make(self) -> None:
        self.created: Created = create_deployment(
            self.directory,
            DEPLOYMENT,
            trust_domain=DOMAIN,
            ca_directory=None,
            rng=rng,
            random_into=random_into,
            clock=now,
        )
        for person in PERSONS:
            self.keys[person] = UnlockedKey(SecretBytes.random(32, random_into), SecretBytes.random(32, random_into))
        self.authority: Authority = load_authority(self.directory / "ca")
        self.root = self.change_root(self.make_root())
        self.root_envelope = sign(self.root, [self.signer(person) for person in PERSONS])  # genesis, for ever
        self.roots = [self.root_envelope]
        (self.directory / "keys/root.json").write_bytes(self.root_envelope.encode())
        self.issue(f"spiffe://{DOMAIN}/broker/broker-1", "broker/tls", dns=("broker-1.custody",))
        for person in PERSONS:
            self.issue(f"spiffe://{DOMAIN}/person/{person}", f"tls/{person}")
        self.issue(JOB, "tls/job")
        (self.directory / "store").mkdir()

    def make_root(self) -> Root:
        members = ("alice", "bob", "carol")
        group = Group(name="owners", threshold=2, members=members)
        rosters = self.rosters or (
            Roster(name="custodians", guards=("*",), groups=(group,), release="with-decision", cool_off=U64(0)),
        )
        governance = Roster(name="governance", guards=(), groups=(group,), release="with-decision", cool_off=U64(0))
        ca = (self.directory / "keys/ca.pem").read_bytes()
        from cryptography import x509

        der = x509.load_pem_x509_certificate(ca).public_bytes(serialization.Encoding.DER)
        return Root(
            deployment=DEPLOYMENT,
            epoch=U64(0),
            previous=None,
            created=Time(now()),
            persons=tuple(
                NamedPerson(
                    id=person,
                    name=person.title(),
                    identity=f"spiffe://{DOMAIN}/person/{person}",
                    devices=(
                        Device(
                            name="laptop",
                            ed25519=self.keys[person].ed25519_public,
                            xwing=self.keys[person].xwing_public,
                        ),
                    ),
                )
                for person in PERSONS
            ),
            rosters=(governance, *rosters),
            brokers=(
                BrokerKey(
                    id="broker-1",
                    identity=f"spiffe://{DOMAIN}/broker/broker-1",
                    ed25519=self.created.broker_key,
                ),
            ),
            log=Log(vkey=self.created.log.encode(), predecessor=None),
            witness_policy=tuple((self.directory / "keys/witness.policy").read_text().splitlines()),
            trust_domain=DOMAIN,
            spiffe_roots=(der,),
            sealers=(Sealer(sealer="dave", names=("*",)),),
            owners=(Owner(workload=f"spiffe://{DOMAIN}/job/*", persons=("olga",)),),
            policy=self.created.policy_digest,
        )

    def issue(self, identity: str, folder: str, *, dns: Sequence[str] = (), hours: float = 1.0) -> TlsFiles:
        self.authority.issue(identity, self.directory / folder, hours=hours, dns=dns, now=now())
        return self.tls(folder)

    def tls(self, folder: str) -> TlsFiles:
        place = self.directory / folder
        return TlsFiles(place / "tls.crt", place / "tls.key", place / "ca.pem")

    def configure(self, change: Callable[[str], str] | None = None) -> Path:
        text = template(
            deployment=DEPLOYMENT,
            genesis=self.root_envelope.digest,
            broker="broker-1",
            address=self.address,
            witnesses={"witness-1": f"http://127.0.0.1:{self.witness_port}"},
        )
        later = "".join(f', "../keys/root-{epoch}.json"' for epoch in range(1, len(self.roots)))
        text = text.replace('"../keys/root.json"', f'"../keys/root.json"{later}')
        text = text.replace("[listen]\n", "[listen]\nrequests-per-minute = 60000\n")  # many tests are one person
        path = self.directory / "broker/broker.toml"
        path.write_text((change or self.change_config)(text))
        return path

    def next_root(self, **changes: object) -> Root:
        """The root that would follow the one in force, changed."""
        following = {"epoch": U64(len(self.roots)), "previous": self.roots[-1].digest, "created": Time(now())}
        return replace(self.root, **(following | changes))

    def replace_root(self, root: Root, *signers: str) -> Envelope:
        """Bring a root into force: signed, configured, and the broker started again."""
        self.root, envelope = root, sign(root, [self.signer(person) for person in signers])
        (self.directory / f"keys/root-{root.epoch}.json").write_bytes(envelope.encode())
        self.roots.append(envelope)
        self.stop("broker")
        self.configure()
        self.start_broker()
        return envelope

    def signer(self, person: str) -> DeviceSigner:
        return DeviceSigner(self.keys[person])

    # -- running it

    def start_witness(self) -> None:
        self._start(
            "witness",
            [
                *("witness", "serve", "--key", "witness/witness.key", "--state", "witness/state"),
                *("--log", "keys/log.vkey", "--listen", f"127.0.0.1:{self.witness_port}"),
            ],
        )

    def start_broker(self) -> None:
        self._start("broker", ["broker", "serve", "--config", "broker/broker.toml"])

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        if (server := self.processes.pop(name, None)) is not None:
            server.end(number)

    def restart_broker(self, number: int = signal.SIGKILL) -> None:
        self.stop("broker", number)
        self.start_broker()

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Let a process hang: it keeps its connections and answers nothing."""
        self.processes[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes[name].send_signal(signal.SIGCONT)

    def errors(self, name: str) -> str:
        return (self.directory / f"{name}.err").read_text()

    def _start(self, name: str, words: list[str]) -> None:
        reader, writer = os.pipe()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with Path(os.devnull).open("rb") as nothing, (self.directory / f"{name}.err").open("a") as errors:
            process: subprocess.Popen[bytes] | warm.Warm
            if self.cold:
                command = [sys.executable, "-m", "custody.cli", *words]
                process = subprocess.Popen(
                    command, cwd=self.directory, stdin=nothing, stdout=writer, stderr=errors, env=environment
                )
            else:
                numbers = {0: nothing.fileno(), 1: writer, 2: errors.fileno()}
                process = warm.start(words, self.directory, environment, numbers)
        os.close(writer)
        self.processes[name] = Server(process, os.fdopen(reader))
        if not self.processes[name].said.readline():
            process.wait(10)
            self.stop(name)
            raise AssertionError(f"{name} did not start:\n{self.errors(name)}")


def children(pid: int) -> list[int]:
    """A process and all below it; the kernel lists children by the thread that started them. Any may end meanwhile."""
    found, listed = [pid], []
    with suppress(FileNotFoundError, ProcessLookupError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                listed += path.read_text().split()
    for child in listed:
        found += children(int(child))
    return found


def impatient(text: str) -> str:
    """A configuration with short timeouts: a witness has one second, and callers wait for the log for two."""
    return text.replace("witness-timeout = 5 ", "witness-timeout = 1 ").replace("-timeout = 10 ", "-timeout = 2 ")


def write_model(folder: Path, sizes: Mapping[str, int]) -> Path:
    """A folder of files with bytes that differ everywhere."""
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return folder
