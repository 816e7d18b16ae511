"""Asking, approving, releasing, fetching and stopping, with the commands people type, against a real broker."""

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from custody.app.home import Home
from custody.client import Custody as JobLibrary
from custody.crypto.keyfile import KeyFile
from custody.crypto.sodium import random_into
from custody.documents.root import Group, Roster
from custody.values import U64
from tests.doubles.command import PASSPHRASE, Custody, Done
from tests.doubles.site import DEPLOYMENT, JOB, PERSONS, VERSION, Site, now, write_model

SIZES = {"config.json": 700, "model.safetensors": (6 << 20) + 123, "tokenizer/vocab.txt": 90_000}
BOARD = "frontier/llm@1"
COOL_OFF = 3
_TRIO = Group(name="owners", threshold=2, members=("alice", "bob", "carol"))


@dataclass
class People:
    """A running deployment, and the command as each of its people has it."""

    site: Site
    directory: Path

    def __call__(self, who: str, *words: object, code: int = 0, locked: bool = True) -> Done:
        """Run a command as a person, or as ``job``; ``locked`` types the passphrase."""
        tool = Custody(self.directory, self.directory / "homes" / who)
        typed = [PASSPHRASE] if locked and who in PERSONS else []
        return tool(*words, passphrases=typed, code=code)

    def look(self, who: str, *words: object, code: int = 0) -> Done:
        """Run a command that asks for no passphrase."""
        return self(who, *words, code=code, locked=False)

    def json(self, who: str, *words: object, locked: bool = True) -> Any:
        """Run a command and read what a program would."""
        return json.loads(self(who, *words, "--output", "json", locked=locked).out)

    def ask(self, *words: object, version: str = VERSION) -> str:
        """File a request of dave for the job; returns its digest."""
        asked = self.json(
            "dave", "request", version, "--for", JOB, "--purpose", "serving", "--reason", "a test", *words
        )
        return str(asked["request"]["digest"])

    def granted(self, *words: object, version: str = VERSION) -> str:
        """A request that alice and bob approved."""
        request = self.ask(*words, version=version)
        for person in ("alice", "bob"):
            self(person, "approve", request, "--yes")
        return request

    def restart(self) -> None:
        """Kill the broker and start it again where it was."""
        self.site.restart_broker(signal.SIGKILL)

    def plain(self, path: str) -> bytes:
        return (self.directory / "model" / path).read_bytes()


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    directory = tmp_path_factory.mktemp("people")
    guards = (("custodians", "*", "with-decision", 0), ("board", "frontier/*", "after-quorum", COOL_OFF))
    rosters = [
        Roster(name=name, guards=(pattern,), groups=(_TRIO,), release=mode, cool_off=U64(wait))  # type: ignore[arg-type]
        for name, pattern, mode, wait in guards
    ]
    with Site(directory / "site", rosters=rosters) as site:
        site.configure()  # the port it has now, for every start that follows
        source = write_model(directory / "model", SIZES)
        for version in (VERSION, BOARD):
            site.register(site.seal(source, version, segment=1 << 20))
        people = People(site, directory)
        for who in (*PERSONS, "job"):
            _home(people, who)
        yield people


def _home(people: People, who: str) -> None:
    site, home = people.site, people.directory / "homes" / who
    home.mkdir(parents=True, mode=0o700)
    lines = [f'deployment = "{DEPLOYMENT}"', f'genesis = "{site.root_envelope.digest}"']
    if who in PERSONS:
        locked = KeyFile.lock(site.keys[who], bytearray(PASSPHRASE.encode()), f"{who}/laptop", random_into)
        (home / "own.key").write_bytes(locked.encode())
        (home / "own.key").chmod(0o600)
        lines += [f'person = "{who}"', 'key_file = "own.key"']
    tls = site.directory / "tls" / who
    lines += ["[broker]", f'address = "{site.address}"', 'server_name = "broker-1.custody"', "[tls]"]
    lines += [f'certificate = "{tls}/tls.crt"', f'key = "{tls}/tls.key"', f'ca = "{tls}/ca.pem"']
    (home / "custody.toml").write_text("\n".join(lines) + "\n")


def test_from_the_question_to_the_files(people: People, tmp_path: Path) -> None:
    request = people.ask("--ticket", "OPS-7")
    assert people.json("alice", "pending", locked=False)["requests"][-1]["yours"] == "decide"

    first = people("alice", "approve", request[:8], "--yes")
    for shown in ("a test", "OPS-7", JOB, "dave (person)", "2 of alice, bob, carol", "no earlier lease", "verdict"):
        assert shown in first.err, shown
    assert re.search(r"your share +sent and logged: entry \d+, witnessed", first.out)
    assert "1 of bob, carol" in first.out
    assert people.look("job", "fetch", request, "--out", "early", code=12).message == "the request is not granted yet"

    second = people.json("bob", "approve", request, "--yes", "--note", "as agreed")
    assert second["decision"]["note"] == "as agreed"
    assert second["request"]["phase"] == "granted"
    assert second["request"]["freshness"]["proven"] is True

    out, receipts = tmp_path / "out", tmp_path / "receipts"
    fetched = people.json("job", "fetch", request, "--out", out, "--receipts", receipts, locked=False)
    assert fetched["fetched"] == fetched["bytes"] == sum(SIZES.values())
    for path in SIZES:
        assert (out / path).read_bytes() == people.plain(path)
    for kept in sorted(receipts.glob("*.receipt")):
        checked = people.look("job", "log", "check-receipt", kept, "--root", people.site.directory / "keys")
        assert "valid" in checked.out
    assert {path.name.split(".", 1)[1] for path in receipts.iterdir()} == {
        "intent.receipt",
        "open.json",
        "outcome.receipt",
    }

    lease = people.json("olga", "lease", "list", locked=False)["leases"][-1]
    assert (lease["stands"], lease["sessions"]) == ("open", "1 of 2")
    seen = people.look("carol", "show", request[:12])
    assert "granted, and open as the broker says" in seen.out
    revoked = people("olga", "lease", "revoke", lease["lease"], "--reason", "enough")
    assert "revoked; the log holds it, witnessed" in revoked.out
    denied = people.look("job", "fetch", request, "--out", out, code=12)
    assert denied.message == "the lease is closed: revoked"


def test_what_is_in_custody_is_listed_and_shown(people: People) -> None:
    listed = people.json("job", "versions", locked=False)
    assert [version["version"] for version in listed["versions"]] == [VERSION, BOARD]
    assert VERSION in people.look("alice", "versions").out
    shown = people.look("alice", "show", BOARD)
    assert "roster board: 2 of alice, bob, carol" in shown.out
    assert people.look("alice", "show", "demo/none@1", code=13).message == "there is no version 'demo/none@1'"


def test_at_a_terminal_it_asks_after_showing_and_no_means_no(people: People) -> None:
    request = people.ask()
    tool = Custody(people.directory, people.directory / "homes/alice")
    shown = tool.at_terminal("approve", request, typed=[("Approve exactly this? [y/N]", "n")], code=130)
    assert "Passphrase" not in shown
    shown = tool.at_terminal("approve", request, typed=[("exactly this? [y/N]", "y"), ("Passphrase of", PASSPHRASE)])
    assert shown.index("You sign") < shown.index("Approve exactly this?") < shown.index("Passphrase of")
    assert PASSPHRASE not in shown
    people("dave", "withdraw", request)


@pytest.mark.slow
def test_a_denial_and_what_is_asked_twice(people: People) -> None:
    request = people.ask()
    people("carol", "deny", request, "--yes", "--note", "not this week")
    again = people("carol", "approve", request, "--yes", code=14)
    assert again.message == "carol has decided on these terms already: deny"
    people("alice", "deny", request, "--yes")
    view = people.json("dave", "show", request, locked=False)
    assert view["phase"] == "closed"
    assert view["reason"] == "denied"
    assert [item["verdict"] for item in view["decisions"]] == ["deny", "deny"]


@pytest.mark.slow
def test_the_difference_to_the_last_lease_is_pointed_out(people: People) -> None:
    first = people.granted("--files", "*.json")
    second = people.ask("--files", "*.json", "--duration", "5h")
    shown = people("alice", "approve", second, "--yes").err
    assert "differs in time after it" in shown
    assert "  - time after it: 2 hours" in shown
    assert "  + time after it: 5 hours" in shown
    for request in (first, second):
        people("dave", "withdraw", request)


@pytest.mark.slow
def test_a_fetch_waits_for_the_shares_that_a_restarted_broker_lacks(people: People, tmp_path: Path) -> None:
    request = people.granted()
    tool = Custody(people.directory, people.directory / "homes/job")
    done: list[Done] = []
    out = tmp_path / "out"
    people.restart()
    fetching = threading.Thread(target=lambda: done.append(tool("fetch", request, "--out", out)))
    fetching.start()
    for person in ("alice", "bob"):
        people(person, "release", request, "--yes")
    fetching.join(60)
    assert done
    for path in SIZES:
        assert (out / path).read_bytes() == people.plain(path)
    late = people("alice", "release", request, "--yes", code=14)
    assert late.message == "the lease is open already; no share is needed"


@pytest.mark.slow
def test_a_job_reads_on_after_the_broker_was_killed_in_the_middle_of_a_file(people: People) -> None:
    """In the second session only what is missing is read; keys died with the first process."""
    request = people.granted()
    killed: list[int] = []

    def kill(done: int) -> None:
        if not killed:
            killed.append(done)
            people.restart()
            for person in ("alice", "bob"):
                people(person, "release", request, "--yes")

    path = "model.safetensors"
    buffer = bytearray(SIZES[path])
    with JobLibrary.connect(Home(people.directory / "homes/job")) as custody:
        with custody.lease(request).open(patience=60) as session:
            session.readinto(path, buffer, progress=kill)
            assert bytes(buffer) == people.plain(path)
            assert len(session.receipts) == 2
    view = people.json("dave", "show", request, locked=False)
    assert view["sessions"] == 2
    assert view["spent"] < 2 * sum(SIZES.values())


@pytest.mark.slow
def test_a_fetch_that_was_interrupted_is_resumed(people: People, tmp_path: Path) -> None:
    request = people.granted("--sessions", "3")
    out = tmp_path / "out"
    part = out / "model.safetensors.custody-part"
    out.mkdir(mode=0o700)
    part.write_bytes(people.plain("model.safetensors")[: (3 << 20) + 5])
    part.chmod(0o600)
    fetched = people.json("job", "fetch", request, "--out", out, "--return", locked=False)
    files = {item["path"]: item["fetched"] for item in fetched["files"]}
    assert files["model.safetensors"] == SIZES["model.safetensors"] - (3 << 20)
    assert (out / "model.safetensors").read_bytes() == people.plain("model.safetensors")
    assert people.json("dave", "show", request, locked=False)["reason"] == "returned"


@pytest.mark.slow
def test_a_roster_with_a_cool_off_gets_shares_only_afterwards(people: People, tmp_path: Path) -> None:
    request = people.ask(version=BOARD)
    for person in ("alice", "bob"):
        approved = people(person, "approve", request, "--yes")
        assert "not sent: after the grant and the cool-off" in approved.out
    early = people("alice", "release", request, "--yes", code=12)
    assert early.message.startswith("the cool-off is not over")
    _wait_for(lambda: people.json("dave", "show", request, locked=False)["granted"])
    deadline = time.monotonic() + COOL_OFF + 1
    _wait_for(lambda: time.monotonic() > deadline)
    for person in ("alice", "bob"):
        people(person, "release", request, "--yes")
    people.look("job", "fetch", request, "--out", tmp_path / "out")
    assert (tmp_path / "out/config.json").read_bytes() == people.plain("config.json")


@pytest.mark.slow
def test_inside_the_cool_off_one_veto_ends_it(people: People) -> None:
    request = people.granted(version=BOARD)
    vetoed = people("carol", "deny", request, "--yes", "--note", "stop")
    assert re.search(r"veto +signed and logged", vetoed.out)
    assert people("alice", "release", request, "--yes", code=12).message == "the request is over: denied"


@pytest.mark.slow
def test_a_request_that_is_waited_for(people: People, tmp_path: Path) -> None:
    request = people.ask("--files", "config.json")
    tool = Custody(people.directory, people.directory / "homes/job")
    done: list[Done] = []
    waiting = threading.Thread(
        target=lambda: done.append(tool("fetch", request[:10], "--wait", "1m", "--out", tmp_path / "out"))
    )
    waiting.start()
    for person in ("alice", "carol"):
        people(person, "approve", request, "--yes")
    waiting.join(60)
    assert done
    assert (tmp_path / "out/config.json").read_bytes() == people.plain("config.json")


BAD_REQUESTS = [
    (10, "duration: 0s is not between one second and a year", ["--duration", "0s"]),
    (10, "duration: 'soon' is not a span of time", ["--duration", "soon"]),
    (10, "sessions: must be more than zero", ["--sessions", "0"]),
    (
        10,
        f"bytes: 99999999999 asked, but 2 sessions of these files are {2 * sum(SIZES.values())}",
        ["--bytes", "99999999999"],
    ),
    (10, f"bytes: 0 asked, but 2 sessions of these files are {2 * sum(SIZES.values())}", ["--bytes", "0"]),
    (10, "demo/model@1 has no file 'nope*'", ["--files", "nope*"]),
    (10, "--not-before: 'noon' is not a time", ["--not-before", "noon"]),
    (10, "--reason: character U+001B at position 4 is not allowed", ["--reason", "evil\x1b[2J"]),
    (10, "--ticket: character U+202E at position 0 is not allowed", ["--ticket", "\u202ereversed"]),
    (10, "'job' is not a SPIFFE ID", ["--for", "job"]),
    (
        12,
        "beneficiary: spiffe://example.org/other/x has no owner in the trust root",
        ["--for", "spiffe://example.org/other/x"],
    ),
    (11, None, ["--content", "ab" * 32]),
    (12, None, ["--mode", "direct"]),
    (12, None, ["--purpose", "piracy"]),
]


@pytest.mark.parametrize(("code", "message", "words"), BAD_REQUESTS, ids=[" ".join(w)[:30] for _, _, w in BAD_REQUESTS])
def test_a_bad_request_gets_one_clear_line(people: People, code: int, message: str | None, words: list[str]) -> None:
    base = ["--for", JOB, "--purpose", "serving", "--reason", "a test"]
    done = people("dave", "request", VERSION, *base, *words, code=code)
    assert done.out == ""
    assert message is None or done.message == message


@pytest.mark.slow
def test_who_may_not_is_told_why(people: People, tmp_path: Path) -> None:
    request = people.granted()
    assert people("olga", "approve", request, "--yes", code=12).message == "olga holds no share of demo/model@1"
    assert people("alice", "approve", request, "--yes", code=14).message.startswith("alice has decided")
    assert people("bob", "withdraw", request, code=12).message == "person:bob may not withdraw this"
    assert "the lease is for" in people.look("dave", "fetch", request, "--out", tmp_path / "out", code=16).message
    assert "no key file is named" in people.look("job", "approve", request, code=16).message
    people("dave", "withdraw", request)


@pytest.mark.slow
def test_what_cannot_be_written_costs_no_session(people: People, tmp_path: Path) -> None:
    request = people.granted()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_bytes(b"mine")
    taken = people.look("job", "fetch", request, "--out", tmp_path / "out", code=14)
    assert "config.json exists and is another file" in taken.message
    people.look("job", "fetch", request, "--out", tmp_path / "out/config.json/x", code=13)
    assert people.json("dave", "show", request, locked=False)["sessions"] == 0
    people("dave", "withdraw", request)


@pytest.mark.parametrize(("reference", "code"), [("12345", 10), ("ffffffff", 13), ("../../../x", 10), ("0" * 64, 13)])
def test_references_that_name_nothing(people: People, reference: str, code: int) -> None:
    people.look("alice", "show", reference, code=code)


def test_a_wrong_passphrase_and_a_certificate_that_has_ended(people: People, tmp_path: Path) -> None:
    request = people.ask()
    tool = Custody(people.directory, people.directory / "homes/alice")
    wrong = tool("approve", request, "--yes", passphrases=["not the passphrase"], code=12)
    assert wrong.message.endswith("wrong passphrase or damaged key file")
    people("dave", "withdraw", request)
    home = tmp_path / "home"
    shutil.copytree(people.directory / "homes/job", home)
    people.site.authority.issue(JOB, tmp_path / "tls", hours=10 / 3600, dns=(), now=now() - 30)
    settings = (
        (home / "custody.toml").read_text().replace(str(people.site.directory / "tls/job"), str(tmp_path / "tls"))
    )
    (home / "custody.toml").write_text(settings)
    ended = Custody(people.directory, home)("versions", code=16)
    assert re.search(r"tls\.crt expired at \S+Z$", ended.message)


@pytest.mark.slow
def test_a_stop_is_not_confirmed_while_the_broker_is_away(people: People) -> None:
    request = people.granted()
    tool = Custody(people.directory, people.directory / "homes/dave")
    process = people.site.processes["broker"]
    process.send_signal(signal.SIGSTOP)
    try:
        running = tool.start("withdraw", request, passphrases=[PASSPHRASE])
    finally:
        threading.Timer(2, process.send_signal, [signal.SIGCONT]).start()
    assert running.wait(60) == 0
    if running.stderr:
        running.stderr.close()
    assert people.json("dave", "show", request, locked=False)["reason"] == "withdrawn"


def test_a_forged_genesis_is_refused_by_every_command(people: People, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(people.directory / "homes/alice", home)
    text = (home / "custody.toml").read_text().replace(people.site.root_envelope.digest, "ab" * 32)
    (home / "custody.toml").write_text(text)
    (home / "seen.json").unlink(missing_ok=True)
    for words in (["versions"], ["pending"], ["show", VERSION]):
        refused = Custody(people.directory, home)(*words, code=11)
        assert "is pinned" in refused.message


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
