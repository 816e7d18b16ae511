import pytest
from blake3 import blake3

from custody.crypto import digests
from custody.crypto.secret import SecretBytes
from custody.errors import FormatError, IntegrityError


def key() -> SecretBytes:
    return SecretBytes.take(bytearray(range(32)))


def test_a_segment_digest_is_keyed_blake3_over_index_and_plaintext() -> None:
    expected = blake3(b"\0\0\0\0\0\0\0\7weights", key=bytes(range(32))).digest()
    assert digests.segment_digest(key(), 7, b"weights") == expected


def test_the_listed_segment_passes_and_keeps_its_content() -> None:
    plaintext = memoryview(bytearray(b"weights" * 1000))
    digests.check_segment(key(), 3, plaintext, digests.segment_digest(key(), 3, plaintext))
    assert bytes(plaintext[:7]) == b"weights"


@pytest.mark.parametrize("what", ["content", "index", "key", "short list entry"])
def test_a_forged_segment_is_refused_named_and_wiped(what: str) -> None:
    plaintext = memoryview(bytearray(b"weights" * 1000))
    expected = digests.segment_digest(key(), 3, plaintext)
    if what == "content":
        plaintext[6999] ^= 1
    given_key = SecretBytes(32) if what == "key" else key()
    index = 4 if what == "index" else 3
    with pytest.raises(IntegrityError, match=f"segment {index}"):
        digests.check_segment(given_key, index, plaintext, expected[:31] if what.startswith("short") else expected)
    assert plaintext == bytes(7000)


def test_a_digest_list_has_one_entry_for_each_segment() -> None:
    listed = b"".join(digests.segment_digest(key(), i, b"x") for i in range(3))
    assert digests.digest_at(listed, 2) == listed[64:]
    for index in (-1, 3):
        with pytest.raises(FormatError, match="digest list"):
            digests.digest_at(listed, index)
    with pytest.raises(FormatError):
        digests.digest_at(listed[:-1], 2)


def test_a_stored_file_is_digested_in_pieces_as_in_one() -> None:
    state = digests.hasher()
    for piece in (b"abc", b"", b"def"):
        state.update(piece)
    assert state.digest() == digests.digest([b"abcdef"]) == blake3(b"abcdef").digest()


def test_a_changed_list_or_file_is_refused() -> None:
    digests.check_digest([b"abc"], digests.digest([b"abc"]), "weights.bin")
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        digests.check_digest([b"abd"], digests.digest([b"abc"]), "weights.bin")
