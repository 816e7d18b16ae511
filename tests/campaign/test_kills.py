"""Kill -9 of the real processes at any moment: nothing acknowledged is lost, nothing was released without its entry,
and the log goes on.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from custody.app.sealing import Sealed
from custody.entries.entry import Entry
from custody.entries.receipt import Receipt, verify
from custody.errors import CustodyError
from custody.rules.trust import policy_of
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.merkle import MemoryTree, leaf_hash
from custody.tlog.note import Note
from custody.values import U64
from tests.doubles.site import Site, write_model
from tests.unit.publishing.tiny_reader import read_log

SEED = int(os.environ.get("CUSTODY_CAMPAIGN_SEED", "0"))
KILLS = 25
SIZE = 1 << 20  # bytes of the model


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


class Work:
    """Lease after lease, from the request to the last byte, by whoever it takes; each death ends an attempt."""

    def __init__(self, site: Site, sealed: Sealed, source: Path) -> None:
        self.receipts: list[Receipt] = []
        self.released = 0
        self.wrong: list[str] = []
        self._site, self._sealed = site, sealed
        self._expected = (source / "weights.bin").read_bytes()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(act,)) for act in (self._lease, self._hello)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, act: Callable[[], None]) -> None:
        while not self._done.is_set():
            try:
                act()
            except CustodyError:
                time.sleep(0.05)  # somebody is dead just now

    def _hello(self) -> None:
        with self._site.calls("carol") as carol:
            self.receipts.append(carol.hello(self._site.hello("carol")))

    def _lease(self) -> None:
        site = self._site
        with site.calls("dave") as dave:
            view = dave.submit_request(site.request(self._sealed, sessions=U64(1), bytes=U64(SIZE)))
            self.receipts.extend(view.receipts)
        for person in ("alice", "bob"):
            decision, release, wrapped = site.decide(view, person)
            with site.calls(person) as calls:
                self.receipts.append(calls.decide(decision))
                self.receipts.append(calls.release_share(release, wrapped))
        with site.calls("job") as job:
            opened = site.open(job, self._sealed, site.lease_of(view))
            self.receipts.append(opened.receipt)
            if site.read(job, opened.session) != self._expected:
                self.wrong.append("a read ended without an error and without all bytes")
            self.released += 1
            self.receipts.append(job.close_session(opened.session))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_of_broker_and_witness_at_any_moment(
    site: Site, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    source = write_model(tmp_path / "source", {"weights.bin": SIZE})
    sealed = site.seal(source)
    site.register(sealed)
    moments = random.Random(SEED)
    victims = ["witness"] * (KILLS // 3) + ["broker"] * (KILLS - KILLS // 3)
    moments.shuffle(victims)
    with Work(site, sealed, source) as work:
        for victim in victims:
            time.sleep(moments.uniform(0.02, 0.8))
            site.stop(victim, signal.SIGKILL)
            if victim == "witness":
                site.start_witness()
            else:
                site.start_broker()
        time.sleep(1)
    record_property(
        "summary",
        f"kill -9, seed {SEED}: {victims.count('broker')} of the broker, {victims.count('witness')} of the witness;"
        f" {len(work.receipts)} receipts, {work.released} leases served",
    )
    assert not work.wrong
    assert len(work.receipts) > KILLS
    with site.calls("dave") as dave:  # the log goes on
        work.receipts.append(dave.hello(site.hello("dave")))

    entries = read_log(site.directory / "log")
    policy = policy_of(site.root)
    for receipt in work.receipts:
        verified = verify(receipt, policy)
        assert entries[verified.index] == receipt.entry
    types = [Entry.parse(data).type for data in entries]
    assert types.count("session-intent") >= work.released
    tree = MemoryTree([leaf_hash(data) for data in entries])
    for kept in (site.directory / "log/checkpoints").glob("[0-9]*"):
        checkpoint = Checkpoint.parse(Note.parse(kept.read_bytes()).text)
        assert tree.root(checkpoint.size) == checkpoint.root, kept.name
