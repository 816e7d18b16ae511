import base64
import hashlib
import itertools

import pytest

from custody.errors import ConfigError, FormatError, IntegrityError
from custody.tlog.checkpoint import Checkpoint
from custody.tlog.note import COSIGNATURE, ED25519, NoteSigner, VKey
from custody.tlog.policy import Group, LogKey, Policy, Witness, quorum_time
from tests.doubles.tlog import TIME, Log, log_signer, seed, witness_signer

_W = [witness_signer(number) for number in range(8)]
_KEYS = "".join(f"witness w{number} {signer.vkey.encode()}\n" for number, signer in enumerate(_W[:3]))
_LOG_LINE = f"log {log_signer().vkey.encode()} https://log.example/\n"
_TEXT = f"# two of three\n\n{_LOG_LINE}{_KEYS} \tgroup  g 2\tw0 w1 w2\nquorum g\n"
_LOG = Log(5)


def _parse(text: str) -> Policy:
    return Policy.parse(text.encode())


def test_a_policy_is_read_and_written() -> None:
    policy = _parse(_TEXT)
    assert [log.url for log in policy.logs] == ["https://log.example/"]
    assert policy.groups == (Group("g", 2, ("w0", "w1", "w2")),)
    assert Policy.parse(policy.encode()) == policy


def test_a_quorum_of_distinct_witnesses_is_accepted_with_all_counted_times() -> None:
    note = _LOG.checkpoint(cosigners=[_W[0]]) + _W[2].sign(_LOG.head().encode(), TIME + 7)
    checked = _parse(_TEXT).check(note)
    assert checked.checkpoint == _LOG.head()
    assert checked.log == log_signer().vkey
    assert checked.cosigned == {"w0": TIME, "w2": TIME + 7}
    assert quorum_time(checked.cosigned) == (TIME, TIME + 7)


def test_one_witness_signing_twice_is_no_quorum() -> None:
    text = _LOG.head().encode()
    twice = _LOG.checkpoint() + _W[0].sign(text, TIME) + _W[0].sign(text, TIME + 1)
    with pytest.raises(IntegrityError, match="no witness quorum, only w0"):
        _parse(_TEXT).check(twice)


def test_witnesses_without_the_log_are_refused() -> None:
    text = _LOG.head().encode()
    note = text + b"\n" + b"".join(signer.sign(text, TIME) for signer in _W[:3])
    with pytest.raises(IntegrityError, match="not signed by the key of a log"):
        _parse(_TEXT).check(note)


def test_the_key_of_one_log_does_not_speak_for_another() -> None:
    other = log_signer("other.example", "other")
    policy = _parse(f"log {other.vkey.encode()}\n{_TEXT}")
    text = _LOG.head().encode()
    cosignatures = b"".join(signer.sign(text, TIME) for signer in _W[:2])
    policy.check(text + b"\n" + log_signer().sign(text) + cosignatures)
    with pytest.raises(IntegrityError, match="not signed by the key of a log"):
        policy.check(text + b"\n" + other.sign(text) + cosignatures)


def test_a_checkpoint_of_a_log_that_the_policy_does_not_name_is_refused() -> None:
    log = Log(5, log_signer("unknown.example", "unknown"))
    with pytest.raises(IntegrityError, match="not signed by the key of a log"):
        _parse(_TEXT).check(log.checkpoint(cosigners=_W[:2]))


def test_a_bad_cosignature_of_a_known_witness_rejects_the_checkpoint() -> None:
    note = _LOG.checkpoint(cosigners=_W[:2])
    _parse(_TEXT).check(note)
    with pytest.raises(IntegrityError, match="does not verify"):
        _parse(_TEXT).check(note + _W[2].sign(b"another text\n", TIME))


def test_an_empty_tree_with_another_root_is_refused() -> None:
    text = Checkpoint(log_signer().vkey.name, 0, bytes(32)).encode()
    note = text + b"\n" + log_signer().sign(text) + b"".join(signer.sign(text, TIME) for signer in _W[:2])
    with pytest.raises(IntegrityError, match="empty tree"):
        _parse(_TEXT).check(note)


def test_a_note_that_is_no_checkpoint_is_refused() -> None:
    text = b"hello\n"
    note = text + b"\n" + log_signer().sign(text) + b"".join(signer.sign(text, TIME) for signer in _W[:2])
    with pytest.raises(FormatError):
        _parse(_TEXT).check(note)


def test_witnesses_outside_the_quorum_do_not_count() -> None:
    policy = _parse(f"{_LOG_LINE}{_KEYS}quorum w1\n")
    assert [witness.name for witness in policy.counted()] == ["w1"]
    assert policy.check(_LOG.checkpoint(cosigners=_W[:3])).cosigned == {"w1": TIME}
    with pytest.raises(IntegrityError, match="no witness quorum"):
        policy.check(_LOG.checkpoint(cosigners=[_W[0], _W[2]]))


def test_a_policy_without_a_log_accepts_no_checkpoint() -> None:
    policy = _parse(_TEXT.replace(_LOG_LINE, ""))
    note = _LOG.checkpoint(cosigners=_W[:2])
    with pytest.raises(ConfigError, match="names no log"):
        policy.check(note)


def test_the_example_of_nested_groups() -> None:
    lines = [f"witness {name} {signer.vkey.encode()}\n" for name, signer in zip("abcdef", _W, strict=False)]
    lines += ["group X 2 a b c\n", "group Y any d e f\n", "group XY all X Y\n", "quorum XY\n"]
    policy = _parse(_LOG_LINE + "".join(lines))
    assert policy.satisfied_by({"a", "c", "f"})
    assert not policy.satisfied_by({"a", "b", "c"})
    assert not policy.satisfied_by({"a", "d", "e", "f"})
    assert not policy.satisfied_by({"X", "Y", "XY"})  # names of groups are nobody


def test_no_quorum_is_refused() -> None:
    with pytest.raises(ConfigError, match="quorum none"):
        _parse(f"{_LOG_LINE}{_KEYS}quorum none\n")


@pytest.mark.parametrize(
    "groups",
    [
        "group g any w0 w1 w2\nquorum g\n",
        "group g 1 w0 w1\nquorum g\n",
        "group a any w0 w1\ngroup g all a\nquorum g\n",
    ],
)
def test_a_policy_that_permits_a_fork_with_two_disjoint_quorums_is_refused(groups: str) -> None:
    with pytest.raises(ConfigError, match="disjoint"):
        _parse(f"{_LOG_LINE}{_KEYS}{groups}")


def test_two_of_four_permits_a_fork_and_three_of_four_does_not() -> None:
    witnesses = tuple(Witness(f"w{number}", signer.vkey) for number, signer in enumerate(_W[:4]))
    names = tuple(witness.name for witness in witnesses)
    Policy((), witnesses, (Group("g", 3, names),), "g")
    with pytest.raises(ConfigError, match="disjoint"):
        Policy((), witnesses, (Group("g", 2, names),), "g")


def _permits_fork(witnesses: tuple[Witness, ...], groups: tuple[Group, ...], quorum: str) -> bool:
    """Decide by trying every split of the witnesses into two sides."""

    def satisfied(side: set[str]) -> bool:
        met = set(side)
        for group in groups:
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(group.name)
        return quorum in met

    names = [witness.name for witness in witnesses]
    for sides in itertools.product((False, True), repeat=len(names)):
        left = {name for name, side in zip(names, sides, strict=True) if side}
        if satisfied(left) and satisfied(set(names) - left):
            return True
    return False


def test_the_decision_about_forks_agrees_with_trying_every_split() -> None:
    witnesses = tuple(Witness(f"w{number}", signer.vkey) for number, signer in enumerate(_W[:6]))
    names = [witness.name for witness in witnesses]
    tried = forks = 0
    for first, second, k1, k2, k3 in itertools.product((1, 2, 3), (0, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3, 4)):
        a, b, rest = names[:first], names[first : first + second], names[first + second :]
        groups = [Group("A", k1, tuple(a))] + ([Group("B", k2, tuple(b))] if b else [])
        top = (*(group.name for group in groups), *rest)
        groups.append(Group("Q", k3, top))
        if any(group.threshold > len(group.members) for group in groups):
            continue
        permits = _permits_fork(witnesses, tuple(groups), "Q")
        tried += 1
        forks += permits
        if permits:
            with pytest.raises(ConfigError, match="disjoint"):
                Policy((), witnesses, tuple(groups), "Q")
        else:
            Policy((), witnesses, tuple(groups), "Q")
    assert tried > 50
    assert 0 < forks < tried


@pytest.mark.parametrize(
    "text",
    [
        "",
        _TEXT[:-1],
        _TEXT.replace("quorum g\n", ""),
        _TEXT + "quorum g\n",
        _TEXT.replace("quorum g", "quorum"),
        _TEXT.replace("quorum g", "quorum h"),
        _TEXT.replace("quorum g", "quorum g g"),
        _TEXT.replace("quorum g", "Quorum g"),
        "quorum g\n" + _TEXT.replace("quorum g\n", ""),
        _TEXT.replace("w0 w1 w2", "w0 w1 w9"),
        _TEXT.replace("w0 w1 w2", "w0 w1 g"),
        _TEXT.replace("w0 w1 w2", "w0 w1 none"),
        _TEXT.replace("w0 w1 w2", "w0 w1 w1"),
        _TEXT.replace("w0 w1 w2", ""),
        _TEXT.replace("g 2", "g 4"),
        _TEXT.replace("g 2", "g 0"),
        _TEXT.replace("g 2", "g 02"),
        _TEXT.replace("g 2", "g \uff12"),
        _TEXT.replace("g 2", "g most"),
        _TEXT.replace("group  g 2", "group w0 2"),
        _TEXT.replace("group  g 2", "group none 2"),
        _TEXT.replace("witness w1", "witness w0"),
        _TEXT.replace("quorum g", "group h 2 w0 w1\nquorum g"),
        _TEXT.replace("# two", "two"),
        _TEXT.replace("# two", "# \r two"),
        _TEXT.replace("# two", "# \x7f two"),
        _TEXT.replace("# two", "# \x0b two"),
        _TEXT.replace("https://log.example/", "https://log.example/ more"),
        _TEXT.replace("\n", "\r\n"),
        _TEXT + "#" * (1 << 18) + "\n",
    ],
)
def test_a_malformed_policy_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        _parse(text)


def test_unicode_spaces_do_not_separate_fields() -> None:
    with pytest.raises(FormatError, match="line 7"):
        _parse(_TEXT.replace("w0 w1 w2", "w0\u00a0w1 w2"))
    with pytest.raises(FormatError, match="UTF-8"):
        Policy.parse(_TEXT.encode() + b"#\xff\n")


def test_one_key_under_two_names_is_refused() -> None:
    twin = NoteSigner("twin.example", COSIGNATURE, seed("witness 0"))
    with pytest.raises(FormatError, match="occurs twice"):
        _parse(_TEXT.replace("witness w1", f"witness twin {twin.vkey.encode()}\nwitness w1"))


def test_one_key_as_log_and_witness_is_refused() -> None:
    twin = NoteSigner("twin.example", ED25519, seed("witness 0"))
    with pytest.raises(FormatError, match="occurs twice"):
        _parse(f"log {twin.vkey.encode()}\n{_TEXT}")


def test_two_witnesses_of_one_key_name_are_refused() -> None:
    twin = NoteSigner(_W[0].vkey.name, COSIGNATURE, seed("another"))
    with pytest.raises(FormatError, match="two witnesses are called"):
        _parse(_TEXT.replace("witness w1", f"witness twin {twin.vkey.encode()}\nwitness w1"))


def test_keys_of_the_wrong_type_are_refused() -> None:
    as_witness = VKey(log_signer().vkey.name, COSIGNATURE, log_signer().vkey.key)
    with pytest.raises(FormatError, match="0x04 instead of 0x01"):
        _parse(_TEXT.replace(log_signer().vkey.encode(), as_witness.encode()))
    as_log = VKey(_W[0].vkey.name, ED25519, _W[0].vkey.key)
    with pytest.raises(FormatError, match="0x01 instead of 0x04"):
        _parse(_TEXT.replace(_W[0].vkey.encode(), as_log.encode()))


def test_an_ml_dsa_witness_is_refused_with_its_name_and_line() -> None:
    material = b"\x06" + bytes(1312)
    key_id = hashlib.sha256(b"pq.example\n" + material).hexdigest()[:8]
    line = f"witness pq pq.example+{key_id}+{base64.b64encode(material).decode()}\n"
    with pytest.raises(FormatError, match=r"line 1: vkey pq\.example: type 0x06 \(ML-DSA-44"):
        _parse(line + _TEXT)


def test_as_many_witnesses_and_groups_as_the_specification_asks_for_are_accepted() -> None:
    signers = [witness_signer(number) for number in range(32)]
    text = "".join(f"witness w{number} {signer.vkey.encode()}\n" for number, signer in enumerate(signers))
    text += "".join(f"group g{number} all w{number}\n" for number in range(31))
    text += f"group g 17 w31 {' '.join(f'g{number}' for number in range(31))}\nquorum g\n"
    assert len(_parse(text).counted()) == 32


def test_names_and_urls_that_the_file_cannot_hold_are_refused() -> None:
    witness = Witness("w", _W[0].vkey)
    for bad in ("a b", "", "a\nb", "none"):
        with pytest.raises(FormatError):
            Policy((), (Witness(bad, _W[0].vkey),), (), bad if bad != "none" else "w")
    with pytest.raises(FormatError, match="URL"):
        Policy((LogKey(log_signer().vkey, "https://a b"),), (witness,), (), "w")
