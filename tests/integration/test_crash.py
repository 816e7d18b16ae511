"""Kill -9 at any moment: nothing acknowledged is lost, nothing was released without its entry, and the log goes on."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from custody.entries.entry import Entry
from custody.entries.receipt import Receipt, verify
from custody.errors import CustodyError, DeniedError, UnavailableError
from custody.rules.trust import policy_of
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.tlog.reader import TileReader
from custody.values import U64
from tests.doubles.site import Site, children, write_model


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as running:
        yield running


def entries_of(site: Site) -> list[bytes]:
    """Every published entry, verified to the published checkpoint."""
    log = site.directory / "log"
    note = Note.parse((log / "checkpoint").read_bytes())
    checkpoint = Checkpoint.parse(note.text)
    reader = TileReader(lambda path: (log / path).read_bytes(), checkpoint)
    entries: list[bytes] = []
    while len(entries) < checkpoint.size:
        entries += reader.bundle(len(entries) // 256)
    return entries


def types_of(site: Site) -> list[str]:
    return [Entry.parse(data).type for data in entries_of(site)]


def test_a_lease_goes_on_after_the_broker_was_killed_with_release_alone(site: Site, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", {"weights.bin": 4 << 20})
    sealed = site.seal(source)
    site.register(sealed)
    view, lease = site.granted(sealed)
    with site.calls("job") as job:
        opened = site.open(job, sealed, lease)
        stream = job.read(opened.session, 0)
        next(stream)
        site.restart_broker(signal.SIGKILL)
    with site.calls("dave") as dave:
        after = dave.get_request(view.request)
    assert after.phase == "granted"
    kinds = [Entry.parse(receipt.entry) for receipt in after.receipts]
    assert [entry.reason for entry in kinds if entry.type == "close"] == ["broker-lost"]
    with site.calls("job") as job, pytest.raises(DeniedError, match="nobody"):
        site.open(job, sealed, lease)  # the new broker has no share
    for person in ("alice", "bob"):
        _, release, wrapped = site.decide(after, person)
        with site.calls(person) as calls:
            calls.release_share(release, wrapped)
    with site.calls("job") as job:
        again = site.open(job, sealed, lease)
        assert site.read(job, again.session) == (source / "weights.bin").read_bytes()
        job.close_session(again.session)
    with site.calls("dave") as dave:
        final = dave.get_request(view.request)
    assert final.sessions_used == 2
    assert final.bytes_spent == 2 * (4 << 20)  # the lost session counts its whole ceiling
    assert final.phase == "closed"


def test_a_killed_opener_is_an_error_and_not_an_end(site: Site, tmp_path: Path) -> None:
    sealed = site.seal(write_model(tmp_path / "source", {"weights.bin": 1 << 20}))
    site.register(sealed)
    _, lease = site.granted(sealed)
    broker = site.processes["broker"].pid
    stop = threading.Event()

    def hunt() -> None:
        while not stop.is_set():
            for child in children(broker)[1:]:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        with site.calls("job") as job, pytest.raises(UnavailableError, match="opener"):
            site.open(job, sealed, lease)
    finally:
        stop.set()
        hunter.join()
    with site.calls("job") as job:
        assert len(site.read(job, site.open(job, sealed, lease).session)) == 1 << 20


@pytest.mark.parametrize("seed", range(3))
def test_kill_at_any_moment(site: Site, tmp_path: Path, seed: int) -> None:
    """Work goes on while the broker is killed again and again; every receipt handed out stays true."""
    source = write_model(tmp_path / "source", {"weights.bin": 1 << 20})
    sealed = site.seal(source)
    site.register(sealed)
    moments = random.Random(seed)
    receipts: list[Receipt] = []
    done = threading.Event()
    wrong: list[str] = []

    def work() -> None:
        while not done.is_set():
            try:
                with site.calls("dave") as dave:
                    receipts.append(dave.hello(site.hello("dave")))
                    view = dave.submit_request(site.request(sealed, sessions=U64(1), bytes=U64(1 << 20)))
                    receipts.extend(view.receipts)
                for person in ("alice", "bob"):
                    decision, release, wrapped = site.decide(view, person)
                    with site.calls(person) as calls:
                        receipts.append(calls.decide(decision))
                        receipts.append(calls.release_share(release, wrapped))
                with site.calls("job") as job:
                    opened = site.open(job, sealed, site.lease_of(view))
                    receipts.append(opened.receipt)
                    if site.read(job, opened.session) != (source / "weights.bin").read_bytes():
                        wrong.append("a read ended without an error and without all bytes")
                    receipts.append(job.close_session(opened.session))
            except CustodyError:
                time.sleep(0.05)  # the broker is dead just now

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(4):
            time.sleep(moments.uniform(0.02, 1.5))
            site.restart_broker(signal.SIGKILL)
    finally:
        done.set()
        worker.join()
    assert not wrong
    assert len(receipts) > 4
    with site.calls("dave") as dave:  # the log goes on
        receipts.append(dave.hello(site.hello("dave")))
    entries = entries_of(site)
    policy = policy_of(site.root)
    for receipt in receipts:
        verified = verify(receipt, policy)
        assert entries[verified.index] == receipt.entry
    types = types_of(site)
    assert types.count("session-intent") >= sum(
        1 for receipt in receipts if Entry.parse(receipt.entry).type == "session-intent"
    )
