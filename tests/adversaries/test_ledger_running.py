"""A lying database under a running broker: rows and wrapped shares that change between writing and reading."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.crypto import hpke
from custody.documents.release import ReleaseKey
from custody.errors import CustodyError, IntegrityError
from custody.wire.messages import RequestReply
from tests.doubles import malice
from tests.doubles.site import Site, rng, write_model


def edit(site: Site, statement: str, **values: object) -> None:
    with closing(sqlite3.connect(site.directory / "broker/ledger.sqlite")) as database, database:
        assert database.execute(statement, values).rowcount


def rewrapped(site: Site, sealed: Sealed, view: RequestReply) -> bytes:
    """A share that is not alice's, wrapped as hers: the release key is public, so anybody can."""
    key = [item for item in view.envelopes if item.payloadType == ReleaseKey.payload_type][-1]
    info = hpke.release_info(
        bytes.fromhex(view.request),
        bytes.fromhex(site.lease_of(view)),
        bytes.fromhex(key.digest),
        bytes.fromhex(sealed.manifest.sharing.digest),
        0,
        1,
        site.keys["alice"].key_id,
    )
    return hpke.seal(key.document(ReleaseKey).xwing, info, bytearray(rng(32)))


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(
            "UPDATE shares SET wrapped = :other WHERE request = :request AND slot = '0/1'",
            id="another share in its place",
        ),
        pytest.param(
            "UPDATE shares SET wrapped = randomblob(1168) WHERE request = :request AND slot = '0/1'",
            id="garbage in its place",
        ),
        pytest.param(
            "UPDATE shares SET slot = '0/3' WHERE request = :request AND slot = '0/1'", id="moved to another slot"
        ),
        pytest.param("DELETE FROM shares WHERE request = :request AND slot = '0/1'", id="deleted"),
    ],
)
def test_a_wrapped_share_exchanged_in_the_ledger_blames_nobody(
    site: Site, sealed: Sealed, source: Path, statement: str
) -> None:
    view, lease = site.granted(sealed)
    edit(site, statement, request=view.request, other=rewrapped(site, sealed, view))
    with site.calls("job") as job:
        with pytest.raises(
            IntegrityError, match="slot 0/1: the ledger does not hold the one that was signed"
        ) as caught:
            site.open(job, sealed, lease)
        assert "alice" not in caught.value.message
        outcome = [entry for entry in malice.entries(site) if entry.type == "opening-outcome"][-1]
        assert (outcome.outcome, outcome.reason, outcome.slot) == ("failed", "integrity", None)
        _, release, wrapped = site.decide(view, "alice")
        with site.calls("alice") as alice:
            alice.release_share(release, wrapped)
        assert site.read(job, site.open(job, sealed, lease).session, 1) == (source / "weights.bin").read_bytes()


def test_shares_that_have_done_their_work_are_gone_from_it(site: Site, sealed: Sealed) -> None:
    """Deleted in the transaction that says the lease is open; what says so is published with the session's intent."""
    view, lease = site.granted(sealed)
    shares = "SELECT count(*) FROM shares WHERE request = ?"
    with closing(sqlite3.connect(site.directory / "broker/ledger.sqlite")) as database, site.calls("job") as job:
        assert database.execute(shares, (view.request,)).fetchone() == (2,)
        opened = site.open(job, sealed, lease)
        assert database.execute(shares, (view.request,)).fetchone() == (0,)
        mine = [entry.type for entry in malice.entries(site) if entry.request == view.request]
        assert mine[-2:] == ["opening-outcome", "session-intent"]  # others' sessions may have ended since
        job.close_session(opened.session)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[tuple[Site, Sealed]]:
    """A deployment to be broken for good."""
    with Site(tmp_path / "site") as site:
        sealed = site.seal(write_model(tmp_path / "source", {"weights.bin": 1000}))
        site.register(sealed)
        yield site, sealed


def test_an_entry_edited_after_it_was_published(victim: tuple[Site, Sealed]) -> None:
    site, sealed = victim
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed))
        edit(site, "UPDATE entries SET entry = CAST(replace(entry, 'serving', 'Serving') AS BLOB) WHERE idx = :at",
             at=len(malice.entries(site)) - 1)  # fmt: skip
        with pytest.raises(CustodyError, match="wrong MAC: the row was edited"):
            dave.get_request(view.request)


def test_a_trigger_that_edits_what_is_written(victim: tuple[Site, Sealed]) -> None:
    """It is found before it is hashed: nothing about it is signed, and nothing is released any more."""
    site, sealed = victim
    _, lease = site.granted(sealed)
    with closing(sqlite3.connect(site.directory / "broker/ledger.sqlite")) as database:
        database.execute("""CREATE TRIGGER lie AFTER INSERT ON entries BEGIN
            UPDATE entries SET entry = CAST(replace(entry, 'v1', 'v2') AS BLOB) WHERE idx = new.idx; END""")
    published = (site.directory / "log/checkpoint").read_bytes()
    with site.calls("job") as job, pytest.raises(CustodyError, match="wrong MAC: the row was edited"):
        site.open(job, sealed, lease)
    assert (site.directory / "log/checkpoint").read_bytes() == published
