"""What is refused, and the one line that says why."""

import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.people import SIZES, People, running
from tests.doubles.command import PASSPHRASE, Custody
from tests.doubles.site import JOB, VERSION, now


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    with running(tmp_path_factory.mktemp("people")) as people:
        yield people


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
    assert running.wait().code == 0
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
