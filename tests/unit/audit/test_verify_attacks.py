"""A log that was tampered with, by those who store it and by those who hold its key: each found, and named."""

from dataclasses import replace

import pytest

from custody.audit.report import Finding
from custody.audit.saved import Seen
from custody.errors import IntegrityError, NotFoundError
from custody.tlog.merkle import leaf_hash
from custody.tlog.note import COSIGNATURE, ED25519, NoteSigner
from custody.tlog.tiles import Tile, parse_bundle
from custody.values import U64
from tests.doubles.world import HOUR, World
from tests.unit.audit.published import Published, codes
from tests.unit.rules.test_honest_history import whole

WHOLE = whole()


@pytest.fixture
def log() -> Published:
    published = Published.each(WHOLE)
    assert published.audit().ok
    return published


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def flip(log: Published, path: str, place: int) -> None:
    data = bytearray(log.files[path])
    data[place] ^= 1
    log.files[path] = bytes(data)


def long_log(size: int = 300) -> Published:
    """A log that has full tiles."""
    world = World()
    while len(world.log.entries) < size:
        world.append("system", reason="clock", count=U64(len(world.log.entries)))
    published = Published(world)
    for end in (1, 200, 256, size):
        published.publish(world.log.entries[len(published.entries) : end])
    assert published.audit().ok
    return published


# ------------------------------------------------------------------------------------------------ who stores the log


def test_a_byte_flipped_in_a_bundle_names_the_entry(log: Published) -> None:
    path = Tile(-1, 0, 41).path()
    place = log.files[path].index(log.entries[7])
    flip(log, path, place + 20)
    report = log.audit()
    assert only([item for item in report.findings if item.follows is None]) == report.findings[0]
    assert codes(report)[0] == (7, "entry-altered")
    assert all(finding.follows == 7 for finding in report.findings if finding.follows is not None)
    assert not report.ok
    assert report.audited == 40


def test_what_builds_on_an_altered_entry_names_it(log: Published) -> None:
    grants = [index for index, entry in enumerate(WHOLE.log.entries) if entry.type == "grant"]
    path = Tile(-1, 0, 41).path()
    flip(log, path, log.files[path].index(log.entries[grants[0]]) + 20)
    report = log.audit()
    assert codes(report)[0] == (grants[0], "entry-altered")
    followers = report.findings[1:]
    assert {finding.follows for finding in followers} == {grants[0]}
    assert {finding.code for finding in followers} <= {f"rule-{entry.type}" for entry in WHOLE.log.entries}


def test_a_forged_partial_tile_is_named_and_the_entries_are_judged_all_the_same(log: Published) -> None:
    flip(log, Tile(0, 0, 41).path(), 32 * 5)
    report = log.audit()
    assert only(report.findings).place == "tile/0/000.p/41"
    assert "hash 5" in only(report.findings).text
    assert report.audited == 41


def test_a_forged_full_tile_is_named() -> None:
    log = long_log()
    flip(log, "tile/0/000", 32 * 9)
    report = log.audit()
    assert (only(report.findings).code, only(report.findings).place) == ("tile", "tile/0/000")


def test_a_full_tile_forged_together_with_its_parent_is_named_and_so_is_the_parent() -> None:
    log = long_log()
    tampered = Published(log.world)
    tampered.append([b"another entry" if i == 9 else data for i, data in enumerate(log.entries)])
    for path in ("tile/0/000", "tile/1/000.p/1"):
        assert log.files[path] != tampered.files[path]
        log.files[path] = tampered.files[path]
    report = log.audit()
    assert {(finding.code, finding.place) for finding in report.findings} == {
        ("tile", "tile/0/000"),
        ("tile", "tile/1/000.p/1"),
    }
    assert report.audited == 300


def test_an_entry_forged_together_with_every_tile_makes_another_root(log: Published) -> None:
    tampered = Published(WHOLE)
    entries = list(log.entries)
    entries[30] = entries[30].replace(b"broker-1", b"broker-2")
    tampered.append(entries)
    for path in log.names("tile/"):
        if path in tampered.files:
            log.files[path] = tampered.files[path]
        else:
            del log.files[path]
    report = log.audit()
    tree = next(finding for finding in report.findings if finding.code == "tree")
    assert tree.entry == 30
    assert tree.place == "checkpoints/31"


def test_a_missing_tile_is_named() -> None:
    log = long_log()
    del log.files["tile/0/000"]
    assert codes(log.audit()) == [(None, "tile-missing")]


@pytest.mark.parametrize("listed", [True, False])
def test_a_missing_bundle_ends_the_audit_and_nobody_says_ok(*, listed: bool) -> None:
    log = long_log()
    for path in log.names("tile/entries/001"):
        del log.files[path]
    report = log.audit(listed=listed)
    assert codes(report) == [(256, "bundle-missing")]
    assert (report.audited, report.size, report.ok) == (256, 300, False)
    assert "stopped" in {remark.code for remark in report.remarks}


def test_a_bundle_that_is_none_is_named(log: Published) -> None:
    flip(log, Tile(-1, 0, 41).path(), 0)
    assert codes(log.audit())[0] == (0, "bundle")


def test_an_old_partial_bundle_with_other_entries_is_named(log: Published) -> None:
    flip(log, "tile/entries/000.p/3", 50)
    assert only(log.audit().findings).place == "tile/entries/000.p/3"


def test_an_old_partial_tile_with_other_hashes_is_named(log: Published) -> None:
    flip(log, "tile/0/000.p/3", 50)
    assert only(log.audit().findings).place == "tile/0/000.p/3"


# ------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_without_witnesses_is_refused(log: Published) -> None:
    log.witnesses = log.world.witnesses[:1]
    log.files["checkpoint"] = log.files["checkpoints/41"] = log.note(41)
    found = only(log.audit().findings)
    assert (found.code, found.place) == ("checkpoint-signature", "checkpoints/41")
    assert "no witness quorum, only w0" in found.text


def test_a_kept_checkpoint_without_witnesses_is_refused(log: Published) -> None:
    log.witnesses = []
    log.files["checkpoints/17"] = log.note(17)
    found = only(log.audit().findings)
    assert (found.code, found.place) == ("checkpoint-signature", "checkpoints/17")


def test_a_checkpoint_of_another_log_key_is_refused(log: Published) -> None:
    log.key = NoteSigner(WHOLE.deployment, ED25519, b"k" * 32)
    log.files["checkpoint"] = log.note(41)
    found = only(log.audit().findings)
    assert (found.code, found.place) == ("checkpoint-signature", "checkpoint")
    assert "not signed by the key of a log" in found.text


def test_a_checkpoint_cosigned_by_strangers_is_refused(log: Published) -> None:
    log.witnesses = [NoteSigner(key.vkey.name, COSIGNATURE, bytes([i]) * 32) for i, key in enumerate(WHOLE.witnesses)]
    log.files["checkpoints/20"] = log.note(20)
    assert codes(log.audit()) == [(None, "checkpoint-signature")]


def test_two_signed_checkpoints_of_one_size_are_a_fork(log: Published) -> None:
    log.files["checkpoint"] = log.note(41, root=b"x" * 32)
    found = only(log.audit().findings)
    assert (found.code, found.place) == ("fork", "checkpoint")
    assert (b"x" * 32).hex() in found.text
    assert log.tree.root().hex() in found.text


def test_a_kept_checkpoint_of_another_history_is_a_fork_when_it_is_signed(log: Published) -> None:
    log.files["checkpoints/17"] = log.note(17, root=b"x" * 32)
    found = only(log.audit().findings)
    assert (found.code, found.place) == ("fork", "checkpoints/17")


def test_a_kept_checkpoint_of_another_history_is_inconsistent_when_it_is_not(log: Published) -> None:
    log.key = NoteSigner(WHOLE.deployment, ED25519, b"k" * 32)
    log.files["checkpoints/17"] = log.note(17, root=b"x" * 32)
    assert codes(log.audit()) == [(None, "checkpoint-signature"), (None, "checkpoint-inconsistent")]


def test_a_kept_checkpoint_under_another_size_is_refused(log: Published) -> None:
    log.files["checkpoints/17"] = log.files["checkpoints/16"]
    assert only(log.audit().findings).text == "checkpoints/17 states size 16"


def test_a_checkpoint_that_was_not_kept_is_missed(log: Published) -> None:
    del log.files["checkpoints/41"]
    assert codes(log.audit()) == [(None, "checkpoint-missing")]
    assert codes(log.audit(listed=False)) == [(None, "checkpoint-missing")]


def test_without_the_newest_checkpoint_the_kept_ones_are_judged_and_it_is_missed(log: Published) -> None:
    del log.files["checkpoint"]
    report = log.audit()
    assert (report.audited, codes(report)) == (41, [(None, "checkpoint-missing")])


def test_an_old_checkpoint_in_place_of_the_newest_hides_nothing(log: Published) -> None:
    log.files["checkpoint"] = log.files["checkpoints/12"]
    report = log.audit()
    assert (report.size, report.audited) == (41, 41)
    assert "checkpoint states size 12" in next(item.text for item in report.remarks if item.code == "shown-older")


def test_a_forged_checkpoint_beyond_the_newest_is_refused(log: Published) -> None:
    log.key = NoteSigner(WHOLE.deployment, ED25519, b"k" * 32)
    log.files["checkpoints/50"] = log.note(41).replace(b"\n41\n", b"\n50\n")
    report = log.audit()
    assert (only(report.findings).place, report.audited) == ("checkpoints/50", 41)


def test_a_checkpoint_of_an_impossible_size_ends_at_the_first_missing_bundle(log: Published) -> None:
    log.files["checkpoint"] = log.note(41).replace(b"\n41\n", b"\n%d\n" % 2**62)
    for path in log.names("checkpoints/"):
        del log.files[path]
    report = log.audit(listed=False)
    assert not report.ok
    assert codes(report)[-1][1] in {"bundle-missing", "bundle"}


# ------------------------------------------------------------------------------------------------------- earlier runs


def test_a_log_that_grew_continues_what_an_earlier_run_saw(log: Published) -> None:
    assert log.audit(saved=log.saved(20)).ok


def test_a_log_that_was_rolled_back_is_refused_naming_both_sizes(log: Published) -> None:
    shorter = Published.each(WHOLE)
    for size in range(21, 42):
        del shorter.files[f"checkpoints/{size}"]
    shorter.files["checkpoint"] = shorter.files["checkpoints/20"]
    found = only(shorter.audit(saved=log.saved()).findings)
    assert found.code == "rollback"
    assert log.tree.root().hex() in found.text
    assert "this log has size 20" in found.text


def test_a_whole_other_history_is_a_fork_naming_both_roots(log: Published) -> None:
    saved = replace(log.saved(20), seen=(Seen(size=U64(20), root="ab" * 32),))
    found = only(log.audit(saved=saved).findings)
    assert found.code == "fork"
    assert "ab" * 32 in found.text
    assert log.tree.root(20).hex() in found.text


def test_the_memory_of_another_deployment_is_refused(log: Published) -> None:
    saved = replace(log.saved(20), deployment="custody.example.org/other")
    with pytest.raises(IntegrityError, match="the saved state is of deployment"):
        log.audit(saved=saved)


# --------------------------------------------------------------------------------------------------------------- pins


def test_another_genesis_than_the_pinned_one_ends_the_audit(log: Published) -> None:
    report = log.audit(genesis="ab" * 32)
    assert codes(report) == [(0, "rule-root")]
    assert "abababababababab… is pinned" in report.findings[0].text
    assert (report.ok, report.audited) == (False, 1)


def test_the_log_of_another_deployment_ends_the_audit(log: Published) -> None:
    report = log.audit(deployment="custody.example.org/prod")
    assert codes(report) == [(0, "rule-root")]
    assert "not of custody.example.org/prod" in report.findings[0].text


def test_without_a_pinned_deployment_the_genesis_digest_says_it(log: Published) -> None:
    report = log.audit(deployment=None)
    assert (report.ok, report.deployment) == (True, WHOLE.deployment)


def test_a_log_without_entries_is_not_ok() -> None:
    empty = Published(World())
    empty.append([])
    assert codes(empty.audit()) == [(None, "empty")]


def test_no_log_at_all_is_said_to_be_none() -> None:
    with pytest.raises(NotFoundError, match="there is no log here"):
        Published(World()).audit()


# ------------------------------------------------------------------------------------- who holds the log's own key


def test_an_entry_that_was_left_out_is_missed() -> None:
    entries = list(WHOLE.log.entries)
    grant = next(index for index, entry in enumerate(entries) if entry.type == "grant")
    log = Published(WHOLE)
    for entry in entries[:grant] + entries[grant + 1 :]:
        log.publish([entry], time=entry.time)
    report = log.audit()
    assert codes(report)[0] == (grant + 2, "rule-opening-intent"), "two releases come before it"
    assert not report.ok


def test_entries_in_another_order_are_refused() -> None:
    entries = list(WHOLE.log.entries)
    place = next(index for index, entry in enumerate(entries) if entry.type == "opening-intent")
    entries[place], entries[place + 1] = entries[place + 1], entries[place]
    log = Published(WHOLE)
    for entry in entries:
        log.publish([entry], time=entry.time)
    assert codes(log.audit())[0] == (place, "rule-opening-outcome")


def test_bytes_that_are_no_entry_are_named_and_the_rest_is_judged() -> None:
    world = World()
    log = Published(world)
    log.publish()
    log.append([b"{}"])
    world.state.size += 1
    world.log.entries.append(world.log.entries[0])  # its place
    world.append("system", reason="clock")
    log.append([world.log.entries[-1].encode()])
    report = log.audit()
    assert codes(report) == [(1, "entry-format")]
    assert report.audited == 3


def test_an_entry_later_than_its_cosignature_is_named() -> None:
    world = World()
    log = Published.each(world)
    world.tick(HOUR)
    world.append("system", reason="clock")
    log.publish(time=world.now - 400)
    found = only(log.audit().findings)
    assert (found.entry, found.code) == (1, "time")


def test_the_bundle_of_a_log_of_one_key_is_what_its_entries_make() -> None:
    log = long_log()
    assert list(parse_bundle(log.files["tile/entries/000"], 256)) == log.entries[:256]
    assert log.tree.hash_at(0, 5) == leaf_hash(log.entries[5])
