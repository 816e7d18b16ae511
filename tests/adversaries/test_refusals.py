"""Somebody tries doors: each try of a known peer is an entry with its name, whoever else it was is a number."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.broker.refusals import EACH
from custody.documents.decision import Decision
from custody.entries.entry import Entry
from custody.errors import CustodyError, DeniedError, FormatError, IntegrityError, NotFoundError
from custody.values import U64
from custody.wire.calls import Calls
from custody.wire.messages import RequestReply
from tests.doubles import malice
from tests.doubles.site import DOMAIN, JOB, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment of its own: what others are refused would stand in the log as well."""
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


def refused(site: Site, who: str, least: int) -> list[Entry]:
    """The refusals of a peer in the log, once there are so many; the broker logs them twice a second."""
    for _ in range(60):
        found = [entry for entry in malice.entries(site) if entry.type == "system" and entry.actor]
        found = [entry for entry in found if entry.actor and entry.actor.id == who]
        if len(found) >= least:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{len(found)} refusals of {who} in the log")


def test_refusals_of_a_job_are_entries_that_name_it(site: Site, sealed: Sealed) -> None:
    _, lease = site.granted(sealed, bytes=U64(sealed.content.size))
    with site.calls("job") as job:
        with pytest.raises(NotFoundError, match="no lease"):
            job.open_session(site.open_document("ab" * 32, {0}, 1))
        with pytest.raises(DeniedError):
            job.open_session(site.open_document(lease, {0}, 10 * sealed.content.size))
        with pytest.raises(IntegrityError):
            job.decide(site.sign_as("bob", site.decide(_view(site, sealed), "alice")[0].document(Decision)))
        with pytest.raises(FormatError):
            job.register_version(b"{}")
    credential = site.job_signer().key_id
    found = refused(site, JOB, 4)
    assert {entry.reason for entry in found} == {
        "refused-open-session-unknown",
        "refused-open-session-denied",
        "refused-decide-forged",
        "refused-register-version-malformed",
    }
    assert {entry.actor.credential for entry in found if entry.actor} == {credential}


def _view(site: Site, sealed: Sealed) -> RequestReply:
    with site.calls("dave") as dave:
        return dave.submit_request(site.request(sealed))


def test_a_known_peer_cannot_fill_the_log(site: Site, sealed: Sealed, tmp_path: Path) -> None:
    """Beyond ten a minute it is counted like a stranger, and honest refusals of others are still named."""
    name = f"spiffe://{DOMAIN}/job/noisy"
    files = malice.certificate(site.authority, tmp_path / "noisy", [name])
    with Calls(site.address, "broker-1.custody", files) as noisy:
        for _ in range(15 * EACH):
            with pytest.raises(CustodyError, match="no such session"):
                noisy.close_session("ab" * 32)
    other = f"spiffe://{DOMAIN}/job/quiet"
    files = malice.certificate(site.authority, tmp_path / "quiet", [other])
    with Calls(site.address, "broker-1.custody", files) as quiet, pytest.raises(DeniedError):
        quiet.close_session("ab" * 32)
    assert refused(site, other, 1)
    assert EACH <= len(refused(site, name, EACH)) <= 2 * EACH  # the minute may have turned meanwhile
