"""Database and files edited while the broker is down: it refuses to start, says why, and publishes nothing."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.crypto.serverkey import ServerKey
from custody.crypto.sodium import random_into
from custody.documents.dsse import sign
from custody.errors import ConfigError, CustodyError, UnavailableError
from tests.doubles import malice
from tests.doubles.site import PERSONS, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment of its own: its broker is down."""
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


@dataclass(frozen=True)
class Stopped:
    """The ledger of a broker that is down, a copy of it, an older copy, and the newest entry of each type."""

    site: Site
    ledger: Path
    honest: Path
    older: Path
    at: dict[str, int]

    def restore(self, copy: Path) -> None:
        for suffix in ("-wal", "-shm"):
            self.ledger.with_name(f"{self.ledger.name}{suffix}").unlink(missing_ok=True)
        shutil.copy(copy, self.ledger)

    def refuses(self, *words: str) -> None:
        errors = self.site.directory / "broker.err"
        before, log = len(errors.read_text()), self.log()
        with pytest.raises(AssertionError, match="did not start"):
            self.site.start_broker()
        said = errors.read_text()[before:]
        assert all(word in said for word in words), said
        assert said.startswith("custody: ")
        assert {**self.log(), **log} == self.log()  # nothing that was published has changed

    @property
    def log_store(self) -> Path:
        return self.site.directory / "log"

    def log(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.log_store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def stopped(site: Site, sealed: Sealed, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A ledger with a lease that was opened, one that was revoked, and a request that one person has approved."""
    _, lease = site.granted(sealed)
    with site.calls("job") as job:
        job.close_session(site.open(job, sealed, lease).session)
    place = tmp_path_factory.mktemp("ledger")
    site.stop("broker")
    ledger = site.directory / "broker/ledger.sqlite"
    shutil.copy(ledger, place / "older")
    shutil.copytree(site.directory / "log", place / "older-log")
    site.start_broker()  # the honest case: nothing was edited
    _, revoked = site.granted(sealed)
    with site.calls("alice") as alice:
        alice.stop(site.stop_document("alice", "revoke", revoked))
    with site.calls("dave") as dave:
        view = dave.submit_request(site.request(sealed))
    site.approve(view, "alice")
    site.stop("broker")
    shutil.copy(ledger, place / "honest")
    at = {entry.type.replace("-", "_"): index for index, entry in enumerate(malice.entries(site))}
    return Stopped(site, ledger, place / "honest", place / "older", at)


@pytest.fixture(autouse=True)
def untouched(stopped: Stopped) -> Iterator[None]:
    yield
    stopped.restore(stopped.honest)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        pytest.param(
            """UPDATE entries SET entry = CAST(replace(entry, '"ok"', '"no"') AS BLOB) WHERE idx = :opening_outcome""",
            ("wrong MAC",),
            id="an entry edited",
        ),
        pytest.param("DELETE FROM entries WHERE idx = :stop", ("lacks entry",), id="a revocation deleted"),
        pytest.param(
            "DELETE FROM entries WHERE idx >= :stop", ("entries", "signed"), id="all since a revocation deleted"
        ),
        pytest.param(
            "INSERT INTO entries SELECT (SELECT max(idx) + 1 FROM entries), entry, mac FROM entries"
            " WHERE idx = :decision",
            ("wrong MAC",),
            id="an approval copied to the end",
        ),
        pytest.param(
            "INSERT INTO entries SELECT (SELECT max(idx) + 1 FROM entries), entry, randomblob(32) FROM entries"
            " WHERE idx = :grant",
            ("wrong MAC",),
            id="a grant inserted with a guessed MAC",
        ),
        pytest.param(
            "UPDATE documents SET envelope = CAST(replace(CAST(envelope AS TEXT), 'keyid', 'keyId') AS BLOB)",
            ("was edited",),
            id="documents edited",
        ),
        pytest.param("DELETE FROM documents", ("no document",), id="documents deleted"),
        pytest.param("DELETE FROM signed_checkpoint", ("rebuild",), id="the signed checkpoint deleted"),
    ],
)
def test_an_edited_ledger_is_not_started_from(stopped: Stopped, statement: str, words: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(stopped.ledger)) as database, database:
        assert database.execute(statement, stopped.at).rowcount
    stopped.refuses(*words)


def test_an_older_copy_of_the_ledger(stopped: Stopped) -> None:
    """A revocation, spent bytes and used ids are gone from it, and every row has its good MAC."""
    stopped.restore(stopped.older)
    stopped.refuses("custody ledger rebuild")


def test_an_older_copy_of_ledger_and_log_together(stopped: Stopped) -> None:
    """They agree with each other: only the witness has seen more. Nothing is signed that it could be shown instead."""
    log = stopped.log_store
    log.rename(log.with_name("newer-log"))
    stopped.restore(stopped.older)
    shutil.copytree(stopped.older.with_name("older-log"), log)
    try:
        stopped.refuses("witness witness-1 holds a checkpoint of size", "custody ledger rebuild")
    finally:
        shutil.rmtree(log)
        log.with_name("newer-log").rename(log)


@pytest.fixture
def begun_anew(stopped: Stopped) -> Iterator[Stopped]:
    """Ledger and log store are empty, as in a new deployment; only the witness remembers."""
    log = stopped.log_store
    log.rename(log.with_name("newer-log"))
    stopped.ledger.unlink()
    log.mkdir()
    yield stopped
    stopped.site.stop("broker")
    stopped.restore(stopped.honest)
    shutil.rmtree(log)
    log.with_name("newer-log").rename(log)


def test_ledger_and_log_begun_anew(begun_anew: Stopped) -> None:
    """A second history from the same genesis, under the same log key, is not even begun."""
    begun_anew.refuses("witness witness-1 holds a checkpoint of size", "custody ledger rebuild")
    assert not begun_anew.log()


def test_ledger_and_log_begun_anew_while_the_witness_is_away(begun_anew: Stopped) -> None:
    """It starts, as a new deployment must; nothing is granted, and when the witness is back no receipt is ever made."""
    site = begun_anew.site
    site.stop("witness")
    site.start_broker()
    with site.calls("alice") as alice:
        with pytest.raises(UnavailableError, match="witness-1"):
            alice.hello(site.hello("alice"))
        site.start_witness()
        for _ in range(50):
            with pytest.raises(CustodyError) as caught:
                alice.hello(site.hello("alice"))
            if isinstance(caught.value, ConfigError):
                break
    assert "witness-1 holds a checkpoint of size" in caught.value.message
    assert not (begun_anew.log_store / "checkpoint").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broker/policy/policy.cedar", ("policy", "trust root")),
        ("broker/broker.key", ("does not name this broker",)),
        ("keys/root.json", ("trust root of epoch 0",)),
    ],
)
def test_what_the_trust_root_names_is_exchanged(
    stopped: Stopped, tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    """Whoever writes the broker's files gains neither policy nor identity nor a root: it does not start with them."""
    path = stopped.site.directory / name
    honest, mode = path.read_bytes(), path.stat().st_mode
    match path.name:
        case "policy.cedar":
            path.write_bytes(honest + b'\n@id("all")\npermit (principal, action, resource);\n')
        case "broker.key":
            with ServerKey.create(tmp_path / "broker.key", random_into):
                shutil.copy(tmp_path / "broker.key", path)
        case _:
            root = replace(stopped.site.root, policy="ab" * 32)
            path.write_bytes(sign(root, [stopped.site.signer(person) for person in PERSONS]).encode())
    stopped.refuses(*words)
    path.write_bytes(honest)
    path.chmod(mode)
