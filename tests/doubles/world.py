"""A whole deployment in memory: persons, devices, a broker, a CA, a log. The same seed makes the same bytes.

``World()`` has a logged genesis root. ``seal`` puts a version in, ``file`` a request, which returns a ``Case`` that
goes on from there. Documents are really signed, shares really split; ``World.now`` is the only clock. Every document
takes ``changes`` before it is signed, and every entry before it is judged, so that a test can make one thing wrong.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from custody.app.dealing import sharing_of
from custody.crypto import hpke, schedule
from custody.crypto.secret import SecretBytes
from custody.crypto.sharing import Group as ShareGroup
from custody.crypto.sharing import random_scalar, split
from custody.documents.actor import Person
from custody.documents.content import Content, File
from custody.documents.dsse import Document, Envelope, Signer, sign
from custody.documents.hello import Hello
from custody.documents.manifest import Manifest, Wrap
from custody.documents.root import BrokerKey, Group, Log, NamedPerson, Owner, Root, Roster, Sealer
from custody.documents.sharing import Sharing, Slot
from custody.entries.entry import DocumentRef, Entry, Party
from custody.rules.state import State, VersionState
from custody.rules.step import step
from custody.tlog.note import COSIGNATURE, ED25519, NoteSigner
from custody.values import U64, Time
from tests.doubles.actors import CertificateAuthority, ServerKey, TestDevice, Workload, deterministic
from tests.doubles.case import Case

__all__ = ["BOARD", "CUSTODIANS", "DEPLOYMENT", "DOMAIN", "HOUR", "JOB", "START", "Journal", "World"]

DEPLOYMENT: Final = "custody.example.org/log"
DOMAIN: Final = "example.org"
START: Final = Time.parse("2026-11-22T08:00:00Z")
HOUR: Final = 3600
JOB: Final = f"spiffe://{DOMAIN}/job/serve"
"""A workload that erin owns."""

CUSTODIANS: Final = Roster(
    name="custodians",
    guards=("*",),
    groups=(Group(name="custodians", threshold=2, members=("alice", "bob", "carol")),),
    release="with-decision",
    cool_off=U64(0),
)
BOARD: Final = Roster(
    name="board",
    guards=("frontier/*",),
    groups=(
        Group(name="security", threshold=2, members=("alice", "bob", "carol")),
        Group(name="executives", threshold=1, members=("dave", "grace")),
    ),
    release="after-quorum",
    cool_off=U64(HOUR),
)
_GOVERNANCE: Final = Roster(
    name="governance",
    guards=(),
    groups=(Group(name="governance", threshold=2, members=("alice", "dave", "grace")),),
    release="with-decision",
    cool_off=U64(0),
)
# alice has two devices; erin owns the jobs; frank asks; sam seals.
_DEVICES: Final = ("alice", "alice/token", "bob", "carol", "dave", "grace", "erin", "frank", "sam")


class Journal:
    """The entries so far, the documents behind them, and the state they imply."""

    def __init__(self, deployment: str, genesis: str) -> None:
        self.state = State(deployment=deployment, genesis=genesis)
        self.entries: list[Entry] = []
        self.envelopes: dict[str, Envelope] = {}

    def append(self, entry: Entry, envelopes: Iterable[Envelope] = ()) -> None:
        """Judge an entry and keep it. Raises what the rules raise."""
        documents = {envelope.envelope_digest: envelope for envelope in envelopes}
        step(self.state, entry, documents)
        self.entries.append(entry)
        self.envelopes.update(documents)


class World:
    """A deployment. ``genesis=False`` leaves its log empty."""

    def __init__(self, seed: bytes = b"world", *, deployment: str = DEPLOYMENT, genesis: bool = True) -> None:
        self.rng = deterministic(seed)
        self.now = int(START)
        self.deployment = deployment
        self.devices = {name: self.device(name.split("/")[-1]) for name in _DEVICES}
        self.broker = ServerKey(self.rng(32))
        self.second_broker = ServerKey(self.rng(32))
        self.ca = CertificateAuthority(self.rng, self.now)
        self.log_key = NoteSigner(deployment, ED25519, self.rng(32))
        self.witnesses = [NoteSigner(f"witness.example.org/{i}", COSIGNATURE, self.rng(32)) for i in range(3)]
        self.root = self._genesis()
        self.genesis = self.sign_root(self.root, *(name for name in _DEVICES if "/" not in name))
        self.log = Journal(deployment, self.genesis.digest)
        self.shares: dict[str, dict[Slot, SecretBytes]] = {}
        if genesis:
            self.log_root(self.genesis)

    @property
    def state(self) -> State:
        """What the log implies so far."""
        return self.log.state

    def tick(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    def device(self, name: str) -> TestDevice:
        """Make the keys of a device."""
        return TestDevice(name, self.rng(32), self.rng(32))

    def job(self, spiffe: str = JOB, **changes: Any) -> Workload:
        """Issue a certificate that is valid from a minute ago for an hour."""
        return self.ca.issue(spiffe, self.now - 60, **changes)

    def party(self, who: str | Workload) -> Party:
        """Return a person (with the first device) or a workload as entries name it."""
        if isinstance(who, Workload):
            return Party(id=who.spiffe, credential=who.key_id)
        if who == "broker-1":
            return Party(id="broker:broker-1", credential=self.broker.key_id)
        return Party(id=f"person:{who.partition('/')[0]}", credential=self.devices[who].key_id)

    def signer(self, who: str | Workload) -> Signer:
        """Return what signs for a person, a device (``alice/token``), ``broker-1`` or a workload."""
        if isinstance(who, Workload):
            return who
        return {"broker-1": self.broker, "broker-2": self.second_broker}.get(who) or self.devices[who]

    def sign(self, document: Document, who: str | Workload, **changes: Any) -> Envelope:
        """Change a document and sign it."""
        return sign(msgspec.structs.replace(document, **changes), [self.signer(who)])

    # ------------------------------------------------------------------------------------------------------ entries

    def append(self, kind: str, *envelopes: Envelope, **fields: Any) -> Entry:
        """Log an entry as a broker would write it now; ``fields`` add to it or replace what would stand there."""
        root = self.state.roots[-1] if self.state.roots else self.root
        header: dict[str, Any] = {
            "schema": "custody/entry/v1",
            "type": kind,
            "id": self.rng(16).hex(),
            "time": Time(self.now),
            "broker": "broker-1",
            "build": "b1" * 32,
            "root": self.state.root_digest or self.genesis.digest,
            "policy": root.policy,
            "documents": tuple(reference(envelope) for envelope in envelopes),
        }
        entry = Entry.parse(Entry(**(header | fields)).encode())
        self.log.append(entry, envelopes)
        return entry

    # -------------------------------------------------------------------------------------------------------- roots

    def named(self, person: str, *devices: TestDevice) -> NamedPerson:
        """Return a person as a root names it, with all devices made for it unless some are given."""
        mine = devices or tuple(key for name, key in self.devices.items() if name.split("/")[0] == person)
        return NamedPerson(
            id=person,
            name=person.title(),
            identity=f"spiffe://{DOMAIN}/person/{person}",
            devices=tuple(
                msgspec.structs.replace(device.named(), name="laptop" if device.name == person else device.name)
                for device in mine
            ),
        )

    def next_root(self, **changes: Any) -> Root:
        """Return the root that would follow the one in force, changed."""
        root = self.state.root
        following = {"epoch": U64(root.epoch + 1), "previous": self.state.root_digest, "created": Time(self.now)}
        return msgspec.structs.replace(root, **(following | changes))

    def sign_root(self, root: Root, *devices: str) -> Envelope:
        """Sign a root with devices of these names."""
        return sign(root, [self.devices[name] for name in devices])

    def log_root(self, envelope: Envelope, **changes: Any) -> Entry:
        """Log a root."""
        entries = self.state.root_entries
        return self.append("root", envelope, **({"parent": entries[-1] if entries else None} | changes))

    def replace_root(self, *devices: str, **changes: Any) -> Root:
        """Let a changed root come into force, signed by governance and by further ``devices``."""
        root = self.next_root(**changes)
        self.log_root(self.sign_root(root, "alice", "dave", *devices))
        return root

    def _genesis(self) -> Root:
        people = dict.fromkeys(name.split("/")[0] for name in _DEVICES)
        witnesses = [f"witness w{i} {signer.vkey.encode()}" for i, signer in enumerate(self.witnesses)]
        vkey = self.log_key.vkey.encode()
        return Root(
            deployment=self.deployment,
            epoch=U64(0),
            previous=None,
            created=START,
            persons=tuple(self.named(person) for person in people),
            rosters=(CUSTODIANS, BOARD, _GOVERNANCE),
            brokers=(self._broker("broker-1", self.broker), self._broker("broker-2", self.second_broker)),
            log=Log(vkey=vkey, predecessor=None),
            witness_policy=(f"log {vkey}", *witnesses, "group all 2 w0 w1 w2", "quorum all"),
            trust_domain=DOMAIN,
            spiffe_roots=(self.ca.certificate,),
            sealers=(
                Sealer(sealer="sam", names=("*",)),
                Sealer(sealer=f"spiffe://{DOMAIN}/train/*", names=("demo/*",)),
            ),
            owners=(Owner(workload=f"spiffe://{DOMAIN}/job/*", persons=("erin",)),),
            policy="d0" * 32,
        )

    @staticmethod
    def _broker(name: str, key: ServerKey) -> BrokerKey:
        return BrokerKey(id=name, identity=f"spiffe://{DOMAIN}/{name}", ed25519=key.ed25519)

    # ----------------------------------------------------------------------------------------------------- versions

    def content(self, version: str = "demo/tiny@1", who: str | Workload = "sam", /, **changes: Any) -> Content:
        """Make the content of a version of three files, and split its key among the roster that guards it."""
        vid = self.rng(32)
        with random_scalar(self._random_into) as secret:
            roster = self.state.root.roster_for(version) or CUSTODIANS
            groups = [ShareGroup(group.threshold, len(group.members)) for group in roster.groups]
            dealt = split(secret, groups, self._random_into)
            with schedule.version_key(secret, vid, self.deployment, version) as key:
                commit = schedule.key_commit(key)
        self.shares[vid.hex()] = {
            Slot(group=g, index=i): share for g, shares in enumerate(dealt) for i, share in enumerate(shares, start=1)
        }
        content = Content(
            deployment=self.deployment,
            version=version,
            vid=vid.hex(),
            key_commit=commit.hex(),
            created=Time(self.now),
            sealer=who.actor if isinstance(who, Workload) else Person(person=who),
            segment=U64(1 << 20),
            files=tuple(
                File(path=path, size=U64(size), ciphertext=self.rng(32).hex(), digests=self.rng(32).hex())
                for path, size in (("config.json", 700), ("weights/0.safetensors", 5000), ("weights/1.safetensors", 0))
            ),
            lineage=(),
            labels=(),
            retention="standard",
            key_kind="shared",
            series=None,
        )
        return msgspec.structs.replace(content, **changes)

    def sharing(self, content: Content, /, **changes: Any) -> Sharing:
        """Make the sharing of a content: that of the roster which guards it."""
        roster = self.state.root.roster_for(content.version) or CUSTODIANS
        sharing = sharing_of(content, roster, self.shares[content.vid])
        return msgspec.structs.replace(sharing, **{"created": Time(self.now), **changes})

    def manifest(self, content: Envelope, sharing: Envelope) -> Manifest:
        """Wrap every share to every device of its holder. Wraps are random: only they differ from run to run."""
        document = sharing.document(Sharing)
        shares = self.shares[content.document(Content).vid]
        wraps = []
        for slot, holder in document.slots().items():
            person = self.state.root.person(holder.person)
            for device in person.devices if person else ():
                key = bytes.fromhex(device.key_id)
                info = hpke.wrap_info(bytes.fromhex(sharing.digest), slot.group, slot.index, key)
                wraps.append(
                    Wrap(slot=slot, device=device.key_id, wrapped=hpke.seal(device.xwing, info, shares[slot].view))
                )
        return Manifest(content=content, sharing=sharing, wraps=tuple(wraps))

    def log_manifest(
        self, content: Envelope, sharing: Envelope, who: str | Workload = "sam", /, **changes: Any
    ) -> Entry:
        """Log a sealed version."""
        fields = {
            "actor": self.party(who),
            "version": content.document(Content).version,
            "content": content.digest,
            "sharing": sharing.digest,
        }
        return self.append("manifest", content, sharing, **(fields | changes))

    def seal(self, version: str = "demo/tiny@1", who: str | Workload = "sam") -> VersionState:
        """Put a version into custody."""
        content = self.content(version, who)
        sharing = self.sharing(content)
        self.log_manifest(self.sign(content, who), self.sign(sharing, who), who)
        return self.state.versions[version]

    def _random_into(self, buffer: memoryview) -> None:
        buffer[:] = self.rng(len(buffer))

    # ------------------------------------------------------------------------------------------------ what follows

    def file(self, version: str = "demo/tiny@1", who: str | Workload = "frank", /, **changes: Any) -> Case:
        """File a request of a person or a workload for a sealed version."""
        case = Case.of(self, version, who, **changes)
        case.log_request()
        return case

    def granted(self, version: str = "demo/tiny@1", /, **changes: Any) -> Case:
        """Seal a version, file a request and have alice and bob (and dave, for the board) approve it."""
        if version not in self.state.versions:
            self.seal(version)
        case = self.file(version, **changes)
        for person in case.quorum:
            case.decide(person)
        case.grant()
        return case

    def opened(self, version: str = "demo/tiny@1", /, **changes: Any) -> Case:
        """As ``granted``, and open it: shares, intent, outcome."""
        case = self.granted(version, **changes)
        if case.roster == BOARD.name:
            self.tick(HOUR)
        case.open()
        return case

    def closed(self, version: str = "demo/tiny@1", /, **changes: Any) -> Case:
        """As ``opened``; a job reads, returns the lease, and it is closed."""
        case = self.opened(version, **changes)
        job = self.job()
        case.end(case.begin(job), (0, 700))
        case.log_stop(case.stop("return", job), job)
        case.close("returned")
        return case

    def hello(self, who: str | Workload = "alice", **changes: Any) -> Envelope:
        """Sign a tool's hello."""
        person = who.actor if isinstance(who, Workload) else Person(person=who.partition("/")[0])
        hello = Hello(deployment=self.deployment, nonce=self.rng(32).hex(), actor=person, issued=Time(self.now))
        return self.sign(hello, who, **changes)

    def log_hello(self, envelope: Envelope, who: str | Workload = "alice", **changes: Any) -> Entry:
        """Log a hello."""
        return self.append("hello", envelope, **({"actor": self.party(who)} | changes))


def reference(envelope: Envelope) -> DocumentRef:
    """Return how an entry names a document."""
    kind = envelope.payloadType.removeprefix("application/vnd.custody.").removesuffix(".v1+json")
    return DocumentRef(kind=kind, document=envelope.digest, envelope=envelope.envelope_digest)
