"""Direct mode as people meet it: said to be permanent wherever somebody decides, and fetched like any lease."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.people import SIZES, People, running
from tests.doubles.command import Custody
from tests.doubles.direct import DirectSite

PERMANENT = "PERMANENT, NOT REVOCABLE"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    with running(tmp_path_factory.mktemp("people"), DirectSite) as people:
        yield people


def test_it_is_said_to_be_permanent_to_everybody_and_cannot_be_called_back(people: People, tmp_path: Path) -> None:
    request = people.ask("--mode", "direct", "--sessions", "2")
    pending = people.look("alice", "pending", "--output", "json")
    (row,) = json.loads(pending.out)["requests"]
    assert row["mode"] == "direct"
    assert f"request {row['request']} is for direct mode: {PERMANENT}" in pending.err
    for person in ("alice", "bob"):
        approved = people(person, "approve", request, "--yes")
        assert re.search(f"mode +direct: {PERMANENT}", approved.err)
        assert f"DIRECT MODE: {PERMANENT}" in approved.err
        assert "is given the keys of 3 files" in approved.err
    fetched = people.json("job", "fetch", request, "--out", tmp_path / "out")
    assert fetched["bytes"] == fetched["fetched"] == sum(SIZES.values())
    for path in SIZES:
        assert (tmp_path / "out" / path).read_bytes() == people.plain(path)
    revoked = people("olga", "lease", "revoke", fetched["lease"], "--reason", "enough")
    assert "revoked; the log holds it, witnessed" in revoked.out
    assert "NOT CALLED BACK: 1 direct session has begun" in revoked.err


def test_at_a_terminal_the_question_itself_says_it(people: People) -> None:
    request = people.ask("--mode", "direct")
    tool = Custody(people.directory, people.directory / "homes/alice")
    question = "Approve exactly this, PERMANENT and NOT REVOCABLE? [y/N]"
    shown = tool.at_terminal("approve", request, typed=[(question, "n")], code=130)
    assert shown.index(f"DIRECT MODE: {PERMANENT}") < shown.index(question)
