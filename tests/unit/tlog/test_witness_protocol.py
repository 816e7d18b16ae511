import pytest

from custody.errors import FormatError
from custody.tlog.checkpoint import EMPTY_ROOT, Checkpoint
from custody.tlog.note import SignatureLine
from custody.tlog.witness_protocol import (
    MAX_BODY_SIZE,
    Accepted,
    AddCheckpoint,
    LogState,
    Refused,
    origin_of,
    update,
)
from tests.doubles.tlog import ORIGIN, TIME, Log, log_signer, witness_signer

_LOG = Log(20)
_KEYS = [log_signer().vkey]


def _state(size: int) -> LogState:
    return LogState(size, _LOG.tree.root(size))


def _refusal(state: LogState | None, request: AddCheckpoint) -> Refused:
    answer = update(state, request, _KEYS)
    assert isinstance(answer, Refused)
    return answer


def _sign(checkpoint: Checkpoint) -> bytes:
    text = checkpoint.encode()
    return text + b"\n" + log_signer().sign(text)


def test_the_first_checkpoint_of_a_log_needs_no_proof() -> None:
    answer = update(None, _LOG.request(0, 13), _KEYS)
    assert isinstance(answer, Accepted)
    assert answer.state == _state(13)
    assert [line.name for line in answer.log_lines] == [ORIGIN]


def test_growth_with_a_proof_is_accepted_at_every_size() -> None:
    for old in range(1, 20):
        answer = update(_state(old), _LOG.request(old), _KEYS)
        assert isinstance(answer, Accepted)
        assert answer.checkpoint == _LOG.head()


def test_the_same_checkpoint_may_be_cosigned_again() -> None:
    answer = update(_state(13), _LOG.request(13, 13), _KEYS)
    assert isinstance(answer, Accepted)
    assert answer.state == _state(13)


def test_an_empty_tree_is_accepted_first_and_again() -> None:
    for state in (None, LogState(0, EMPTY_ROOT)):
        answer = update(state, _LOG.request(0, 0), _KEYS)
        assert isinstance(answer, Accepted)
        assert answer.state == LogState(0, EMPTY_ROOT)


def test_an_old_size_above_the_new_is_malformed() -> None:
    assert _refusal(_state(13), AddCheckpoint(13, (), _LOG.checkpoint(7))).status == 400


def test_a_note_that_is_no_checkpoint_is_malformed() -> None:
    text = b"hello\n"
    assert _refusal(None, AddCheckpoint(0, (), text + b"\n" + log_signer().sign(text))).status == 400


def test_an_unsigned_checkpoint_is_forbidden() -> None:
    text = _LOG.head().encode()
    stranger = log_signer(key="stranger").sign(text)
    assert _refusal(None, AddCheckpoint(0, (), text + b"\n" + stranger)).status == 403


def test_a_forged_signature_of_a_trusted_key_is_forbidden() -> None:
    text = _LOG.head().encode()
    forged = log_signer().sign(b"another text\n")
    assert _refusal(None, AddCheckpoint(0, (), text + b"\n" + forged)).status == 403


def test_the_key_of_another_followed_log_is_forbidden() -> None:
    other = log_signer("other.example", "other")
    text = _LOG.head().encode()
    answer = update(None, AddCheckpoint(0, (), text + b"\n" + other.sign(text)), [*_KEYS, other.vkey])
    assert isinstance(answer, Refused)
    assert answer.status == 403


def test_an_unknown_log_is_not_found() -> None:
    assert _refusal(None, Log(5, log_signer("unknown.example", "unknown")).request(0)).status == 404


def test_another_old_size_is_a_conflict_that_names_the_right_one() -> None:
    for state, old, size in ((_state(13), 7, 13), (None, 7, 0), (_state(13), 0, 13)):
        answer = _refusal(state, _LOG.request(old))
        assert (answer.status, answer.size) == (409, size)


def test_a_rollback_is_a_conflict() -> None:
    answer = _refusal(_state(13), _LOG.request(7, 9))
    assert (answer.status, answer.size) == (409, 13)


def test_a_fork_is_unprocessable_with_any_proof() -> None:
    fork = Log(20, branch=10)
    for proof in (fork.consistency(13), _LOG.consistency(13), []):
        assert _refusal(_state(13), AddCheckpoint(13, tuple(proof), fork.checkpoint())).status == 422


def test_the_same_size_with_another_root_is_unprocessable() -> None:
    fork = Log(13, branch=10)
    assert _refusal(_state(13), AddCheckpoint(13, (), fork.checkpoint())).status == 422


def test_a_proof_where_none_is_needed_is_unprocessable() -> None:
    for state, size in ((None, 5), (_state(13), 13)):
        request = AddCheckpoint(state.size if state else 0, (bytes(32),), _LOG.checkpoint(size))
        assert _refusal(state, request).status == 422


def test_an_empty_tree_with_another_root_is_unprocessable() -> None:
    assert _refusal(None, AddCheckpoint(0, (), _sign(Checkpoint(ORIGIN, 0, bytes(32))))).status == 422


def test_only_verified_lines_of_the_log_are_kept() -> None:
    # A stored line that nobody verified would come back as a forged signature of a known key later.
    text = _LOG.head().encode()
    witness = witness_signer()
    forged = SignatureLine(witness.vkey.name, witness.vkey.key_id, bytes(72)).encode()
    genuine = log_signer().sign(text)
    note = text + b"\n" + forged + genuine + genuine + witness.sign(text, TIME)
    answer = update(None, AddCheckpoint(0, (), note), _KEYS)
    assert isinstance(answer, Accepted)
    assert b"".join(line.encode() for line in answer.log_lines) == genuine


def test_a_log_that_changes_its_key_may_sign_with_both() -> None:
    old, new = log_signer(), log_signer(key="new")
    text = _LOG.head().encode()
    note = text + b"\n" + old.sign(text) + new.sign(text)
    answer = update(None, AddCheckpoint(0, (), note), [old.vkey, new.vkey])
    assert isinstance(answer, Accepted)
    assert len(answer.log_lines) == 2


def test_a_request_round_trips_and_names_its_log() -> None:
    request = _LOG.request(7)
    assert AddCheckpoint.parse(request.encode()) == request
    assert request.encode().startswith(b"old 7\n")
    assert origin_of(request) == ORIGIN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"old 7\n", b"old 07\n"),
        (b"old 7\n", b"old +7\n"),
        (b"old 7\n", b"old  7\n"),
        (b"old 7\n", b"old 7 \n"),
        (b"old 7\n", b"Old 7\n"),
        (b"old 7\n", b"7\n"),
        (b"old 7\n", b""),
        (b"old 7\n", b"\nold 7\n"),
        (b"old 7\n", b"old 9223372036854775808\n"),
        (b"old 7\n", b"old 7\r\n"),
        (b"old 7\n", b"old 7\n" + b"A" * 43 + b"\n"),
        (b"old 7\n", b"old 7\n" + b"AAAA\n"),
        (b"old 7\n", b"old 7\n" + (b"A" * 43 + b"=\n") * 64),
        (b"=\n\nlog", b"=\nlog"),
        (b"\n\xe2\x80\x94", b"\xe2\x80\x94"),
    ],
)
def test_a_malformed_request_is_refused(old: bytes, new: bytes) -> None:
    body = _LOG.request(7).encode()
    changed = body.replace(old, new, 1)
    assert changed != body
    with pytest.raises(FormatError):
        AddCheckpoint.parse(changed)


def test_a_body_above_16_kib_is_refused() -> None:
    text = _LOG.head().encode()
    strangers = b"".join(log_signer("s" * 1000 + str(i), f"s{i}").sign(text) for i in range(16))
    with pytest.raises(FormatError, match="longer than"):
        AddCheckpoint.parse(b"old 0\n\n" + text + b"\n" + strangers)
    assert len(strangers) > MAX_BODY_SIZE
    with pytest.raises(FormatError, match="longer than"):
        AddCheckpoint(0, (), text + b"\n" + strangers)


def test_values_that_no_request_can_hold_are_refused() -> None:
    checkpoint = _LOG.checkpoint()
    for old, proof in ((-1, ()), (1 << 63, ()), (0, (bytes(31),)), (0, (bytes(32),) * 64)):
        with pytest.raises(FormatError):
            AddCheckpoint(old, proof, checkpoint)
