import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from custody.errors import FormatError, IntegrityError
from custody.tlog.cosignature import BLOB_SIZE, cosign, message, verify_cosignature
from custody.tlog.note import NoteSigner, VKey, open_note
from tests.doubles.tlog import TIME, seed

_KEY = Ed25519PrivateKey.from_private_bytes(seed("witness"))
_PUBLIC = _KEY.public_key().public_bytes_raw()
_TEXT = b"origin\n1\nxxx\n"


def test_a_cosignature_states_its_time() -> None:
    blob = cosign(_KEY, TIME, _TEXT)
    assert len(blob) == BLOB_SIZE
    assert verify_cosignature(_PUBLIC, _TEXT, blob) == TIME


def test_the_example_of_the_specification_is_made_of_the_same_bytes() -> None:
    text = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert message(1679315147, text) == b"cosignature/v1\ntime 1679315147\n" + text


def test_another_time_text_or_key_is_refused() -> None:
    blob = cosign(_KEY, TIME, _TEXT)
    later = (TIME + 1).to_bytes(8, "big") + blob[8:]
    other = Ed25519PrivateKey.from_private_bytes(seed("other")).public_key().public_bytes_raw()
    for key, text, forged in ((_PUBLIC, _TEXT, later), (_PUBLIC, _TEXT + b"x\n", blob), (other, _TEXT, blob)):
        with pytest.raises(IntegrityError):
            verify_cosignature(key, text, forged)


def test_a_plain_signature_of_the_same_key_is_no_cosignature() -> None:
    with pytest.raises(IntegrityError):
        verify_cosignature(_PUBLIC, _TEXT, TIME.to_bytes(8, "big") + _KEY.sign(_TEXT))


def test_impossible_shapes_and_times_are_refused() -> None:
    blob = cosign(_KEY, TIME, _TEXT)
    for forged in (b"", blob[:-1], blob + b"\0", bytes(8) + blob[8:], b"\x80" + blob[1:]):
        with pytest.raises(FormatError):
            verify_cosignature(_PUBLIC, _TEXT, forged)
    for time in (0, -1, 1 << 63):
        with pytest.raises(ValueError, match="cosignature time"):
            message(time, _TEXT)


def test_a_cosignature_key_is_not_mistaken_for_a_log_key_of_the_same_name() -> None:
    # The same public key and name with another type has another id, so the line is one by an unknown key.
    as_log = VKey("w.example", 0x01, _PUBLIC)
    as_witness = VKey("w.example", 0x04, _PUBLIC)
    assert as_log.key_id != as_witness.key_id
    line = NoteSigner("w.example", 0x04, seed("witness")).sign(_TEXT, TIME)
    assert open_note(_TEXT + b"\n" + line, [as_witness]).verified == ((as_witness, TIME),)
    with pytest.raises(IntegrityError, match="any known key"):
        open_note(_TEXT + b"\n" + line, [as_log])
