"""Asking, approving, releasing, fetching and stopping, with the commands people type, against a real broker."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.client import Custody as JobLibrary
from tests.cli.people import BOARD, COOL_OFF, SIZES, People, running
from tests.doubles.command import PASSPHRASE, Custody, Done
from tests.doubles.site import JOB, VERSION


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    with running(tmp_path_factory.mktemp("people")) as people:
        yield people


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
    view = _closed(people, request)
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
    home = people.directory / "homes/job"
    with JobLibrary.connect(home) as custody, custody.lease(request).open(patience=60) as session:
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
    _closed(people, request)
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


def _closed(people: People, request: str) -> Any:
    """Show the request when the broker has closed it: it looks twice a second."""
    deadline = time.monotonic() + 30
    while (view := people.json("dave", "show", request, locked=False))["phase"] != "closed":
        assert time.monotonic() < deadline
    return view


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
