"""Direct mode against whoever asks for more than was granted: keys go out sealed, counted whole, witnessed, or not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.crypto import schedule
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, IntegrityError, UnavailableError
from custody.tlog.merkle import leaf_hash
from custody.values import U64
from custody.wire.messages import OpenReply
from tests.adversaries.conftest import over_both_stores
from tests.doubles import malice, scanner
from tests.doubles.direct import DirectSite, JobKey
from tests.doubles.site import DOMAIN, Site, children


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, sites: Callable[[str], DirectSite]) -> DirectSite:
    return sites(getattr(request, "param", "directory"))


@pytest.fixture
def lease(site: DirectSite, sealed: Sealed) -> tuple[str, str]:
    """A request, and its lease in direct mode: two sessions of all files."""
    view, lease = site.granted_direct(sealed)
    return view.request, lease


def spent(site: Site, request: str) -> tuple[int, int]:
    with site.calls("dave") as dave:
        view = dave.get_request(request)
    return view.bytes_spent, view.sessions_used


def keys_of(site: Site, sealed: Sealed, file: int) -> bytes:
    """File key and digest key, as whoever has all shares of a version has them."""
    with (
        malice.version_key(site, sealed) as key,
        schedule.file_key(key, file) as secret,
        schedule.digest_key(key, file) as check,
    ):
        return bytes(secret.view) + bytes(check.view)


def keepers(site: Site) -> list[int]:
    """Processes that keep the keys of a lease."""
    broker = site.processes["broker"].pid
    return [pid for pid in children(broker) if b"keeper_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def unsealed(reply: OpenReply, key: JobKey, request: str, file: int) -> bytes:
    return key.unseal(request, leaf_hash(reply.receipt.entry), file, reply.sealed_keys[file])


def test_the_keys_are_the_files_and_open_for_that_job_and_that_intent_only(
    site: DirectSite, sealed: Sealed, lease: tuple[str, str]
) -> None:
    request, terms = lease
    mine, foreign = JobKey(), JobKey()
    with site.calls("job") as job:
        first = job.open_session(site.open_direct(terms, sealed, mine))
        second = job.open_session(site.open_direct(terms, sealed, mine))
    assert first.digest_keys == {}
    for file in (0, 1):
        assert unsealed(first, mine, request, file) == keys_of(site, sealed, file)
    leaf = leaf_hash(first.receipt.entry)
    for key, asked, intent, file, blob in (
        (foreign, request, leaf, 1, first.sealed_keys[1]),
        (mine, terms, leaf, 1, first.sealed_keys[1]),
        (mine, request, leaf_hash(second.receipt.entry), 1, first.sealed_keys[1]),
        (mine, request, leaf, 0, first.sealed_keys[1]),
    ):
        with pytest.raises(IntegrityError, match="not sealed to this key for this purpose"):
            key.unseal(asked, intent, file, blob)
    assert spent(site, request) == (2 * sealed.content.size, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory takes CAP_SYS_PTRACE")
def test_the_keys_are_in_one_process_only_not_the_broker_and_it_ends_with_the_lease(
    site: DirectSite, draft: Sealed
) -> None:
    site.register(draft)
    _, terms = site.granted_direct(draft)
    broker = site.processes["broker"].pid
    with malice.version_key(site, draft) as key:
        rebuilt = [bytes(key.view)[place : place + 16] for place in range(0, 64, 16)]
    rebuilt += [y[place : place + 16] for y in malice.shares_of(site, draft).values() for place in (0, 16)]
    handed_out = [keys_of(site, draft, file)[place : place + 16] for file in (0, 1) for place in (0, 16, 32, 48)]
    with site.calls("job") as job:
        job.open_session(site.open_direct(terms, draft, JobKey()))
    (keeper,) = [pid for pid in children(broker) if any(scanner.find(pid, handed_out))]
    assert b"keeper_child" in Path(f"/proc/{keeper}/cmdline").read_bytes()
    assert not [hit for pid in children(broker) for hit in scanner.find(pid, rebuilt)]
    with site.calls("alice") as alice:
        alice.stop(site.stop_document("alice", "revoke", terms))
    assert not Path(f"/proc/{keeper}").exists()
    assert not [hit for pid in children(broker) for hit in scanner.find(pid, handed_out)]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"files": {0, 1, 2}, "size": 200_300}, DeniedError, "not all of them are in the lease"),
        ({"size": 200_299}, DeniedError, "direct mode counts the whole files, 200300 bytes"),
        ({"size": 200_301}, DeniedError, "direct mode counts the whole files, 200300 bytes"),
        ({"files": {0}, "size": 1}, DeniedError, "direct mode counts the whole files, 300 bytes"),
        ({"xwing": None}, DeniedError, "xwing: the lease is of mode direct"),
        ({"xwing": bytes(1216)}, FormatError, "X-Wing public key: not a valid key"),
        ({"xwing": b"\xff" * 1216}, FormatError, "X-Wing public key: not a valid key"),
    ],
    ids=[
        "more files",
        "a byte less",
        "a byte more",
        "a part of a file",
        "no key",
        "small order",
        "out of range",
    ],
)
def test_an_open_document_that_asks_for_more_or_counts_less(  # noqa: PLR0917 - a fixture or a parameter each
    site: DirectSite,
    sealed: Sealed,
    lease: tuple[str, str],
    changes: dict[str, object],
    error: type[CustodyError],
    match: str,
) -> None:
    request, terms = lease
    with site.calls("job") as job, pytest.raises(error, match=match):
        job.open_session(site.open_direct(terms, sealed, JobKey(), **changes))
    assert spent(site, request) == (0, 0)


def test_direct_is_not_had_on_terms_of_a_stream(site: DirectSite, sealed: Sealed) -> None:
    view, terms = site.granted(sealed)
    with site.calls("job") as job:
        with pytest.raises(DeniedError, match="xwing: the lease is of mode stream"):
            job.open_session(site.open_direct(terms, sealed, JobKey()))
        opened = site.open(job, sealed, terms)
        assert opened.sealed_keys == {}
        with pytest.raises(DeniedError, match="not of direct mode"):
            job.locate(opened.session, 0)
    assert spent(site, view.request)[1] == 1


@over_both_stores
def test_the_budget_is_spent_before_a_key_leaves_and_not_given_back(site: DirectSite, sealed: Sealed) -> None:
    size = sealed.content.size
    view, terms = site.granted_direct(sealed, sessions=U64(4), bytes=U64(3 * size - 1))
    with site.calls("job") as job:
        document = site.open_direct(terms, sealed, JobKey())
        opened = job.open_session(document)
        with pytest.raises(ConflictError, match="used before"):
            job.open_session(document)
        job.close_session(opened.session)  # not a byte was read
        assert spent(site, view.request) == (size, 1)
        job.open_session(site.open_direct(terms, sealed, JobKey()))
        with pytest.raises(DeniedError, match=f"{size} asked, {size - 1} left in the lease"):
            job.open_session(site.open_direct(terms, sealed, JobKey()))
        job.open_session(site.open_direct(terms, sealed, JobKey(), files={0}))
    (outcome,) = [e for e in malice.entries(site) if e.type == "session-outcome" and e.session == opened.session]
    assert sum(item.bytes for item in outcome.served) == size


@over_both_stores
def test_only_the_sessions_own_job_learns_where_its_own_files_lie_and_nobody_streams_them(
    site: DirectSite, sealed: Sealed
) -> None:
    _, terms = site.granted_direct(sealed)
    other = f"spiffe://{DOMAIN}/job/other"
    site.issue(other, "tls/other")
    with site.calls("job") as job, site.calls("other") as stranger:
        session = job.open_session(site.open_direct(terms, sealed, JobKey(), files={1})).session
        where = job.locate(session, 1)
        if site.bucket:
            assert where.ciphertext is not None
            assert f"{sealed.content.vid}/1.floe?" in where.ciphertext.url
        assert where.folder == ("" if site.bucket else str(site.directory / "store"))
        for file in (0, 2, 2**64 - 1):
            with pytest.raises(DeniedError, match="not in this session"):
                job.locate(session, file)
        with pytest.raises(DeniedError, match="no such session"):
            stranger.locate(session, 1)
        with pytest.raises(DeniedError, match="the job reads the store itself"):
            site.read(job, session, 1)
        with pytest.raises(DeniedError, match="the open document is of another workload"):
            stranger.open_session(site.open_direct(terms, sealed, JobKey()))


@over_both_stores
def test_after_a_revocation_nothing_is_renewed_and_nothing_begins(
    site: DirectSite, sealed: Sealed, lease: tuple[str, str]
) -> None:
    request, terms = lease
    with site.calls("job") as job, site.calls("alice") as alice:
        session = job.open_session(site.open_direct(terms, sealed, JobKey())).session
        where = job.locate(session, 0)
        assert where.folder or where.ciphertext
        alice.stop(site.stop_document("alice", "revoke", terms))
        with pytest.raises(DeniedError, match=r"no such session|the session is over"):
            job.locate(session, 0)
        with pytest.raises(DeniedError):
            job.open_session(site.open_direct(terms, sealed, JobKey()))
    assert spent(site, request) == (sealed.content.size, 1)


@over_both_stores
def test_no_witness_no_key_and_nothing_counts(site: DirectSite, sealed: Sealed, lease: tuple[str, str]) -> None:
    request, terms = lease
    with site.calls("job") as job:
        job.close_session(job.open_session(site.open_direct(terms, sealed, JobKey(), files={0})).session)
        with site.frozen("witness"), pytest.raises(UnavailableError):
            job.open_session(site.open_direct(terms, sealed, JobKey(), files={1}))
        assert spent(site, request) == (300, 2)


@over_both_stores
def test_the_process_with_the_keys_does_not_outlive_the_broker(
    site: DirectSite, sealed: Sealed, lease: tuple[str, str]
) -> None:
    with site.calls("job") as job:
        session = job.open_session(site.open_direct(lease[1], sealed, JobKey())).session
    (keeper, *_) = keepers(site)
    site.restart_broker(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{keeper}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with site.calls("job") as job, pytest.raises(DeniedError, match="no such session"):
        job.locate(session, 0)
    assert spent(site, lease[0]) == (sealed.content.size, 1)


def test_keys_that_died_with_their_process_are_rebuilt_from_new_shares_only(site: DirectSite, sealed: Sealed) -> None:
    view, terms = site.granted_direct(sealed, sessions=U64(5), bytes=U64(5 * sealed.content.size))
    before = set(keepers(site))
    with site.calls("job") as job:
        job.open_session(site.open_direct(terms, sealed, JobKey()))
        (keeper,) = set(keepers(site)) - before
        os.kill(keeper, signal.SIGKILL)
        with pytest.raises(UnavailableError, match="keeps the lease's keys has ended"):
            job.open_session(site.open_direct(terms, sealed, JobKey()))
        with pytest.raises(DeniedError, match="shares of nobody are at hand"):
            job.open_session(site.open_direct(terms, sealed, JobKey()))
        with site.calls("dave") as dave:
            view = dave.get_request(view.request)
        assert view.phase == "granted"
        for person in ("alice", "bob"):
            _, release, wrapped = site.decide(view, person)
            with site.calls(person) as calls:
                calls.release_share(release, wrapped)
        key = JobKey()
        reply = job.open_session(site.open_direct(terms, sealed, key))
        assert unsealed(reply, key, view.request, 1) == keys_of(site, sealed, 1)
