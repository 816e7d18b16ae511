"""The audit of a log that a real broker wrote, and of logs that its own keys signed although they lie."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from custody.adapters.home import Home
from custody.app.auditing import Audit, audit, open_log
from custody.audit.report import Report
from custody.audit.saved import Saved
from custody.entries.entry import Entry, FileBytes, Party
from custody.entries.stored import large_documents
from custody.publishing.tree import DocumentWriter, TreeWriter
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import NoteSigner
from custody.tlog.tiles import Tile, parse_bundle
from custody.values import U64, Time
from custody.wire.calls import Calls
from tests.doubles.command import Custody, Started
from tests.doubles.documents import documents_in
from tests.doubles.site import DEPLOYMENT, PERSONS, Site, now, write_model

BOB = Party(id="person:bob", credential="00" * 32)
SIZES = {"a.bin": 100_000, "b/c.bin": 10}


@dataclass(frozen=True)
class Made:
    """A log that an honest deployment left, the keys that signed it, and a home that pins its genesis."""

    log: Path
    log_key: NoteSigner
    witness_key: NoteSigner
    home: Home
    entries: tuple[Entry, ...]

    def audit(self, directory: Path | None = None, **changes: object) -> Report:
        place = directory or self.log
        with open_log(place, self.home) as source:
            return audit(source, Audit(self.home, directory=place, **changes))  # type: ignore[arg-type]

    def index(self, kind: str) -> int:
        """The first entry of a type."""
        return next(index for index, entry in enumerate(self.entries) if entry.type == kind)

    def copy(self, path: Path) -> Path:
        shutil.copytree(self.log, path)
        return path

    def resign(self, path: Path, entries: Sequence[Entry], *, later: int = 0) -> Path:
        """Write another log with the same keys and documents: one checkpoint, cosigned as a witness would that sees
        it for the first time, ``later`` seconds from now."""
        known = documents_in(self.log)
        tree, behind = TreeWriter(), DocumentWriter()
        made = tree.extend([entry.encode() for entry in entries]) + tree.partial()
        made += behind.extend([[known[item.envelope] for item in entry.documents] for entry in entries])
        for stored in [*made, *behind.partial()]:
            place = path / stored.tile.path()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(stored.data)
        for name, envelope in large_documents(known.values()).items():
            (path / name).write_bytes(envelope)
        text = Checkpoint(DEPLOYMENT, tree.size, tree.root()).encode()
        note = text + b"\n" + self.log_key.sign(text) + self.witness_key.sign(text, now() + later)
        (path / "checkpoints").mkdir()
        (path / "checkpoint").write_bytes(note)
        (path / f"checkpoints/{tree.size}").write_bytes(note)
        return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("audit") / "site") as running:
        yield running


@pytest.fixture(scope="module")
def made(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Sealed, granted, opened, read; the broker killed and started; revoked; and enough hellos for full tiles."""
    folder = tmp_path_factory.mktemp("made")
    sealed = site.seal(write_model(folder / "source", SIZES))
    site.register(sealed)
    _, lease = site.granted(sealed, sessions=U64(3), bytes=U64(3 * sealed.content.size))
    with site.calls("job") as job:
        opened = site.open(job, sealed, lease)
        site.read(job, opened.session)
        job.close_session(opened.session)
        site.open(job, sealed, lease)
    site.restart_broker()
    with site.calls("alice") as alice:
        alice.stop(site.stop_document("alice", "revoke", lease))
    for who in PERSONS:  # one of them alone would have too many in a minute
        with site.calls(who) as calls, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: calls.hello(site.hello(who)), range(52)))  # noqa: B023 - done here
    log = folder / "log"
    site.stop("broker")
    shutil.copytree(site.directory / "log", log)
    site.start_broker()
    home = Home(folder / "home")
    home.pin(DEPLOYMENT, site.root_envelope.digest)
    size = int((log / "checkpoint").read_bytes().split(b"\n")[1])
    entries: list[bytes] = []
    for index in range(-(-size // 256)):
        width = min(256, size - 256 * index)
        entries += parse_bundle((log / Tile(-1, index, width).path()).read_bytes(), width)
    return Made(
        log,
        NoteSigner.parse((site.directory / "broker/log.key").read_text().strip()),
        NoteSigner.parse((site.directory / "witness/witness.key").read_text().strip()),
        home,
        tuple(Entry.parse(data) for data in entries),
    )


def test_the_log_of_an_honest_deployment_verifies(made: Made) -> None:
    report = made.audit()
    assert report.findings == []
    assert report.ok
    assert report.size == report.audited == len(made.entries) > 256
    assert {remark.code for remark in report.remarks} == {"one-witness", "freshness", "policy"}
    assert report.types["session-intent"] == 2


def test_the_policy_answers_an_auditor_as_it_answered_the_broker(site: Site, made: Made) -> None:
    report = made.audit(policies=[site.directory / "broker/policy"])
    assert report.ok
    assert list(report.asked.values()) == [1 + 1 + 2], "a request, a grant, two sessions"
    assert {remark.code for remark in report.remarks} == {"one-witness", "freshness"}


def test_the_broker_shows_the_same_log_in_few_calls(
    site: Site, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    for name in ("get_log_object", "get_log_objects", "list_log_objects"):
        monkeypatch.setattr(Calls, name, counted(calls, name))
    home = reading_from_the_broker(site, tmp_path / "home")
    with open_log(None, home) as source:
        report = audit(source, Audit(home))
    assert report.findings == []
    assert report.ok
    assert report.size > len(made.entries), "the broker has started again since"
    kept = len(list((site.directory / "log/checkpoints").iterdir()))
    assert report.checkpoints == kept > 20, "every one that was kept, as in the directory"
    assert "listed" in {remark.code for remark in report.remarks}
    assert calls["get_log_objects"] <= kept // 64 + 2 * report.size // 64 + 4
    assert calls["get_log_object"] <= 4, "the newest checkpoint, and what is left of the tree's edge"
    assert calls["list_log_objects"] == 6


def reading_from_the_broker(site: Site, folder: Path) -> Home:
    home = Home(folder)
    home.pin(DEPLOYMENT, site.root_envelope.digest)
    tls = site.directory / "tls/alice"
    home.profile_path.write_text(
        home.profile_path.read_text()
        + f'[broker]\naddress = "{site.address}"\nserver_name = "broker-1.custody"\n'
        + f'[tls]\ncertificate = "{tls}/tls.crt"\nkey = "{tls}/tls.key"\nca = "{tls}/ca.pem"\n'
    )
    return home


def counted(calls: Counter[str], name: str) -> Callable[..., object]:
    call = getattr(Calls, name)

    def counting(self: Calls, *args: object, **named: object) -> object:
        calls[name] += 1
        return call(self, *args, **named)

    return counting


def test_a_log_that_is_being_written_verifies(site: Site, made: Made) -> None:
    with site.calls("alice") as alice:
        for _ in range(5):
            alice.hello(site.hello("alice"))
            report = made.audit(site.directory / "log")
            assert report.findings == []
            assert report.ok


def test_an_earlier_run_is_continued_and_a_rollback_refused(site: Site, made: Made, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    assert made.audit(state=state).ok
    first = Saved.parse(state.read_bytes(), "state").newest
    assert int(first.size) == len(made.entries)
    report = made.audit(site.directory / "log", state=state)
    assert report.ok
    assert report.begun == len(made.entries)
    assert Saved.parse(state.read_bytes(), "state").newest.size > first.size
    kept = state.read_bytes()
    report = made.audit(state=state)
    assert [finding.code for finding in report.findings] == ["rollback"]
    assert state.read_bytes() == kept


def test_a_log_that_its_own_keys_signed_anew_is_honest_only_if_its_entries_are(made: Made, tmp_path: Path) -> None:
    assert made.audit(made.resign(tmp_path / "log", made.entries)).ok
    saved = tmp_path / "state"
    assert made.audit(state=saved).ok
    other = made.resign(tmp_path / "other", [*made.entries[:-1], made.entries[-2]])
    assert "fork" in {finding.code for finding in made.audit(other, state=saved).findings}


def without(kind: str) -> Callable[[Made], tuple[list[Entry], str]]:
    def lie(made: Made) -> tuple[list[Entry], str]:
        index = made.index(kind)
        return [*made.entries[:index], *made.entries[index + 1 :]], ""

    return lie


def changed(kind: str, text: str, **fields: object) -> Callable[[Made], tuple[list[Entry], str]]:
    def lie(made: Made) -> tuple[list[Entry], str]:
        entries = list(made.entries)
        index = made.index(kind)
        entries[index] = msgspec.structs.replace(entries[index], **fields)
        return entries, text

    return lie


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(without("decision"), id="a decision left out"),
        pytest.param(without("session-intent"), id="a session left out"),
        pytest.param(without("stop"), id="a revocation left out"),
        pytest.param(changed("grant", "persons whose approvals count", persons=("alice",)), id="a grant of one"),
        pytest.param(changed("session-intent", "other files or bytes", ceiling=U64(1)), id="a smaller ceiling"),
        pytest.param(
            changed(
                "session-outcome",
                "more than the session's ceiling",
                served=(FileBytes(file=U64(0), bytes=U64(10_000_000)),),
            ),
            id="an outcome beyond its ceiling",
        ),
        pytest.param(changed("hello", "the actor is not", actor=BOB), id="another actor"),
        pytest.param(changed("system", "before the entry before it", time=Time(1_700_000_000)), id="a time long ago"),
    ],
)
def test_a_broker_that_lies_in_a_signed_log_is_found_out(
    made: Made, tmp_path: Path, lie: Callable[[Made], tuple[list[Entry], str]]
) -> None:
    entries, text = lie(made)
    report = made.audit(made.resign(tmp_path / "log", entries))
    assert not report.ok
    first = report.findings[0]
    assert first.code.startswith("rule-")
    assert text in first.text


def test_a_certificate_that_witnesses_saw_only_after_its_end_is_refused(made: Made, tmp_path: Path) -> None:
    report = made.audit(made.resign(tmp_path / "log", made.entries, later=2 * 3600))
    sessions = [index for index, entry in enumerate(made.entries) if entry.type == "session-intent"]
    found = [(finding.entry, finding.code) for finding in report.findings if finding.code != "time"]
    assert found == [(i, "certificate") for i in sessions]


def test_another_genesis_is_refused(made: Made, tmp_path: Path) -> None:
    other = Home(tmp_path / "home")
    with open_log(made.log, other) as source:
        report = audit(source, Audit(other, genesis="ab" * 32))
    assert [(finding.entry, finding.code) for finding in report.findings] == [(0, "rule-root")]


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(lambda path: path.unlink(), id="deleted"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"]"), id="edited"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a directory"),
        pytest.param(lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), id="a link"),
        pytest.param(lambda path: os.truncate(path, 32 << 20), id="far too large"),
    ],
)
def test_files_of_the_log_that_were_tampered_with_are_named(
    made: Made, tmp_path: Path, attack: Callable[[Path], object]
) -> None:
    for place in ("documents/000", "tile/0/000", "checkpoints/3", "tile/entries/000"):
        log = made.copy(tmp_path / place.replace("/", "-"))
        attack(log / place)
        report = made.audit(log)
        kept = place != "checkpoints/3" or ((log / place).is_file() and not (log / place).is_symlink())
        assert report.ok != kept, place  # a checkpoint that is gone is not missed, the rest is
        if kept:
            assert place in {finding.place for finding in report.findings}


def test_a_watch_on_a_running_broker_tells_each_thing_once_also_across_its_restart(
    site: Site, made: Made, tmp_path: Path
) -> None:
    """Told on the standard input of a command whose words never change, while the broker and a witness come and go."""
    told = tmp_path / "told"
    custody = Custody(tmp_path, reading_from_the_broker(site, tmp_path / "home").path)
    words = ["--state", tmp_path / "state", "--every", "1s", "--run", f"tee -a {told}"]
    watching = custody.start("log", "watch", "--broker", *words)
    try:
        until((tmp_path / "state.watch").exists, watching)
        sealed = site.seal(write_model(tmp_path / "source", SIZES), "demo/watched@1")
        site.register(sealed)
        site.granted(sealed)
        until(lambda: len(lines(told)) == 2, watching)
        site.restart_broker()
        site.stop("witness")
        site.start_witness()
        site.granted(sealed)
        until(lambda: len(lines(told)) >= 4, watching)
    finally:
        watching.process.send_signal(signal.SIGTERM)
        watching.wait()
    alerts = [json.loads(line) for line in lines(told)]
    assert [alert["code"] for alert in alerts] == ["haste"] * 4
    assert len({alert["entry"] for alert in alerts}) == 4
    assert sorted({alert["about"] for alert in alerts}) == ["alice", "bob"]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def until(what: Callable[[], bool], started: Started) -> None:
    end = time.monotonic() + 90
    while not what():
        assert started.process.poll() is None, started.wait()
        assert time.monotonic() < end
        time.sleep(0.2)
