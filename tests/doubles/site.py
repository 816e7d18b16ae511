"""A whole deployment of real parts for tests: broker and witness as processes, mTLS, SQLite, a directory as store.

Not a double: only the persons' keys are made without Argon2, since a test needs many of them and no passphrase.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import serialization

from custody.adapters.store import open_store
from custody.app.broker_config import template
from custody.app.ca import Authority, load_authority
from custody.app.deployment import Created, create_deployment
from custody.app.sealing import Sealed, Sealing, seal
from custody.app.source import scan
from custody.crypto import hpke, keys
from custody.crypto.keyfile import UnlockedKey
from custody.crypto.secret import SecretBytes
from custody.crypto.sodium import random_into
from custody.documents.actor import Person, Workload
from custody.documents.decision import Decision, Verdict
from custody.documents.dsse import Document, Envelope, sign
from custody.documents.hello import Hello
from custody.documents.release import Recipient, Release, ReleaseKey
from custody.documents.request import Request, ranges_of
from custody.documents.root import BrokerKey, Device, Group, Log, NamedPerson, Owner, Root, Roster, Sealer
from custody.documents.session import OpenSession
from custody.documents.sharing import Sharing
from custody.documents.stop import Stop
from custody.documents.terms import Terms
from custody.values import U64, Time
from custody.wire.calls import Calls
from custody.wire.messages import OpenReply, RequestReply
from custody.wire.tls import TlsFiles

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


@dataclass
class WorkloadSigner:
    """A workload's SVID as documents know it."""

    tls: TlsFiles

    @property
    def key_id(self) -> str:
        import hashlib

        return hashlib.sha256(self.tls.chain()[0]).hexdigest()

    def sign(self, message: bytes) -> bytes:
        key = serialization.load_pem_private_key(self.tls.key.read_bytes(), None)
        return keys.sign_svid(key, message)  # type: ignore[arg-type]


@dataclass
class Site:
    """One deployment. ``start`` runs it; use as a context manager."""

    directory: Path
    rosters: Sequence[Roster] | None = None
    witness_port: int = 0
    change_root: Callable[[Root], Root] = lambda root: root
    change_config: Callable[[str], str] = lambda text: text
    keys: dict[str, UnlockedKey] = field(default_factory=dict)
    address: str = ""
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.make()
        self.start_witness()
        self.configure()
        self.start_broker()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
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
        self.root_envelope = sign(self.root, [self.signer(person) for person in PERSONS])
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
            address="127.0.0.1:0" if not self.address else self.address,
            witnesses={"witness-1": f"http://127.0.0.1:{self.witness_port}"},
        )
        path = self.directory / "broker/broker.toml"
        path.write_text((change or self.change_config)(text))
        return path

    # -- running it

    def start_witness(self) -> None:
        line = self._start(
            "witness",
            [
                *("witness", "serve", "--key", "witness/witness.key", "--state", "witness/state"),
                *("--log", "keys/log.vkey", "--listen", f"127.0.0.1:{self.witness_port}"),
            ],
        )
        self.witness_port = int(line.rsplit(":", 1)[1])

    def start_broker(self) -> None:
        line = self._start("broker", ["broker", "serve", "--config", "broker/broker.toml"])
        self.address = line.split()[-1]

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        process = self.processes.pop(name, None)
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

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

    def _start(self, name: str, arguments: list[str]) -> str:
        with (self.directory / f"{name}.err").open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "custody.cli", *arguments],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.processes[name] = process
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            process.wait(10)
            self.stop(name)
            raise AssertionError(f"{name} did not start:\n{self.errors(name)}")
        return line

    # -- speaking

    def calls(self, who: str) -> Calls:
        """A connection as a person (by id) or as ``job``."""
        return Calls(self.address, "broker-1.custody", self.tls(f"tls/{who}"))

    def signer(self, person: str) -> DeviceSigner:
        return DeviceSigner(self.keys[person])

    def job_signer(self, folder: str = "tls/job") -> WorkloadSigner:
        return WorkloadSigner(self.tls(folder))

    def workload(self, identity: str = JOB, folder: str = "tls/job") -> Workload:
        return Workload(spiffe=identity, x5c=self.tls(folder).chain())

    def seal(self, source: Path, version: str = VERSION, *, segment: int = 1 << 16, sealer: str = "dave") -> Sealed:
        return seal(
            Sealing(
                version=version,
                files=scan(source),
                sealer=Person(person=sealer),
                signer=self.signer(sealer),
                segment=segment,
            ),
            root=self.root,
            store=open_store((self.directory / "store").resolve().as_uri()),
            rng=rng,
            random_into=random_into,
            clock=now,
        )

    def register(self, sealed: Sealed) -> None:
        with self.calls("dave") as calls:
            calls.register_version(sealed.manifest.encode())

    def request(self, sealed: Sealed, **changes: object) -> Envelope:
        """A signed request of dave for the job; not sent."""
        content = sealed.content
        count = len(content.files)
        fields: dict[str, object] = {
            "deployment": DEPLOYMENT,
            "kind": "open",
            "requester": Person(person="dave"),
            "beneficiary": JOB,
            "version": content.version,
            "content": sealed.manifest.content.digest,
            "files": ranges_of(set(range(count))),
            "purpose": "serving",
            "not_before": Time(now() - 60),
            "open_before": Time(now() + 3600),
            "duration": U64(3600),
            "sessions": U64(2),
            "bytes": U64(max(1, 2 * content.size)),
            "mode": "stream",
            "reason": "a test",
            "ticket": "",
            "created": Time(now()),
            "nonce": rng(32).hex(),
            "lifts": (),
            "roster": None,
        }
        fields.update(changes)
        who = fields["requester"]
        signer = self.signer(who.person) if isinstance(who, Person) else self.job_signer()
        return sign(Request(**fields), [signer])  # type: ignore[arg-type]

    def decide(
        self, view: RequestReply, person: str, verdict: Verdict = "approve", **changes: object
    ) -> tuple[Envelope, Envelope, bytes]:
        """Decision, release and wrapped share of a person for a request; not sent."""
        terms = next(item for item in view.envelopes if item.payloadType == Terms.payload_type)
        key = [item for item in view.envelopes if item.payloadType == ReleaseKey.payload_type][-1]
        request = next(item for item in view.envelopes if item.payloadType == Request.payload_type).document(Request)
        with self.calls(person) as calls:
            version = calls.get_version(request.version)
        sharing = version.sharing.document(Sharing)
        slot = sharing.slot_of(person)
        assert slot is not None
        fields: dict[str, object] = {
            "deployment": DEPLOYMENT,
            "request": view.request,
            "terms": terms.digest,
            "sharing": version.sharing.digest,
            "root": self.root_envelope.digest,
            "person": person,
            "slot": slot,
            "verdict": verdict,
            "note": "",
            "issued": Time(now()),
            "expires": Time(now() + 3600),
        }
        fields.update(changes)
        decision = sign(Decision(**fields), [self.signer(person)])  # type: ignore[arg-type]
        wrap = version.wraps[0]
        unlocked = self.keys[person]
        with SecretBytes(32) as y:
            info = hpke.wrap_info(bytes.fromhex(version.sharing.digest), slot.group, slot.index, unlocked.key_id)
            hpke.open_into(unlocked.xwing_seed, info, wrap.wrapped, y)
            wrapped = hpke.seal(
                key.document(ReleaseKey).xwing,
                hpke.release_info(
                    bytes.fromhex(view.request),
                    bytes.fromhex(terms.digest),
                    bytes.fromhex(key.digest),
                    bytes.fromhex(version.sharing.digest),
                    slot.group,
                    slot.index,
                    unlocked.key_id,
                ),
                y.view,
            )
        return decision, self.release(view, person, terms.digest, key, version.sharing.digest, slot, wrapped), wrapped

    def release(  # noqa: PLR0917 - what a release binds
        self, view: RequestReply, person: str, terms: str, key: Envelope, sharing: str, slot: object, wrapped: bytes
    ) -> Envelope:
        import hashlib

        document = Release(
            deployment=DEPLOYMENT,
            request=view.request,
            terms=terms,
            sharing=sharing,
            person=person,
            slot=slot,  # type: ignore[arg-type]
            recipients=(
                Recipient(broker="broker-1", release_key=key.digest, wrapped=hashlib.sha256(wrapped).hexdigest()),
            ),
            issued=Time(now()),
        )
        return sign(document, [self.signer(person)])

    def release_of(self, view: RequestReply, person: str, wrapped: bytes) -> Envelope:
        """A release by a person of whatever bytes are given, for the request's terms and newest release key."""
        key = [item for item in view.envelopes if item.payloadType == ReleaseKey.payload_type][-1]
        with self.calls(person) as calls:
            request = next(item for item in view.envelopes if item.payloadType == Request.payload_type)
            version = calls.get_version(request.document(Request).version)
        slot = version.sharing.document(Sharing).slot_of(person)
        return self.release(view, person, self.lease_of(view), key, version.sharing.digest, slot, wrapped)

    @staticmethod
    def time(seconds: int) -> Time:
        """So many seconds from now."""
        return Time(now() + seconds)

    def approve(self, view: RequestReply, *persons: str) -> RequestReply:
        """Each person approves and releases; returns the view afterwards."""
        for person in persons:
            decision, release, wrapped = self.decide(view, person)
            with self.calls(person) as calls:
                calls.decide(decision)
                calls.release_share(release, wrapped)
        with self.calls("dave") as calls:
            return calls.get_request(view.request)

    def granted(self, sealed: Sealed, **changes: object) -> tuple[RequestReply, str]:
        """A request that alice and bob approved, and its lease id."""
        with self.calls("dave") as calls:
            view = calls.submit_request(self.request(sealed, **changes))
        view = self.approve(view, "alice", "bob")
        assert view.phase == "granted", view
        return view, self.lease_of(view)

    def lease_of(self, view: RequestReply) -> str:
        return next(item for item in view.envelopes if item.payloadType == Terms.payload_type).digest

    def open_document(self, lease: str, files: set[int], size: int, **changes: object) -> Envelope:
        fields: dict[str, object] = {
            "deployment": DEPLOYMENT,
            "lease": lease,
            "files": ranges_of(files),
            "bytes": U64(size),
            "nonce": rng(32).hex(),
            "xwing": None,
            "workload": self.workload(),
            "issued": Time(now()),
        }
        folder = str(changes.pop("folder", "tls/job"))
        fields.update(changes)
        return sign(OpenSession(**fields), [self.job_signer(folder)])  # type: ignore[arg-type]

    def open(self, calls: Calls, sealed: Sealed, lease: str) -> OpenReply:
        size = max(1, sealed.content.size)
        return calls.open_session(self.open_document(lease, set(range(len(sealed.content.files))), size))

    def read(self, calls: Calls, session: str, file: int = 0) -> bytes:
        return b"".join(piece.data for piece in calls.read(session, file))

    def stop_document(self, person: str, action: str, target: str) -> Envelope:
        return self.sign_as(
            person,
            Stop(
                deployment=DEPLOYMENT,
                action=action,  # type: ignore[arg-type]
                target=target,
                actor=Person(person=person),
                reason="a test",
                nonce=rng(32).hex(),
                issued=Time(now()),
            ),
        )

    def hello(self, person: str) -> Envelope:
        return self.sign_as(
            person,
            Hello(deployment=DEPLOYMENT, nonce=rng(32).hex(), actor=Person(person=person), issued=Time(now())),
        )

    def sign_as(self, person: str, document: Document) -> Envelope:
        return sign(document, [self.signer(person)])


def children(pid: int) -> list[int]:
    """A process and all below it; the kernel lists children by the thread that started them."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
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
