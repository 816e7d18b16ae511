"""What a killed broker or opener costs those who work with it. Kills at any moment: ``tests/campaign``."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from custody.entries.entry import Entry
from custody.errors import DeniedError, UnavailableError
from tests.doubles.site import Site, children, write_model


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as running:
        yield running


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
