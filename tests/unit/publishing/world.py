"""A deployment in one process: a real ledger and store in a directory, three witnesses of which two make a quorum."""

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path

from custody.adapters.ledger import SqlJournal, open_journal
from custody.adapters.store_local import LocalStore
from custody.entries.entry import DocumentRef, Entry, Party
from custody.entries.receipt import Receipt, Verified, verify
from custody.ports import Journal, Store
from custody.publishing.publisher import Publisher
from custody.publishing.release import Policies
from custody.publishing.settings import Settings
from custody.tlog.note import NoteSigner
from custody.tlog.policy import Group, LogKey, Policy
from custody.tlog.policy import Witness as PolicyWitness
from custody.values import Time
from tests.doubles.tlog import ORIGIN, TIME, log_signer, witness_signer
from tests.doubles.witness import LocalWitness

__all__ = ["ROW_KEY", "World", "document_entry", "entry", "two_of_three"]

ROW_KEY = bytes(range(32))
# No pauses, and no waiting for a batch to gather: tests that use the thread are as quick as the rounds are.
QUICK = Settings(delay=0.0, witness_timeout=5.0, retry_first=0.001, retry_most=0.01, poll=0.05)


def entry(number: int, text: str = "test") -> bytes:
    """A small entry, as the log holds it."""
    return Entry(
        schema="custody/entry/v1",
        type="system",
        id=f"{number:032x}",
        time=Time(TIME),
        broker="broker-1",
        build="0" * 64,
        root="1" * 64,
        policy="2" * 64,
        reason=text,
    ).encode()


def document_entry(number: int, *envelopes: bytes) -> bytes:
    """An entry that names documents."""
    references = [
        DocumentRef(kind="hello", document=hashlib.sha256(b"d" + e).hexdigest(), envelope=hashlib.sha256(e).hexdigest())
        for e in envelopes
    ]
    return Entry(
        schema="custody/entry/v1",
        type="hello",
        id=f"{number:032x}",
        time=Time(TIME),
        broker="broker-1",
        build="0" * 64,
        root="1" * 64,
        policy="2" * 64,
        actor=Party(id="person:alice", credential="3" * 64),
        documents=tuple(references),
    ).encode()


def two_of_three(log: NoteSigner, *witnesses: NoteSigner) -> Policy:
    """The policy of the tests: more than half of the witnesses, called w1, w2, w3."""
    named = tuple(PolicyWitness(f"w{i}", signer.vkey) for i, signer in enumerate(witnesses, start=1))
    group = Group("all", len(named) // 2 + 1, tuple(witness.name for witness in named))
    return Policy((LogKey(log.vkey),), named, (group,), "all")


@dataclass
class World:
    """Everything but the publisher. ``now`` is the clock of broker and witnesses."""

    path: Path
    now: int = TIME
    signer: NoteSigner = field(default_factory=log_signer)
    witnesses: list[LocalWitness] = field(init=False)
    policy: Policy = field(init=False)
    journal: SqlJournal = field(init=False)
    store: LocalStore = field(init=False)

    def __post_init__(self) -> None:
        (self.path / "log").mkdir(exist_ok=True)
        self.journal = self.open_journal()
        self.store = LocalStore(self.path / "log")
        signers = [witness_signer(i) for i in (1, 2, 3)]
        self.policy = two_of_three(self.signer, *signers)
        self.witnesses = [
            LocalWitness(f"w{i}", signer, [self.signer.vkey], lambda: self.now) for i, signer in enumerate(signers, 1)
        ]

    def open_journal(self) -> SqlJournal:
        """Open the ledger, as a process that starts does."""
        return open_journal(f"sqlite:///{self.path}/ledger", ROW_KEY, ORIGIN)

    def publisher(
        self,
        *,
        journal: Journal | None = None,
        store: Store | None = None,
        policies: Policies | None = None,
        settings: Settings = QUICK,
    ) -> Publisher:
        """Make a publisher over the ledger and the log, or over faulty ones."""
        return Publisher(
            journal or self.journal,
            store or self.store,
            self.signer,
            policies=policies or (lambda _old, _new: [self.policy]),
            witnesses=lambda: self.witnesses,
            clock=lambda: self.now,
            settings=settings,
        )

    def running(self) -> Publisher:
        """Recover a new publisher and publish all there is."""
        publisher = self.publisher()
        publisher.recover()
        self.publish(publisher)
        return publisher

    def publish(self, publisher: Publisher) -> None:
        """Do rounds until nothing is left; then let the honest witnesses that were not needed come to their end."""
        while publisher.publish_once():
            pass
        honest = {f"witness {witness.name}" for witness in self.witnesses if type(witness) is LocalWitness}
        for thread in threading.enumerate():
            if thread.name in honest:
                thread.join(30)

    def append(self, *entries: bytes, journal: Journal | None = None) -> list[int]:
        """Append to the ledger."""
        with (journal or self.journal).transaction() as transaction:
            return [transaction.append(data) for data in entries]

    def verify(self, receipt: Receipt) -> Verified:
        """Judge a receipt as a client does."""
        return verify(receipt, self.policy)

    def close(self) -> None:
        """Give up the files."""
        self.journal.close()
        self.store.close()
