"""The audit follows a log into its successor, in one walk, and names one that does not go on where the other ended."""

import pytest

from custody.audit.verify import Way
from custody.documents.root import Log
from custody.tlog.note import NoteSigner
from tests.doubles.successor import end_log, final_checkpoint, successor_key, successor_root
from tests.doubles.world import DEPLOYMENT, World
from tests.unit.audit.published import Published, codes, forced

BOTH = ("alice", "dave")


def ended() -> Published:
    """A log that has ended, every entry published on its own."""
    world = World()
    world.closed()
    end_log(world)
    return Published.each(world)


def remarks(log: Published) -> dict[str, str]:
    """What the audit of a good log remarks."""
    report = log.audit()
    assert report.ok, report.findings
    return {remark.code: remark.text for remark in report.remarks if remark.code != "policy"}


def go_on(log: Published, final: bytes | None = None, *, name: str = "custody.example.org/log-2") -> NoteSigner:
    """Begin the successor with its root, in the same place."""
    world = log.world
    key = successor_key(world, name)
    world.log_root(world.sign_root(successor_root(world, key, final or final_checkpoint(world)), *BOTH))
    world.log_key = key
    log.publish()
    return key


@pytest.mark.parametrize("listed", [True, False])
def test_one_walk_verifies_both_logs(listed: bool) -> None:  # noqa: FBT001 - a parameter
    log = ended()
    size = log.tree.size
    assert log.audit(listed=listed).ok
    go_on(log)
    log.world.opened("demo/other@1")
    log.publish()
    for deployment in (log.world.deployment, None):
        report = log.audit(listed=listed, deployment=deployment)
        assert report.ok, report.findings
        assert (report.epoch, report.deployment) == (1, "custody.example.org/log")
        assert report.size > size
    assert log.audit(listed=listed, saved=log.saved(size)).ok


def test_a_third_log_goes_on_from_the_second() -> None:
    log = ended()
    go_on(log)
    log.world.opened("demo/other@1")
    end_log(log.world)
    log.publish()
    go_on(log, name="custody.example.org/log-3")
    log.world.log_hello(log.world.hello())
    log.publish()
    (first, second) = remarks(log)["successor"].split("; ")
    assert first.startswith("custody.example.org/log ended")
    assert second.endswith("its successor custody.example.org/log-3 goes on from there")
    assert log.run(way=Way(structure=True))[0].ok


def test_an_audit_that_ended_with_the_old_log_goes_on_in_the_new_one() -> None:
    log = ended()
    size = log.tree.size
    _, saved = log.run()
    go_on(log)
    log.world.opened("demo/other@1")
    log.publish()
    report, saved = log.run(saved)
    assert (report.ok, report.begun, report.epoch) == (True, size, 1), report.findings
    log.world.log_hello(log.world.hello())
    log.publish()
    assert log.run(saved)[0].ok


def test_the_structure_alone_shows_that_both_logs_are_one() -> None:
    log = ended()
    go_on(log)
    log.world.opened("demo/other@1")
    log.publish()
    report, _ = log.run(way=Way(structure=True))
    assert report.ok, report.findings
    assert dict(report.types) == {"root": 2, "system": 1}
    forced(log.world, lambda: log.world.log_root(log.world.sign_root(log.world.next_root(), "alice")))
    log.publish()
    assert codes(log.run(way=Way(structure=True))[0]) == [(log.tree.size - 1, "rule-root")]


def test_the_structure_alone_shows_a_successor_of_a_log_that_did_not_end() -> None:
    log = Published(World())
    forced(log.world, lambda: go_on(log))
    report, _ = log.run(way=Way(structure=True))
    assert codes(report)[0] == (1, "rule-root")
    assert "a successor of a log that has not ended" in report.findings[0].text


def test_where_a_log_ended_and_what_goes_on_is_remarked_upon() -> None:
    log = ended()
    size = log.tree.size
    assert remarks(log) == {"ended": f"{DEPLOYMENT} has ended, and no successor of it is here"}
    go_on(log)
    first = f"{DEPLOYMENT} ended at size {size}, and its successor {DEPLOYMENT}-2 goes on from there"
    assert remarks(log) == {"successor": first}
    end_log(log.world)
    log.publish()
    again = log.tree.size
    go_on(log, name=f"{DEPLOYMENT}-3")
    second = f"{DEPLOYMENT}-2 ended at size {again}, and its successor {DEPLOYMENT}-3 goes on from there"
    assert remarks(log) == {"successor": f"{first}; {second}"}


def test_a_later_root_that_names_no_predecessor_any_more_is_found() -> None:
    log = ended()
    key = go_on(log)
    root = log.world.next_root(log=Log(vkey=key.vkey.encode(), predecessor=None))
    forced(log.world, lambda: log.world.log_root(log.world.sign_root(root, *BOTH)))
    log.publish()
    report = log.audit()
    assert codes(report) == [(log.tree.size - 1, "rule-root")]
    assert "trust root of epoch 2: the log is the same, but another one is said" in report.findings[0].text


def test_a_final_checkpoint_of_another_tree_is_a_fork() -> None:
    """The old log's key and a quorum of its witnesses have signed it; the entries say otherwise."""
    log = ended()
    go_on(log, final_checkpoint(log.world, root=b"f" * 32))
    assert codes(log.audit()) == [(log.tree.size - 1, "fork")]


def test_a_successor_that_leaves_out_the_end_of_its_predecessor_is_found() -> None:
    """It begins after an older checkpoint, as good as the final one."""
    log = ended()
    world, size = log.world, log.tree.size - 3
    for path in [f"checkpoints/{number}" for number in range(size + 1, size + 4)]:
        del log.files[path]
    short = Published(world, files={path: data for path, data in log.files.items() if path.startswith("checkpoints/")})
    short.append([entry.encode() for entry in world.log.entries[:size]], time=world.now)
    del world.log.entries[size:]
    world.state.size = size
    world.state.ended = True  # as a lying broker has it
    root = successor_root(world, successor_key(world), final_checkpoint(world, size))
    forced(world, lambda: world.log_root(world.sign_root(root, *BOTH)))
    short.publish()
    assert (size, "rule-root") in codes(short.audit())


def test_an_old_log_that_goes_on_after_its_end_is_found() -> None:
    log = ended()
    go_on(log)
    old = ended()  # the same bytes, elsewhere: its broker and its witnesses go on
    entry = forced(old.world, lambda: old.world.log_hello(old.world.hello()))
    old.publish([entry])
    assert codes(old.audit()) == [(old.tree.size - 1, "rule-hello")]
    log.world.log_hello(log.world.hello())
    log.publish()
    assert (None, "fork") in codes(log.audit(saved=old.saved()))  # who remembers the one sees it in the other


def test_a_successor_published_under_the_old_key_is_refused() -> None:
    log = ended()
    world, old = log.world, log.world.log_key
    go_on(log)
    world.log_key = old
    world.log_hello(world.hello())
    log.publish()
    assert (None, "checkpoint-signature") in codes(log.audit())


def test_the_successors_key_counts_for_nothing_before_its_root() -> None:
    log = ended()
    key = successor_key(log.world)
    log.world.log_key = key
    log.files[f"checkpoints/{log.tree.size}"] = log.files["checkpoint"] = log.note(log.tree.size)
    assert (None, "checkpoint-signature") in codes(log.audit())
