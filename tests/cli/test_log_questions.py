"""``custody log who``, ``what`` and ``diff`` as an auditor types them."""

import json
from pathlib import Path

import pytest

from tests.doubles.command import Custody
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
    (tmp_path / "log/documents" / entry.documents[0].envelope).unlink()
    done = Custody(tmp_path, tmp_path / "home")("log", "who", "--version", "demo/tiny@1", "--log", "log", code=11)
    assert "FINDINGS  document-missing" in done.out
    assert "what is shown may be wrong" in done.message


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
