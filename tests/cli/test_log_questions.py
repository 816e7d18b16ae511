"""``custody log who``, ``what`` and ``diff`` as an auditor types them."""

import json
from pathlib import Path

import pytest

from tests.doubles.command import Custody
from tests.doubles.documents import change_document
from tests.unit.audit.busy import BATCH, SERVE, published, written


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(published(), tmp_path_factory.mktemp("questions"))


@pytest.fixture
def custody(place: Path) -> Custody:
    return Custody(place, place / "home")


def test_who_opened_a_version_is_a_table_for_people_and_data_for_programs(custody: Custody) -> None:
    done = custody("log", "who", "--version", "demo/large@2", "--log", "log")
    assert "evaluation: nightly evaluation, ticket EVAL-1" in done.out
    assert "denied    alice, bob" in done.out
    assert f"3.9 KiB (4000 bytes)  aborted  {BATCH}" in done.out
    assert "verified: 46 entries, nothing found; freshness unverified" in done.err
    words = ["log", "who", "--version", "demo/large@2", "--log", "log", "--since", "2026-11-22T11:00:00Z"]
    data = json.loads(custody(*words, "--state", "audit.state", "--output", "json").out)
    assert (data["verified"], data["size"], [item["stands"] for item in data["requests"]]) == (True, 46, ["requested"])


def test_what_an_identity_did_and_what_a_custodian_decided(custody: Custody) -> None:
    shown = custody("log", "what", "--identity", SERVE, "--log", "log").out
    assert "no outcome" in shown
    assert shown.count("Entry ") == 2
    lines = custody("log", "what", "--custodian", "alice", "--log", "log").out.splitlines()
    assert lines[0].split()[:4] == ["ENTRY", "TIME", "VERDICT", "AFTER"]
    assert "deny     2 seconds" in lines[2]
    assert (
        "bob has decided nothing"
        in custody(*("log", "what", "--custodian", "bob", "--log", "log", "--until", "2026-11-22")).out
    )


def test_an_answer_without_an_audit_says_so(custody: Custody, place: Path) -> None:
    (place / "root.json").write_bytes(published().world.genesis.encode())
    words = ["log", "what", "--custodian", "carol", "--log", "log", "--unverified", "--root", "root.json"]
    done = custody(*words, "--output", "json")
    assert "warning: NOT AUDITED" in done.err
    assert json.loads(done.out)["verified"] is False


def test_an_answer_from_a_log_with_findings_ends_with_eleven(place: Path, tmp_path: Path) -> None:
    log = published()
    entry = next(entry for entry in log.world.log.entries if entry.type == "decision")
    written(log, tmp_path)
    change_document(tmp_path / "log", entry.documents[0].envelope, lambda data: data[:-1] + b"?")
    done = Custody(tmp_path, tmp_path / "home")("log", "who", "--version", "demo/tiny@1", "--log", "log", code=11)
    assert "FINDINGS  document-altered" in done.out
    assert "what is shown may be wrong" in done.message


def test_entries_of_a_time_are_shown_and_that_they_were_not_audited(custody: Custody, place: Path) -> None:
    (place / "root.json").write_bytes(published().world.genesis.encode())
    words = ["log", "show", "--log", "log", "--root", "root.json", "--since", "2026-11-22T11:33:00Z", "--last", "2"]
    done = custody(*words, "--until", "2026-11-23")
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == ["44", "45"]
    assert "not audited, freshness unverified" in done.err
    assert "not with INDEX" in custody(*words, "3", code=2).message


def test_what_was_added_is_told_in_words(custody: Custody) -> None:
    done = custody("log", "diff", "log/checkpoints/10", "20", "--log", "log")
    assert f"sessions begun: of demo/tiny@1 by {SERVE}" in done.out
    assert "served: 3.6 KiB (3700 bytes)" in done.out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["who", "--version", "tiny"], 10, "is not a version"),
        (["who", "--version", "a@1", "--since", "soon"], 10, "--since: 'soon' is not a time"),
        (["who", "--version", "a@1", "--since", "2026-11-22", "--until", "2026-11-21"], 10, "--until: not after"),
        (["what"], 2, "give --identity or --custodian"),
        (["what", "--custodian", "a", "--state", "s", "--unverified"], 2, "not with --unverified"),
    ],
)
def test_mistakes_are_said_in_one_line(custody: Custody, words: list[str], code: int, text: str) -> None:
    assert text in custody("log", *words, "--log", "log", code=code).message


def test_a_report_is_one_page_that_is_not_written_over(custody: Custody, place: Path) -> None:
    data = json.loads(custody("log", "report", "log", "--html", "page.html", "--last", "20", "--output", "json").out)
    page = place / "page.html"
    assert data == {"bytes": page.stat().st_size, "findings": 0, "page": "page.html", "size": 46, "verified": True}
    assert page.stat().st_mode & 0o777 == 0o600
    assert page.read_text().startswith("<!doctype html>")
    assert "exists" in custody("log", "report", "log", "--html", "page.html", code=14).message
    custody("log", "report", "log", "--html", "page.html", "--force")
    assert page.stat().st_size > data["bytes"]


def test_a_report_of_a_log_with_findings_is_written_and_ends_with_eleven(tmp_path: Path) -> None:
    log = published()
    entry = next(entry for entry in log.world.log.entries if entry.type == "decision")
    written(log, tmp_path)
    change_document(tmp_path / "log", entry.documents[0].envelope, lambda data: data[:-1] + b"?")
    Custody(tmp_path, tmp_path / "home")("log", "report", "log", "--html", "page.html", code=11)
    assert "document-altered" in (tmp_path / "page.html").read_text()


def test_a_watch_tells_a_command_what_came_since_it_was_last_told(custody: Custody, place: Path) -> None:
    words = ["log", "watch", "log", "--once", "--state", "watch.state", "--run", f"tee -a {place}/told"]
    assert custody(*words).out == ""
    memory = place / "watch.state.watch"
    memory.write_text(memory.read_text().replace('"size":"46"', '"size":"20"'))
    done = custody(*words, "--haste", "4s", "--output", "json")
    told = [json.loads(line) for line in (place / "told").read_text().splitlines()]
    assert [json.loads(line) for line in done.out.splitlines()] == told
    assert [(alert["entry"], alert["code"]) for alert in told] == [(21, "haste"), (33, "haste"), (34, "haste")]
    assert custody(*words).out == ""
