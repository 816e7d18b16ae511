import base64
import copy
import pickle
from collections.abc import Callable

import pytest

from custody.errors import ConfigError, FormatError, IntegrityError
from custody.tlog.note import (
    COSIGNATURE,
    ED25519,
    MAX_NOTE_SIZE,
    MAX_SIGNATURES,
    Note,
    NoteSigner,
    SignatureLine,
    VKey,
    open_note,
)
from tests.doubles.tlog import TIME, log_signer, seed, witness_signer

# The example of the signed-note specification.
_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
_LINE = (
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
_TEXT = b"This is an example message.\n"
_NOTE = _TEXT + b"\n" + _LINE.encode()


def _note(text: bytes, *lines: bytes) -> bytes:
    return text + b"\n" + b"".join(lines)


def test_the_example_of_the_specification_verifies() -> None:
    opened = open_note(_NOTE, [VKey.parse(_VKEY)])
    assert opened.text == _TEXT
    assert [(vkey.encode(), time) for vkey, time in opened.verified] == [(_VKEY, None)]


def test_one_changed_byte_of_the_text_is_refused() -> None:
    with pytest.raises(IntegrityError, match="does not verify"):
        open_note(_NOTE.replace(b"an example", b"an Example"), [VKey.parse(_VKEY)])


def test_a_text_with_empty_lines_ends_at_the_last_one() -> None:
    signer = log_signer()
    for text in (b"a\n\nb\n", b"a\n\n", b"\n"):
        assert open_note(_note(text, signer.sign(text)), [signer.vkey]).text == text


def test_signature_lines_inside_the_text_are_text() -> None:
    signer = log_signer()
    text = b"a\n\n" + signer.sign(b"a\n")
    stranger = log_signer("other.example", "other")
    with pytest.raises(IntegrityError, match="any known key"):
        open_note(_note(text, stranger.sign(text)), [signer.vkey])


def test_signatures_of_unknown_keys_are_ignored_even_if_they_share_the_name() -> None:
    signer, same_name = log_signer(), log_signer(key="another key")
    text = b"text\n"
    opened = open_note(_note(text, same_name.sign(text), signer.sign(text)), [signer.vkey])
    assert [vkey for vkey, _ in opened.verified] == [signer.vkey]


def test_an_ml_dsa_signature_line_is_ignored() -> None:
    signer = log_signer()
    text = b"text\n"
    post_quantum = SignatureLine("w.example", b"\x01\x02\x03\x04", bytes(8 + 2420)).encode()
    assert len(open_note(_note(text, post_quantum, signer.sign(text)), [signer.vkey]).verified) == 1


def test_a_bad_signature_of_a_known_key_rejects_the_whole_note() -> None:
    good, bad = log_signer(), witness_signer()
    text = b"text\n"
    assert len(open_note(_note(text, good.sign(text), bad.sign(text, TIME)), [good.vkey, bad.vkey]).verified) == 2
    forged = bad.sign(b"other text\n", TIME)
    with pytest.raises(IntegrityError, match=bad.vkey.name):
        open_note(_note(text, good.sign(text), forged), [good.vkey, bad.vkey])
    assert len(open_note(_note(text, good.sign(text), forged), [good.vkey]).verified) == 1


def test_a_known_key_with_a_signature_of_impossible_length_rejects_the_note() -> None:
    signer, witness = log_signer(), witness_signer()
    text = b"text\n"
    for vkey in (signer.vkey, witness.vkey):
        line = SignatureLine(vkey.name, vkey.key_id, b"short").encode()
        with pytest.raises(IntegrityError):
            open_note(_note(text, signer.sign(text), line), [signer.vkey, witness.vkey])


def test_a_duplicated_signature_counts_once() -> None:
    signer = log_signer()
    text = b"text\n"
    assert len(open_note(_note(text, signer.sign(text), signer.sign(text)), [signer.vkey]).verified) == 1


def test_of_two_cosignatures_by_one_key_the_earliest_time_counts_in_any_order() -> None:
    signer = witness_signer()
    text = b"text\n"
    lines = [signer.sign(text, TIME + 5), signer.sign(text, TIME)]
    for ordered in (lines, lines[::-1]):
        assert open_note(_note(text, *ordered), [signer.vkey]).verified == ((signer.vkey, TIME),)


def test_sixteen_signatures_are_accepted_and_too_many_refused() -> None:
    signer = log_signer()
    text = b"text\n"
    strangers = [log_signer(f"s{i}.example", f"s{i}").sign(text) for i in range(MAX_SIGNATURES)]
    assert open_note(_note(text, *strangers[:15], signer.sign(text)), [signer.vkey]).text == text
    with pytest.raises(FormatError, match="more than"):
        Note.parse(_note(text, *strangers, signer.sign(text)))


def test_two_verifiers_that_cannot_be_told_apart_are_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # A real collision of four bytes takes 2^32 work; here the ids are made equal.
    monkeypatch.setattr(VKey, "key_id", property(lambda _: b"same"))
    with pytest.raises(ConfigError, match="share the name"):
        open_note(_NOTE, [log_signer().vkey, log_signer(key="another").vkey])


_LINE_BYTES = _LINE.encode()
_SIGNATURE = _LINE.split(" ")[2].strip()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        b"text\n" + _LINE_BYTES,
        b"\n" + _LINE_BYTES,
        b"text\n\n" + _LINE_BYTES[:-1],
        b"text\n\n" + _LINE_BYTES + b"\n",
        b"text\r\n\n" + _LINE_BYTES,
        b"te\x00xt\n\n" + _LINE_BYTES,
        b"te\txt\n\n" + _LINE_BYTES,
        b"te\xffxt\n\n" + _LINE_BYTES,
        b"text\n\n" + _LINE.replace("— ", "- ").encode(),
        b"text\n\n" + _LINE.replace("— ", "—  ").encode(),
        b"text\n\n" + _LINE.replace("— ", "\u2013 ").encode(),
        b"text\n\n" + _LINE.replace("— ", " — ").encode(),
        b"text\n\n" + _LINE.replace("example.com/foo ", "").encode(),
        b"text\n\n" + _LINE.replace("example.com/foo", "example.com+foo").encode(),
        b"text\n\n" + _LINE.replace("example.com/foo", "example.com\u00a0foo").encode(),
        b"text\n\n" + _LINE.replace("example.com/foo", "example.com\u2028foo").encode(),
        b"text\n\n" + _LINE.replace("example.com/foo", "example.com\u0085foo").encode(),
        b"text\n\n" + _LINE.replace("aQM=", "aQN=").encode(),
        b"text\n\n" + _LINE.replace("aQM=", "aQM").encode(),
        b"text\n\n" + _LINE.replace("aQM=", "aQM= ").encode(),
        b"text\n\n" + _LINE.replace("aQM=", "a-M=").encode(),
        b"text\n\n" + _LINE.replace(_SIGNATURE, "Uw2QOg==").encode(),
        b"text\n\n" + _LINE.replace(_SIGNATURE, "").encode(),
        b"x" * MAX_NOTE_SIZE + b"\n\n" + _LINE_BYTES,
    ],
)
def test_a_malformed_note_is_refused(data: bytes) -> None:
    assert Note.parse(_NOTE).encode() == _NOTE
    with pytest.raises(FormatError):
        Note.parse(data)


def test_line_separators_of_unicode_do_not_split_the_text() -> None:
    signer = log_signer()
    text = "one\u2028two\u0085three\n".encode()
    assert open_note(_note(text, signer.sign(text)), [signer.vkey]).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+530d903a",
        _VKEY.upper(),
        _VKEY.replace("530d903a", "530D903A"),
        _VKEY.replace("530d903a", "530d903b"),
        _VKEY.replace("530d903a", "0530d903a"),
        _VKEY.replace("530d903a", "530d90 3"),
        _VKEY.replace("example.com/foo", "example.com/bar"),
        _VKEY.replace("example.com/foo", ""),
        _VKEY + "\n",
        _VKEY[:-4],
        "name+00000000+",
        "na me+00000000+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "\ud800+00000000+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_a_malformed_vkey_is_refused(text: str) -> None:
    assert VKey.parse(_VKEY).encode() == _VKEY
    with pytest.raises(FormatError):
        VKey.parse(text)


def test_a_vkey_of_small_order_is_refused() -> None:
    for y in (0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18):
        with pytest.raises(FormatError, match="prime group"):
            VKey("name", ED25519, y.to_bytes(32, "little"))
    order_eight = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
    with pytest.raises(FormatError, match="prime group"):
        VKey("name", COSIGNATURE, order_eight)


def test_an_ml_dsa_vkey_is_refused_by_name_and_other_types_by_number() -> None:
    with pytest.raises(FormatError, match=r"w\.example: type 0x06 \(ML-DSA-44"):
        VKey("w.example", 0x06, bytes(1312))
    with pytest.raises(FormatError, match="0x02"):
        VKey("w.example", 0x02, bytes(32))


def test_a_signer_round_trips_through_its_secret_line(rng: Callable[[int], bytes]) -> None:
    signer = NoteSigner.generate("w.example", COSIGNATURE, rng)
    line = signer.encode_secret()
    again = NoteSigner.parse(line)
    assert again.vkey == signer.vkey
    assert again.encode_secret() == line
    for bad in ("", line[1:], line + "\n", line.replace("PRIVATE+KEY+", "PRIVATE+KEY"), line[:-4], line.upper()):
        with pytest.raises(FormatError):
            NoteSigner.parse(bad)


def test_a_secret_line_with_the_id_of_another_key_is_refused() -> None:
    line = log_signer().encode_secret()
    key_id = log_signer().vkey.key_id.hex()
    with pytest.raises(FormatError, match="id is not that"):
        NoteSigner.parse(line.replace(key_id, "00000000"))


def test_a_signer_shows_and_gives_away_nothing() -> None:
    signer = log_signer()
    secret = base64.b64encode(seed("log")).decode()
    assert secret not in repr(signer)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            leak(signer)


def test_only_a_cosignature_has_a_time() -> None:
    with pytest.raises(ValueError, match="needs a time"):
        log_signer().sign(b"text\n", TIME)
    with pytest.raises(ValueError, match="needs a time"):
        witness_signer().sign(b"text\n")
