"""More than was granted: other files, more bytes, more sessions, longer, later, after the end, in another mode."""

from collections.abc import Callable
from typing import Any

import pytest

from custody.app.sealing import Sealed
from custody.documents.request import Range, ranges_of
from custody.errors import ConflictError, CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.values import U64, Time
from tests.adversaries.conftest import over_both_stores
from tests.doubles.site import DOMAIN, JOB, Site, now

SEGMENT = 1 << 16


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, site: Site, sites: Callable[[str], Site]) -> Site:
    return sites(request.param) if hasattr(request, "param") else site


@pytest.fixture(scope="module")
def weights(site: Site, sealed: Sealed) -> tuple[str, str]:
    """A request for file 1 alone, and its lease."""
    view, lease = site.granted(sealed, files=ranges_of({1}), sessions=U64(20), bytes=U64(200_000))
    return view.request, lease


def sessions(site: Site, request: str) -> tuple[int, int]:
    """What the broker says was spent: bytes and sessions."""
    with site.calls("dave") as dave:
        view = dave.get_request(request)
    return view.bytes_spent, view.sessions_used


@over_both_stores
def test_the_byte_budget_of_a_session(site: Site, sealed: Sealed, source: Any) -> None:
    """Charged before bytes leave, by segment, and what is sent twice counts twice."""
    view, lease = site.granted(sealed)
    with site.calls("job") as job:
        session = job.open_session(site.open_document(lease, {0, 1}, 2 * SEGMENT)).session
        assert len(b"".join(piece.data for piece in job.read(session, 1, 0, 1))) == SEGMENT
        assert len(b"".join(piece.data for piece in job.read(session, 1, 0, 1))) == SEGMENT
        for file, first in ((1, 0), (1, 3), (0, 0)):
            with pytest.raises(DeniedError, match=r"byte budget: .* 0 left in this session"):
                list(job.read(session, file, first, 1))
        job.close_session(session)
    assert sessions(site, view.request) == (2 * SEGMENT, 1)


@over_both_stores
def test_a_budget_that_ends_inside_a_file(site: Site, sealed: Sealed) -> None:
    _, lease = site.granted(sealed)
    with site.calls("job") as job:
        session = job.open_session(site.open_document(lease, {1}, 2 * SEGMENT + 10)).session
        served: list[int] = []
        with pytest.raises(DeniedError, match="byte budget"):
            served.extend(len(piece.data) for piece in job.read(session, 1))
        assert sum(served) == 2 * SEGMENT


def test_the_byte_budget_and_the_sessions_of_a_lease(site: Site, sealed: Sealed) -> None:
    """Ceilings of open sessions count in full, whatever they have read."""
    size = sealed.content.size
    view, lease = site.granted(sealed, sessions=U64(2), bytes=U64(size + 100))
    with site.calls("job") as job:
        first = site.open(job, sealed, lease).session
        with pytest.raises(DeniedError, match=f"{size} asked, 100 left in the lease"):
            site.open(job, sealed, lease)
        second = job.open_session(site.open_document(lease, {0}, 100)).session
        with pytest.raises(DeniedError, match="all 2 sessions of the lease are used"):
            job.open_session(site.open_document(lease, {0}, 1))
        job.close_session(first)
        with pytest.raises(DeniedError, match="all 2 sessions of the lease are used"):
            job.open_session(site.open_document(lease, {0}, 1))
        job.close_session(second)
    with site.calls("dave") as dave:
        after = dave.get_request(view.request)
    assert (after.phase, after.reason) == ("closed", "budget")


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"files": {0, 1}}, DeniedError, "not all of them are in the lease"),
        ({"files": {7}}, DeniedError, "not all of them are in the lease"),
        ({"files": {2**64 - 1}}, DeniedError, "not all of them are in the lease"),
        ({"size": 2**64 - 1}, DeniedError, "left in the lease"),
        ({"lease": "ab" * 32}, NotFoundError, "no lease"),
        ({"deployment": "custody.example.org/staging"}, IntegrityError, "another deployment"),
        ({"xwing": bytes(1216)}, DeniedError, "xwing: the lease is of mode stream"),
        ({"issued": Time(now() - 7200)}, DeniedError, "behind the broker's clock"),
        ({"issued": Time(now() + 7200)}, DeniedError, "ahead of the broker's clock"),
    ],
)
def test_an_open_document_that_asks_for_more(
    site: Site, weights: tuple[str, str], changes: dict[str, Any], error: type[CustodyError], match: str
) -> None:
    request, lease = weights
    spent, used = sessions(site, request)
    asked: dict[str, Any] = {"lease": lease, "files": {1}, "size": 100} | changes
    with site.calls("job") as job:
        with pytest.raises(error, match=match):
            job.open_session(site.open_document(**asked))
        job.open_session(site.open_document(lease, {1}, 100))
    assert sessions(site, request) == (spent + 100, used + 1)


def test_files_and_segments_outside_the_session(site: Site, sealed: Sealed) -> None:
    _, lease = site.granted(sealed)
    with site.calls("job") as job:
        session = job.open_session(site.open_document(lease, {0}, 300)).session
        for file in (1, 2, 2**64 - 1):
            with pytest.raises(DeniedError, match="not in this session"):
                list(job.read(session, file))
            with pytest.raises(DeniedError, match="not in this session"):
                job.read_digests(session, file, 1 << 20)
        for first, count in ((1, 1), (0, 2), (2**64 - 1, 0), (2**63, 2**63 - 1)):
            with pytest.raises(FormatError, match="has segments 0 to 0"):
                list(job.read(session, 0, first, count))
        assert site.read(job, session, 0)


@over_both_stores
def test_reading_after_the_end(site: Site, sealed: Sealed) -> None:
    """After close, after the lease was returned, and with the same document again: nothing but the same outcome."""
    _, lease = site.granted(sealed)
    with site.calls("job") as job:
        document = site.open_document(lease, {0, 1}, sealed.content.size)
        session = job.open_session(document).session
        assert site.read(job, session, 0)
        outcome = job.close_session(session).entry
        acts: tuple[Callable[[], object], ...] = (
            lambda: site.read(job, session, 0),
            lambda: job.read_digests(session, 0, 1 << 20),
        )
        for act in acts:
            with pytest.raises(DeniedError, match="no such session"):
                act()
        assert job.close_session(session).entry == outcome
        with pytest.raises(ConflictError, match="used before"):
            job.open_session(document)


def test_opening_too_early_and_too_late(site: Site, sealed: Sealed) -> None:
    _, early = site.granted(sealed, not_before=site.time(600), open_before=site.time(1200))
    with site.calls("job") as job, pytest.raises(DeniedError, match="the lease begins only at"):
        site.open(job, sealed, early)
    view, soon = site.granted(sealed, open_before=site.time(3), duration=U64(1))
    with site.calls("job") as job, site.calls("dave") as dave:
        session = site.open(job, sealed, soon).session
        assert site.read(job, session, 0)
        while dave.get_request(view.request).phase != "closed":
            dave.get_request(view.request, seen=99, wait_seconds=5)
        assert dave.get_request(view.request).reason == "expired"
        with pytest.raises(DeniedError):
            site.read(job, session, 0)
        with pytest.raises(DeniedError):
            site.open(job, sealed, soon)


REQUESTS: list[tuple[dict[str, Any], type[CustodyError], str]] = [
    ({"mode": "direct"}, DeniedError, "direct-mode-is-off"),
    ({"kind": "reshare", "roster": "custodians"}, DeniedError, "reshare are not served"),
    ({"kind": "destroy"}, DeniedError, "destroy are not served"),
    ({"bytes": U64(2**63)}, DeniedError, "bytes: "),
    ({"files": (Range(first=U64(0), last=U64(2)),)}, DeniedError, "has files 0 to 1"),
    ({"files": (Range(first=U64(2**64 - 1), last=U64(2**64 - 1)),)}, DeniedError, "has files 0 to 1"),
    ({"duration": U64(86400 * 365)}, DeniedError, "policy"),
    ({"purpose": "exfiltration"}, DeniedError, "policy"),
    ({"version": "demo/nothing@1"}, NotFoundError, "no version"),
    ({"content": "ab" * 32}, NotFoundError, "no version"),
    ({"deployment": "custody.example.org/staging"}, DeniedError, "deployment"),
    ({"created": Time(now() - 7200)}, DeniedError, "behind the broker's clock"),
    ({"created": Time(now() + 7200)}, DeniedError, "ahead of the broker's clock"),
    ({"open_before": Time(now() - 10), "not_before": Time(now() - 20)}, DeniedError, "start window is over"),
    ({"beneficiary": "spiffe://evil.example/job/serving"}, DeniedError, "not in the trust domain"),
    ({"beneficiary": f"spiffe://{DOMAIN}/person/alice"}, DeniedError, "identity of a person"),
    ({"beneficiary": f"spiffe://{DOMAIN}/broker/broker-1"}, DeniedError, "identity of a person or broker"),
    ({"beneficiary": f"spiffe://{DOMAIN}/stray"}, DeniedError, "has no owner"),
]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    REQUESTS,
    ids=[f"{next(iter(row[0]))}-{number}" for number, row in enumerate(REQUESTS)],
)
def test_a_request_for_what_nobody_may_have(
    site: Site, sealed: Sealed, changes: dict[str, Any], error: type[CustodyError], match: str
) -> None:
    with site.calls("dave") as dave, pytest.raises(error, match=match):
        dave.submit_request(site.request(sealed, **changes))


def test_a_job_that_asks_for_somebody_else(site: Site, sealed: Sealed) -> None:
    with site.calls("job") as job:
        mine = site.request(sealed, requester=site.workload())
        assert job.submit_request(mine).phase == "requested"
        with pytest.raises(DeniedError, match="asks only for itself"):
            job.submit_request(site.request(sealed, requester=site.workload(), beneficiary=f"{JOB}-2"))
