"""A deployment's log ends and another one goes on, with real processes: leases stay, tools follow, the audit is one."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from custody.app.sealing import Sealed
from custody.documents.root import Log
from custody.entries.entry import Entry
from custody.errors import CustodyError, DeniedError
from custody.rules.trust import Seen, Trust
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import Note
from tests.doubles.command import Custody, Done
from tests.doubles.site import DEPLOYMENT, Site, write_model

NEXT = "custody.example.org/test-2"


@dataclass
class Moved:
    """A deployment with a granted and a revoked lease whose log has ended; nothing of the successor is there yet."""

    site: Site
    sealed: Sealed
    plain: bytes
    request: str
    lease: str
    revoked: str
    trust: Trust
    end: Done

    @property
    def custody(self) -> Custody:
        return Custody(self.site.directory, self.site.directory / "home")

    def published(self) -> Checkpoint:
        return Checkpoint.parse(Note.parse((self.site.directory / "log/checkpoint").read_bytes()).text)

    def verify(self, *options: str) -> dict[str, Any]:
        pins = ("--genesis", self.site.root_envelope.digest, "--output", "json", *options)
        found: dict[str, Any] = json.loads(self.custody("log", "verify", "log", *pins).out)
        return found

    def current(self) -> None:
        """A tool that remembers the old log asks what is in force."""
        with self.site.calls("alice") as calls:
            self.trust.take_roots(calls.get_roots())
            hello = self.site.hello("alice")
            self.trust.check_current(calls.hello(hello), hello)


def end_log(site: Site, code: int = 0) -> Done:
    arguments = ("--config", "broker/broker.toml", "--successor", NEXT, "--out", "successor", "--output", "json")
    return Custody(site.directory, site.directory / "home")("broker", "end-log", *arguments, code=code)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    folder = tmp_path_factory.mktemp("moved")
    with Site(folder / "site") as site:
        plain = write_model(folder / "source", {"weights.bin": 1 << 17})
        sealed = site.seal(plain)
        site.register(sealed)
        view, lease = site.granted(sealed)
        _, revoked = site.granted(sealed)
        with site.calls("alice") as alice:
            alice.stop(site.stop_document("alice", "revoke", revoked))
        moved = Moved(
            site,
            sealed,
            (plain / "weights.bin").read_bytes(),
            view.request,
            lease,
            revoked,
            Trust(DEPLOYMENT, site.root_envelope.digest, Seen()),
            Done(0, "", ""),
        )
        moved.current()
        assert "is the broker running" in end_log(site, code=16).err
        site.stop("broker")
        moved.end = end_log(site)
        yield moved


def successor_starts(moved: Moved) -> None:
    """Governance signs; the witness is told; the broker is configured and started."""
    site, made = moved.site, moved.site.directory / "successor"
    root = replace(
        site.next_root(),
        log=Log(vkey=(made / "log.vkey").read_text().strip(), predecessor=(made / "final.checkpoint").read_bytes()),
        witness_policy=tuple((made / "witness.policy").read_text().splitlines()),
    )
    site.stop("witness")
    (site.directory / "keys/log.vkey").write_bytes((made / "log.vkey").read_bytes())
    site.start_witness()
    site.change_config = lambda text: text.replace("file:log.key", "file:../successor/log.key")
    site.replace_root(root, "alice", "bob")


def test_the_log_ends_with_a_witnessed_entry_and_nothing_follows(moved: Moved) -> None:
    said = json.loads(moved.end.out)
    last = moved.published()
    assert (said["log"], said["size"], said["root"]) == (DEPLOYMENT, last.size, last.root.hex())
    assert moved.verify()["ok"]
    assert json.loads(end_log(moved.site).out) == said  # again: nothing more happens
    assert moved.published() == last
    with pytest.raises(AssertionError, match="did not start"):
        moved.site.start_broker()
    assert "no trust root is configured that names its successor" in moved.site.errors("broker")
    assert moved.published() == last


def test_the_successor_takes_over_and_everything_holds(moved: Moved) -> None:
    site, last = moved.site, moved.published()
    successor_starts(moved)
    moved.current()
    now = moved.published()
    assert (now.origin, now.size > last.size) == (NEXT, True)
    old_note = (site.directory / "log" / f"checkpoints/{last.size}").read_bytes()
    with pytest.raises(CustodyError):
        moved.trust.policy.check(old_note)
    with site.calls("job") as job:
        with pytest.raises(DeniedError, match="closed: revoked"):
            site.open(job, moved.sealed, moved.revoked)
        for person in ("alice", "bob"):
            with site.calls("dave") as dave:
                view = dave.get_request(moved.request)
            _, release, wrapped = site.decide(view, person)
            with site.calls(person) as calls:
                calls.release_share(release, wrapped)
        opened = site.open(job, moved.sealed, moved.lease)
        assert site.read(job, opened.session) == moved.plain
        job.close_session(opened.session)
    site.restart_broker()
    moved.current()
    site.stop("broker")
    found = moved.verify()
    assert (found["ok"], found["deployment"]) == (True, DEPLOYMENT)
    went_on = f"{DEPLOYMENT} ended at size {last.size}, and its successor {NEXT} goes on from there"
    assert {"code": "successor", "text": went_on} in found["remarks"]
    assert moved.verify("--structure")["ok"]


def test_the_ledger_is_made_again_across_both_logs(moved: Moved) -> None:
    import sqlite3

    site = moved.site
    ledger = site.directory / "broker/ledger.sqlite"

    def rows() -> list[tuple[int, bytes, bytes]]:
        with closing(sqlite3.connect(ledger)) as connection:
            return connection.execute("SELECT * FROM entries ORDER BY 1").fetchall()

    before = rows()
    assert [Entry.parse(entry).reason for _, entry, _ in before].count("log-end") == 1
    for path in ledger.parent.glob("ledger.sqlite*"):
        path.rename(path.with_name(f"old-{path.name}"))
    moved.custody("ledger", "rebuild", "--config", "broker/broker.toml", "--from", "log")
    assert rows() == before
    site.start_broker()
    moved.current()
    site.stop("broker")
    assert moved.verify()["ok"]


def test_the_old_log_key_is_refused_from_now_on(moved: Moved) -> None:
    moved.site.configure(lambda text: text)
    before = moved.published()
    with pytest.raises(AssertionError, match="did not start"):
        moved.site.start_broker()
    assert "the trust root names custody.example.org/test-2+" in moved.site.errors("broker")
    assert moved.published() == before
