"""Questions to a log: what is told was verified, or it is said that it was not."""

from pathlib import Path

import pytest

from custody.adapters.home import Home
from custody.app.auditing import Audit
from custody.app.questions import Known, added, decided, know, of_identity, of_version
from custody.audit.questions import Window
from custody.errors import IntegrityError, NotFoundError
from tests.doubles.world import World
from tests.unit.audit.busy import BATCH, busy, published
from tests.unit.audit.published import Published, forced


def known(log: Published, folder: Path) -> Known:
    how = Audit(Home(folder), log.world.genesis.digest, log.world.deployment)
    return know(log.source(), how, (), verify=True)


@pytest.fixture
def asked(tmp_path: Path) -> Known:
    return known(published(), tmp_path)


def test_an_answer_says_who_asked_why_who_approved_and_what_was_read(asked: Known) -> None:
    found = of_version(asked, "demo/large@2", Window())
    assert [item["stands"] for item in found] == ["denied", "revoked", "requested"]
    (revoked,) = [item for item in found if item["stands"] == "revoked"]
    assert (revoked["reason"], revoked["ticket"], revoked["bytes"]) == ("nightly evaluation", "EVAL-1", 10_000)
    assert (revoked["approved"], revoked["served"]) == (["carol", "bob"], 4000)
    assert [session["who"] for session in revoked["sessions"]] == [BATCH]
    assert of_identity(asked, BATCH, Window()) == found
    assert of_version(asked, "demo/none@1", Window()) == []
    assert [item["verdict"] for item in decided(asked, "carol", Window())] == ["approve"]


def test_a_wrong_entry_is_told_with_its_finding(tmp_path: Path) -> None:
    world = World(b"wrong")
    world.seal()
    case = world.file()
    forced(world, lambda: case.log_decision(case.decision("erin"), "erin"))
    asked = known(Published.each(world), tmp_path)
    assert asked.report is not None
    assert not asked.report.ok
    (found,) = of_version(asked, "demo/tiny@1", Window())
    assert (found["approved"], found["findings"]) == (["erin"], ["rule-decision"])


def test_a_log_whose_tree_is_not_sound_answers_nothing(tmp_path: Path) -> None:
    log = Published.each(busy(b"unsound"))
    log.files["checkpoint"] = log.note(log.tree.size, root=b"\x01" * 32)
    with pytest.raises(IntegrityError, match="nothing can be answered"):
        known(log, tmp_path)


def test_an_altered_entry_is_not_told_as_if_it_were_the_logs(tmp_path: Path) -> None:
    log = Published.each(busy(b"altered"))
    path = next(path for path in log.files if path == f"tile/entries/000.p/{log.tree.size}")
    log.files[path] = log.files[path].replace(b'"verdict":"deny"', b'"verdict":"veto"', 1)
    with pytest.raises(IntegrityError, match="is not the one that the checkpoint covers"):
        of_version(known(log, tmp_path), "demo/large@2", Window())


def test_documents_that_are_missing_leave_the_answer_without_what_they_say(tmp_path: Path) -> None:
    log = Published.each(busy(b"missing"))
    entry = next(entry for entry in log.world.log.entries if entry.type == "request")
    log.change_document(entry.document("request").envelope, lambda _: None)
    (first, *_) = of_version(known(log, tmp_path), "demo/tiny@1", Window())
    assert first["reason"] is None
    assert "document-altered" in first["findings"]


def test_a_difference_takes_sizes_and_checkpoints_of_this_history_only(asked: Known, tmp_path: Path) -> None:
    log = published()
    kept = tmp_path / "kept"
    kept.write_bytes(log.files["checkpoints/10"])
    found, entries = added(asked, str(kept), "20")
    assert (found.begin, found.end, [index for index, _ in entries]) == (10, 20, list(range(10, 20)))
    assert added(asked, "20", str(kept))[0].begin == 10
    assert added(asked, "46", None)[1] == []
    with pytest.raises(NotFoundError, match="there is no size 47: the log has 46 entries"):
        added(asked, "47", None)
    kept.write_bytes(log.note(10, root=b"\x02" * 32))
    with pytest.raises(IntegrityError, match="two logs have the size 10"):
        added(asked, str(kept), None)
    kept.write_bytes(log.note(99, root=b"\x02" * 32))
    with pytest.raises(IntegrityError, match="of size 99, but this log has 46"):
        added(asked, str(kept), None)


def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    world = busy(b"noise")
    log = Published.each(world)
    log.append([b"no entry at all"])
    assert len(list(known(log, tmp_path).parsed())) == len(world.log.entries)
