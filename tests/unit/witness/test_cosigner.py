"""One request: nothing is answered that is not stored, nothing is stored that goes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custody.errors import ConfigError, IntegrityError, UnavailableError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import open_note
from custody.tlog.witness_protocol import Refused
from custody.witness.cosigner import Cosigner
from custody.witness.state import CheckpointStore, SystemDisk, origin_hash
from tests.doubles.tlog import ORIGIN, TIME, Log, log_signer, witness_signer

_LOG = Log(20)
_WITNESS = witness_signer()
_NAME = origin_hash(ORIGIN)


def _cosigner(store: CheckpointStore, clock: Callable[[], int] = lambda: TIME) -> Cosigner:
    return Cosigner(_WITNESS, [log_signer().vkey], store, clock)


def _ask(cosigner: Cosigner, old: int, size: int, log: Log = _LOG) -> bytes | Refused:
    return cosigner.add_checkpoint(log.request(old, size).encode())


def _status(answer: bytes | Refused) -> int:
    return answer.status if isinstance(answer, Refused) else 200


def _stored_size(directory: Path) -> int:
    opened = open_note((directory / _NAME).read_bytes(), [_WITNESS.vkey, log_signer().vkey])
    assert len(opened.verified) == 2
    return Checkpoint.parse(opened.text).size


def test_a_cosignature_is_stored_before_it_is_returned(store: CheckpointStore, tmp_path: Path, disk: Any) -> None:
    line = _ask(_cosigner(store), 0, 7)
    assert isinstance(line, bytes)
    assert open_note(_LOG.checkpoint(7) + line, [_WITNESS.vkey]).verified == ((_WITNESS.vkey, TIME),)
    assert disk.steps == ["write", "sync 0", "rename", "sync 1"]
    assert _stored_size(tmp_path) == 7
    assert (tmp_path / _NAME).stat().st_mode & 0o777 == 0o600


def test_the_stored_checkpoint_bears_both_signatures_and_is_served(store: CheckpointStore) -> None:
    cosigner = _cosigner(store)
    assert cosigner.latest(_NAME) is None
    _ask(cosigner, 0, 7)
    note = cosigner.latest(_NAME)
    assert note is not None
    assert len(open_note(note, [_WITNESS.vkey, log_signer().vkey]).verified) == 2
    assert cosigner.latest(origin_hash("unknown")) is None
    assert cosigner.latest("../lock") is None


def test_refusals_store_nothing(store: CheckpointStore, tmp_path: Path, disk: Any) -> None:
    cosigner = _cosigner(store)
    assert _status(_ask(cosigner, 0, 7)) == 200
    disk.steps.clear()
    assert _status(cosigner.add_checkpoint(b"garbage")) == 400
    assert _status(_ask(cosigner, 0, 7, Log(9, log_signer("unknown.example")))) == 404
    assert _status(_ask(cosigner, 0, 7, Log(9, log_signer(key="stranger")))) == 403
    assert _status(_ask(cosigner, 5, 7)) == 409
    assert _status(_ask(cosigner, 7, 9, Log(9, branch=2))) == 422
    assert disk.steps == []
    assert _stored_size(tmp_path) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([_NAME, "lock"])


def test_the_state_survives_a_restart(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path, _WITNESS.vkey) as store:
        assert _status(_ask(_cosigner(store), 0, 7)) == 200
    with CheckpointStore(tmp_path, _WITNESS.vkey) as store:
        answer = _ask(_cosigner(store), 0, 9)
        assert isinstance(answer, Refused)
        assert (answer.status, answer.size) == (409, 7)
        assert _status(_ask(_cosigner(store), 7, 9)) == 200


def test_a_full_disk_signs_nothing_and_recovers(store: CheckpointStore, tmp_path: Path, disk: Any) -> None:
    cosigner = _cosigner(store)
    _ask(cosigner, 0, 7)
    disk.fail, disk.done_all_the_same = "write", True
    with pytest.raises(UnavailableError):
        _ask(cosigner, 7, 9)
    assert not (tmp_path / f"{_NAME}.new").exists()
    assert cosigner.failed is None
    disk.fail = ""
    disk.done_all_the_same = False
    assert _status(_ask(cosigner, 7, 9)) == 200


@pytest.mark.parametrize("step", ["sync 0", "rename", "sync 1"])
@pytest.mark.parametrize("done", ["not done", "done all the same"])
def test_after_a_failed_step_nothing_is_signed_or_shown_until_a_restart(
    store: CheckpointStore, tmp_path: Path, disk: Any, step: str, done: str
) -> None:
    cosigner = _cosigner(store)
    assert _status(_ask(cosigner, 0, 7)) == 200
    disk.fail, disk.done_all_the_same = step, done == "done all the same"
    with pytest.raises(UnavailableError):
        _ask(cosigner, 7, 9)
    disk.fail = ""
    assert cosigner.failed is not None
    with pytest.raises(UnavailableError, match="closed"):
        _ask(cosigner, 7, 9)
    with pytest.raises(UnavailableError):
        cosigner.latest(_NAME)
    store.close()
    with CheckpointStore(tmp_path, _WITNESS.vkey, SystemDisk()) as again:
        size = _stored_size(tmp_path)
        assert size in (7, 9)
        assert _status(_ask(_cosigner(again), size, 11)) == 200


def test_a_first_signature_that_may_not_be_durable_is_not_shown(store: CheckpointStore, disk: Any) -> None:
    cosigner = _cosigner(store)
    disk.fail = "sync 1"
    with pytest.raises(UnavailableError):
        _ask(cosigner, 0, 7)
    with pytest.raises(UnavailableError):
        cosigner.latest(_NAME)


def test_a_clock_that_jumps_back_signs_nothing(store: CheckpointStore) -> None:
    now = TIME
    cosigner = _cosigner(store, lambda: now)
    assert _status(_ask(cosigner, 0, 7)) == 200
    now -= 1
    with pytest.raises(UnavailableError, match="clock"):
        _ask(cosigner, 7, 9)
    now += 1
    assert _status(_ask(cosigner, 7, 9)) == 200


def test_a_clock_before_1970_signs_nothing(store: CheckpointStore) -> None:
    with pytest.raises(UnavailableError, match="clock"):
        _ask(_cosigner(store, lambda: 0), 0, 7)


def test_a_record_that_somebody_rolls_back_stops_the_witness(store: CheckpointStore, tmp_path: Path) -> None:
    cosigner = _cosigner(store)
    _ask(cosigner, 0, 7)
    old = (tmp_path / _NAME).read_bytes()
    _ask(cosigner, 7, 9)
    (tmp_path / _NAME).write_bytes(old)
    with pytest.raises(UnavailableError, match="changed by somebody else"):
        _ask(cosigner, 7, 11)
    assert cosigner.failed is not None


def test_a_record_that_somebody_removes_stops_the_witness(store: CheckpointStore, tmp_path: Path) -> None:
    cosigner = _cosigner(store)
    _ask(cosigner, 0, 7)
    (tmp_path / _NAME).unlink()
    with pytest.raises(UnavailableError, match="changed by somebody else"):
        _ask(cosigner, 0, 5)


@pytest.mark.parametrize("damage", [b"", b"garbage\n\n", None])
def test_a_damaged_record_is_not_taken_for_a_first_meeting(tmp_path: Path, damage: bytes | None) -> None:
    with CheckpointStore(tmp_path, _WITNESS.vkey) as store:
        _ask(_cosigner(store), 0, 7)
    whole = (tmp_path / _NAME).read_bytes()
    (tmp_path / _NAME).write_bytes(whole.replace(b"\n7\n", b"\n5\n") if damage is None else damage)
    with CheckpointStore(tmp_path, _WITNESS.vkey) as store, pytest.raises(ConfigError, match="signature"):
        _ask(_cosigner(store), 0, 7)


def test_the_record_of_another_log_is_refused(tmp_path: Path) -> None:
    other = Log(5, log_signer("other.example", "other"))
    with CheckpointStore(tmp_path, _WITNESS.vkey) as store:
        cosigner = Cosigner(_WITNESS, [log_signer().vkey, other.signer.vkey], store, lambda: TIME)
        assert _status(_ask(cosigner, 0, 5, other)) == 200
    (tmp_path / origin_hash("other.example")).rename(tmp_path / _NAME)
    with CheckpointStore(tmp_path, _WITNESS.vkey) as store, pytest.raises(ConfigError, match="another log"):
        _ask(_cosigner(store), 5, 7)


def test_a_second_process_on_the_same_directory_is_refused(store: CheckpointStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another process"):
        CheckpointStore(tmp_path, _WITNESS.vkey)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        CheckpointStore(tmp_path / "missing", _WITNESS.vkey)


def test_a_slot_never_goes_back(store: CheckpointStore) -> None:
    _ask(_cosigner(store), 0, 9)
    note = _LOG.checkpoint(7, [_WITNESS])
    with store.slot(ORIGIN) as slot:
        with pytest.raises(IntegrityError, match="go back"):
            slot.replace(note, _LOG.head(7), TIME)
        with pytest.raises(IntegrityError, match="go back"):
            slot.replace(note, Log(9, branch=0).head(), TIME)
        with pytest.raises(IntegrityError, match="earlier time"):
            slot.replace(note, _LOG.head(11), TIME - 1)


def test_keys_of_the_wrong_type_are_refused(store: CheckpointStore) -> None:
    for signer, log in ((log_signer(), log_signer()), (_WITNESS, _WITNESS)):
        with pytest.raises(ConfigError, match="type"):
            Cosigner(signer, [log.vkey], store, lambda: TIME)
