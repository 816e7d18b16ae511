"""A witness that is away or hangs: nothing is released, callers are told in time, and afterwards work goes on."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.errors import CustodyError, DeniedError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from custody.values import U64
from tests.doubles import malice
from tests.doubles.interrupting import interrupting
from tests.doubles.site import Site, impatient


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment that tells callers after two seconds that the log is blocked."""
    with Site(tmp_path_factory.mktemp("deployment") / "site", change_config=impatient) as running:
        yield running


@contextmanager
def away(site: Site) -> Iterator[None]:
    """The witness's process is gone."""
    site.stop("witness")
    try:
        yield
    finally:
        site.start_witness()


@contextmanager
def hanging(site: Site) -> Iterator[None]:
    """The witness takes connections and never answers."""
    with site.frozen("witness"):
        yield


def published(site: Site) -> int:
    return Checkpoint.parse(Note.parse((site.directory / "log/checkpoint").read_bytes()).text).size


@pytest.mark.parametrize("trouble", [away, hanging])
def test_no_witness_no_key(site: Site, sealed: Sealed, source: Path, trouble: Callable[[Site], Iterator[None]]) -> None:
    _, lease = site.granted(sealed, sessions=U64(9), bytes=U64(9 * sealed.content.size))
    with site.calls("job") as job:
        with trouble(site):  # type: ignore[attr-defined]
            before = published(site)
            with pytest.raises(UnavailableError, match=r"is not published after 2 s: .*witness-1"):
                site.open(job, sealed, lease)
            assert published(site) == before
            # The key was not rebuilt: the intent was not witnessed.
            outcome = [entry for entry in malice.entries(site) if entry.type == "opening-outcome"][-1]
            assert (outcome.terms, outcome.outcome, outcome.reason) == (lease, "failed", "unavailable")
        session = site.open(job, sealed, lease).session
        assert site.read(job, session, 1) == (source / "weights.bin").read_bytes()


def test_a_session_whose_intent_is_not_witnessed_is_served_nothing(site: Site, sealed: Sealed) -> None:
    """The lease is open and its keys are there; still a session without its witnessed entry gets nothing."""
    view, lease = site.granted(sealed, sessions=U64(9), bytes=U64(9 * sealed.content.size))
    size = sealed.content.size
    with site.calls("job") as job:
        first = site.open(job, sealed, lease).session
        with away(site):
            document = site.open_document(lease, {0, 1}, size)
            with pytest.raises(UnavailableError, match="witness-1"):
                job.open_session(document)
            with pytest.raises(DeniedError, match="no such session"):
                next(job.read(document.digest, 0))
            assert site.read(job, first, 0)  # this one was witnessed
        assert site.read(job, site.open(job, sealed, lease).session, 0)
    with site.calls("dave") as dave:
        view = dave.get_request(view.request)
    assert view.bytes_spent == 2 * size  # the session in the middle was charged nothing


def test_a_job_that_reads_while_its_session_waits_for_witnesses(site: Site, sealed: Sealed) -> None:
    """The session's id is the digest of the job's own document: it needs no answer to know it."""
    _, lease = site.granted(sealed, sessions=U64(9), bytes=U64(9 * sealed.content.size))
    with site.calls("job") as job, ThreadPoolExecutor(1) as pool:
        site.open(job, sealed, lease)
        document = site.open_document(lease, {0, 1}, sealed.content.size)
        with site.frozen("witness"):
            opening = pool.submit(job.open_session, document)
            while document.digest not in {entry.session for entry in malice.entries(site)}:
                pass
            of_file = (document.digest, 1)
            for call in (lambda: next(job.read(*of_file)), lambda: job.read_digests(*of_file, 1 << 20)):
                with pytest.raises(DeniedError, match="no such session"):
                    call()
            assert not opening.done()
        assert opening.result().session == document.digest
        assert site.read(job, document.digest, 0)


@pytest.mark.parametrize("leaves", ["it is interrupted", "its connection breaks"])
def test_a_job_that_leaves_while_its_session_waits_for_witnesses(site: Site, sealed: Sealed, leaves: str) -> None:
    """Nobody will use that session. It ends as soon as it was opened, and counts nothing but itself."""
    size = sealed.content.size
    view, lease = site.granted(sealed, sessions=U64(9), bytes=U64(2 * size))
    with site.calls("job") as job:
        site.open(job, sealed, lease)  # so that the key is there
        document = site.open_document(lease, {0, 1}, size)

        def begun() -> None:
            while document.digest not in {entry.session for entry in malice.entries(site)}:
                time.sleep(0.01)

        with site.frozen("witness"):
            if leaves == "it is interrupted":
                with interrupting(1, lambda: None, begun) as begin:
                    begin()
                    with pytest.raises(KeyboardInterrupt):
                        job.open_session(document)
            else:
                with site.calls("job") as other, ThreadPoolExecutor(1) as pool:
                    opening = pool.submit(other.open_session, document)
                    begun()
                    other.close()
                    with pytest.raises(CustodyError):
                        opening.result()
        with site.calls("dave") as dave:
            end = time.monotonic() + 10
            while dave.get_request(view.request).bytes_spent > size and time.monotonic() < end:
                time.sleep(0.05)
            assert dave.get_request(view.request).bytes_spent == size
        ended = [entry for entry in malice.entries(site) if entry.session == document.digest][-1]
        assert (ended.type, ended.outcome, ended.served) == ("session-outcome", "aborted", ())
        assert site.read(job, site.open(job, sealed, lease).session, 0)


def test_requests_filed_while_no_witness_answers_are_not_lost(site: Site, sealed: Sealed) -> None:
    """What was not acknowledged may have happened; sent again it gets its receipt, and happens once."""
    document = site.request(sealed)
    with site.calls("dave") as dave:
        with away(site), pytest.raises(UnavailableError):
            dave.submit_request(document)
        assert dave.submit_request(document).phase == "requested"
    assert [entry.request for entry in malice.entries(site) if entry.type == "request"].count(document.digest) == 1


def test_no_witness_no_start(site: Site) -> None:
    """A broker that cannot ask a witness about its last checkpoint does not serve."""
    site.stop("broker")
    with away(site), pytest.raises(AssertionError, match="witness-1"):
        site.start_broker()
    site.start_broker()
    with site.calls("alice") as alice:
        alice.hello(site.hello("alice"))
