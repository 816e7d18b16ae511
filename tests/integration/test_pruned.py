"""A broker whose oldest entries are only in the log: what was decided still holds, and the ledger can be made again."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from custody.adapters.ledger import open_journal
from custody.adapters.store_local import LocalStore
from custody.app.sealing import Sealed
from custody.entries.entry import Entry
from custody.errors import DeniedError
from custody.publishing.archive import WholeJournal
from custody.publishing.pruning import prune_piece
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from tests.doubles.command import Custody
from tests.doubles.site import DEPLOYMENT, PERSONS, Site, now, write_model

HELLOS = 56


@dataclass
class Old:
    """A deployment with a version and a revoked lease among its first entries, and more than a bundle after them."""

    site: Site
    sealed: Sealed
    plain: bytes
    request: str
    revoked: str
    rows: list[tuple[Any, ...]]


def table(site: Site, name: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(site.directory / "broker/ledger.sqlite")) as connection:
        return connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()  # noqa: S608 - our own words


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    """The broker is down, and all that may be pruned was."""
    folder = tmp_path_factory.mktemp("old")
    change = 'row-key = "file:row.key"'
    with Site(
        folder / "site", change_config=lambda text: text.replace(change, f"{change}\nprune-after-days = 1")
    ) as site:
        plain = write_model(folder / "source", {"weights.bin": 1 << 17})
        sealed = site.seal(plain)
        site.register(sealed)
        view, revoked = site.granted(sealed)
        with site.calls("alice") as alice:
            alice.stop(site.stop_document("alice", "revoke", revoked))
        for person in PERSONS:  # each has so many a minute
            with site.calls(person) as calls, ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda _: calls.hello(site.hello(person)), range(HELLOS)))  # noqa: B023 - done here
        site.stop("broker")
        rows = table(site, "entries")
        store = LocalStore(site.directory / "log")
        row_key = (site.directory / "broker/row.key").read_bytes()
        ledger = open_journal(f"sqlite:///{site.directory}/broker/ledger.sqlite", row_key, DEPLOYMENT)
        with closing(store), closing(WholeJournal(ledger, store)) as journal:
            published = Checkpoint.parse(Note.parse(store.get("checkpoint")).text)
            assert prune_piece(journal, store, published, below=len(rows), before=now() + 1) == 256
        assert table(site, "entries") == rows[256:]
        yield Old(site, sealed, (plain / "weights.bin").read_bytes(), view.request, revoked, rows)


def verify(old: Old) -> None:
    pins = ("--genesis", old.site.root_envelope.digest, "--output", "json")
    Custody(old.site.directory, old.site.directory / "home")("log", "verify", "log", *pins)


def test_it_starts_and_everything_holds(old: Old) -> None:
    site = old.site
    site.start_broker()
    with site.calls("dave") as dave:
        assert dave.get_request(old.request).phase == "closed"
        dave.register_version(old.sealed.manifest.encode())  # it is there already, and that is fine
    with site.calls("job") as job:
        with pytest.raises(DeniedError, match="closed: revoked"):
            site.open(job, old.sealed, old.revoked)
        _, lease = site.granted(old.sealed)
        opened = site.open(job, old.sealed, lease)
        assert site.read(job, opened.session) == old.plain
        job.close_session(opened.session)
        with pytest.raises(DeniedError, match="closed: revoked"):
            site.open(job, old.sealed, old.revoked)
    site.stop("broker")  # within a second: who was refused just now is logged all the same, before the goodbye
    said = [Entry.parse(entry).reason for _, entry, _ in table(site, "entries")]
    assert said[-1] == "broker-stop"
    assert said.count("refused-open-session-denied") == 2
    verify(old)
    old.rows += table(site, "entries")[len(old.rows) - 256 :]


def test_a_lost_ledger_is_made_again_whole(old: Old) -> None:
    site = old.site
    rebuild = ("ledger", "rebuild", "--config", "broker/broker.toml", "--from", "log")
    custody = Custody(site.directory, site.directory / "home")
    assert "start the broker" in custody(*rebuild, code=14).err  # nothing is lost: pruned entries count as present
    for path in (site.directory / "broker").glob("ledger.sqlite*"):
        path.unlink()
    custody(*rebuild)
    assert table(site, "entries") == old.rows
    assert table(site, "pruned") == []
    site.start_broker()
    with site.calls("dave") as dave:
        dave.hello(site.hello("dave"))
    site.stop("broker")
    verify(old)
