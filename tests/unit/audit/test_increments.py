"""An audit that goes on where an earlier one ended: it costs what is new, forgets no finding, and is not led astray."""

from collections.abc import Iterator

import pytest

from custody.audit.report import Report
from custody.audit.saved import Memory, Saved
from custody.audit.source import Source
from custody.audit.verify import Pins, Way, verify_log
from custody.errors import FormatError, IntegrityError
from custody.values import U64
from tests.doubles.world import World
from tests.unit.audit.published import Published, codes, forced
from tests.unit.rules.test_honest_history import whole

WHOLE = whole()


def log_to(size: int) -> Published:
    """The first entries of the whole history, a checkpoint after each."""
    log = Published(WHOLE)
    log.publish([])
    grow(log, size)
    return log


def grow(log: Published, size: int) -> None:
    for entry in WHOLE.log.entries[log.tree.size : size]:
        log.publish([entry], time=entry.time)


def memory(log: Published, saved: Saved | None = None) -> Saved:
    """Audit, and take what the next run goes on from, through the bytes of its file."""
    report, after = log.run(saved)
    assert report.ok
    assert after is not None
    return Saved.parse(after.encode(), "audit.state")


def read(log: Published, saved: Saved | None) -> tuple[Report, set[str]]:
    """Audit; return what was read as well."""
    paths: set[str] = set()

    def fetch(path: str) -> bytes:
        paths.add(path)
        return log.fetch(path)

    pins = Pins(log.world.genesis.digest, log.world.deployment)
    return verify_log(Source(fetch, log.names), pins, saved)[0], paths


def test_every_place_to_stop_at_leads_to_the_same_end() -> None:
    whole = log_to(len(WHOLE.log.entries))
    expected = whole.audit()
    for size in range(1, len(WHOLE.log.entries)):
        log = log_to(size)
        saved = memory(log)
        grow(log, len(WHOLE.log.entries))
        report = log.audit(saved=saved)
        assert report.ok
        assert report.begun == size
        report.begun = 0
        assert report.data() == expected.data()


def test_step_by_step_is_the_same_as_all_at_once() -> None:
    log, saved = log_to(1), None
    for size in range(1, len(WHOLE.log.entries) + 1):
        grow(log, size)
        saved = memory(log, saved)
    assert saved is not None
    assert [int(seen.size) for seen in saved.seen] == list(range(1, len(WHOLE.log.entries) + 1))
    assert Memory.parse(saved.memory) == Memory.parse(memory(log).memory)  # sets have no order in bytes


def test_what_was_judged_is_not_read_again() -> None:
    log = log_to(30)
    saved = memory(log)
    grow(log, 33)
    report, paths = read(log, saved)
    assert report.ok
    assert "documents/000.p/33" in paths
    assert {path for path in paths if path.startswith("checkpoints/")} == {f"checkpoints/{n}" for n in (31, 32, 33)}


def test_nothing_new_is_fine_and_the_checkpoint_is_judged_all_the_same() -> None:
    log = log_to(30)
    saved = memory(log)
    assert log.audit(saved=saved).ok
    text = log.files["checkpoint"].partition(b"\n\n")[0] + b"\n"
    log.files["checkpoint"] = text + b"\n" + WHOLE.log_key.sign(text)
    assert (None, "checkpoint-signature") in codes(log.audit(saved=saved))


@pytest.mark.parametrize("at", [5, 29, 30, 31])
def test_another_history_is_a_fork_wherever_it_parts(at: int) -> None:
    """The log is made anew with another entry, and signed and witnessed by the same keys."""
    log = log_to(30)
    saved = memory(log)
    other = Published(WHOLE)
    entries = list(WHOLE.log.entries[:34])
    entries[at] = World.append(World(), "system", reason="clock")
    other.publish([])
    for entry in entries:
        other.publish([entry], time=entry.time)
    report = other.audit(saved=saved)
    forks = [finding for finding in report.findings if finding.code == "fork"]
    assert bool(forks) == (at < 30)
    assert all(saved.newest.root in finding.text for finding in forks)
    assert not report.ok


def test_each_tree_that_was_ever_seen_is_compared_with_a_fork() -> None:
    log, saved = log_to(10), None
    for size in (10, 20, 30):
        grow(log, size)
        saved = memory(log, saved)
    other = Published(WHOLE)
    other.publish([])
    for index, entry in enumerate(WHOLE.log.entries[:32]):
        other.publish([World.append(World(), "system", reason="clock") if index == 15 else entry], time=entry.time)
    texts = [finding.text for finding in other.audit(saved=saved).findings if finding.code == "fork"]
    assert [("for size 20" in text, "for size 30" in text) for text in texts] == [(True, False), (False, True)]


def test_a_shorter_log_is_a_rollback_and_judged_from_the_beginning() -> None:
    saved = memory(log_to(30))
    report, after = log_to(20).run(saved)
    assert codes(report) == [(None, "rollback")]
    assert report.audited == 20
    assert after is None, "the longer memory stays"


def test_a_finding_stays_in_later_runs() -> None:
    world = World()
    world.seal()
    case = world.file()
    case.decide("alice")
    forced(world, lambda: case.grant(persons=("alice",)))
    log = Published.each(world)
    report, saved = log.run()
    assert [code for _, code in codes(report)] == ["rule-grant"]
    assert saved is not None
    forced(world, lambda: case.begin_opening(persons=("alice",), parent=case.found.entry))
    log.publish()
    report, saved = log.run(saved)
    assert [code for _, code in codes(report)] == ["rule-grant", "rule-opening-intent"]
    assert report.findings[1].follows == report.findings[0].entry
    assert not report.ok


def test_a_session_that_began_before_may_end_after() -> None:
    world = World()
    case = world.opened()
    session = case.begin()
    log = Published.each(world)
    report, saved = log.run()
    assert report.ok, "an intent without an outcome is no fault"
    assert [(item.entry, item.type, item.ceiling) for item in report.open] == [
        (len(world.log.entries) - 1, "session-intent", 1000)
    ]
    case.end(session, (0, 700))
    log.publish()
    report, _ = log.run(saved)
    assert (report.ok, report.open) == (True, [])


def test_an_opening_under_way_is_open_and_no_fault() -> None:
    world = World()
    case = world.granted()
    for person in case.quorum:
        case.send(person)
    case.begin_opening()
    report = Published.each(world).audit()
    assert report.ok
    assert [item.type for item in report.open] == ["opening-intent"]


def test_the_memory_of_another_genesis_is_refused() -> None:
    log = log_to(5)
    saved = memory(log)
    with pytest.raises(IntegrityError, match="the saved state is of deployment"):
        log.audit(saved=saved, genesis="ab" * 32)


def mangled(data: bytes) -> Iterator[bytes]:
    yield data[:-1]
    yield data + b"x"
    yield data.replace(b"custody/audit/v2", b"custody/audit/v1")
    half = len(data) // 2
    yield data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    yield b""


def test_a_memory_that_was_changed_is_refused() -> None:
    for data in mangled(memory(log_to(9)).encode()):
        with pytest.raises(FormatError):
            Saved.parse(data, "audit.state")


def test_the_structure_alone_judges_roots_and_nothing_else() -> None:
    log = log_to(len(WHOLE.log.entries))
    report, after = log.run(way=Way(structure=True))
    assert report.ok
    assert (report.hashed, dict(report.types), after) == (41, {"root": 2}, None)
    last = next(entry for entry in reversed(WHOLE.log.entries) if entry.documents)
    log.change_document(last.documents[0].envelope, lambda data: data[:-1] + b"?")
    del log.files["tile/0/000.p/41"]
    assert [code for _, code in codes(log.run(way=Way(structure=True))[0])] == ["tile-missing"]


def test_a_root_that_must_not_follow_is_found_in_the_structure() -> None:
    world = World()
    forced(world, lambda: world.log_root(world.sign_root(world.next_root(), "alice")))
    report, _ = Published.each(world).run(way=Way(structure=True))
    assert codes(report) == [(1, "rule-root")]


def test_a_long_log_goes_on_within_a_tile() -> None:
    world = World()
    log = Published(world)
    log.publish()
    saved = None
    for size in (255, 256, 300, 511, 513, 800):
        while len(world.log.entries) < size:
            world.append("system", reason="clock", count=U64(len(world.log.entries)))
        log.publish()
        report, saved = log.run(saved)
        assert report.ok
    assert report.size == 800


def test_documents_of_earlier_entries_that_are_gone_from_a_wider_bundle_are_missed() -> None:
    """The broker logs more, and leaves out of the new bundle what an auditor has seen in the one before."""
    log = log_to(30)
    saved = memory(log)
    grow(log, 33)
    old = next(entry for entry in WHOLE.log.entries[:30] if entry.type == "decision").documents[0].envelope
    path = log.change_document(old, lambda data: data[:-1] + b"?")
    for narrow in log.names("documents/000.p/"):
        if narrow != path:
            del log.files[narrow]
    report = log.audit(saved=saved)
    assert [(item.code, item.documents, item.place) for item in report.findings] == [("document-altered", (old,), path)]


def test_an_earlier_entry_that_is_another_one_in_a_wider_bundle_is_missed() -> None:
    log = log_to(30)
    saved = memory(log)
    grow(log, 33)
    path = "tile/entries/000.p/33"
    log.files[path] = log.files[path].replace(b'"verdict":"approve"', b'"verdict":"disable"', 1)
    for narrow in log.names("tile/entries/000.p/"):
        if narrow != path:
            del log.files[narrow]
    assert [code for _, code in codes(log.audit(saved=saved))] == ["entry-altered"]
