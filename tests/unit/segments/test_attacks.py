"""A store, a broker or a former reader alters what a file is. Each is refused, the file and segment named."""

import io
from collections.abc import Callable
from contextlib import closing

import pytest
from blake3 import blake3

from custody.crypto.digests import segment_digest
from custody.crypto.floe import HEADER_SIZE, OVERHEAD, Encryptor, Params
from custody.errors import CustodyError, FormatError, IntegrityError
from custody.segments.decrypt import SegmentDecryptor
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile
from custody.segments.sealing_file import SealedFile
from tests.doubles.sealed import SEGMENT, Sealed, key, plaintext, seal
from tests.doubles.store import MemoryBlob

Rng = Callable[[int], bytes]

DATA = plaintext(5 * SEGMENT + 123)
COUNT = 6


@pytest.fixture
def sealed(rng: Rng) -> Sealed:
    """A file that opens, so that every refusal below means something."""
    sealed = seal(DATA, rng)
    assert sealed.read() == DATA
    return sealed


def refused(sealed: Sealed, message: str) -> None:
    """Every way of reading refuses, and leaves nothing behind."""
    for threads, fetch in ((1, 0), (2, 0), (1, 3 * (SEGMENT + OVERHEAD)), (2, 2 * (SEGMENT + OVERHEAD))):
        out = bytearray(b"?" * sealed.plan.size)
        with pytest.raises(IntegrityError, match=message), sealed.open(fetch) as file:
            file.read_into(0, memoryview(out), threads=threads)
        # Refused at the opening, the buffer was not touched; refused later, it was wiped.
        assert set(out) in ({ord("?")}, {0})
        sink = io.BytesIO()
        with pytest.raises(IntegrityError, match=message), sealed.open() as file:
            file.copy_to(sink, threads=threads)
        assert DATA.startswith(sink.getvalue()), "what a sink has seen is genuine"


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 4), (3, 2)])
def test_segments_in_another_order_are_refused(sealed: Sealed, first: int, second: int) -> None:
    here, there = sealed.segment(first), sealed.segment(second)
    sealed.ciphertext[here], sealed.ciphertext[there] = sealed.ciphertext[there], sealed.ciphertext[here]
    refused(sealed, rf"weights/0\.bin: segment {min(first, second)}: authentication failed")
    with sealed.open() as file:
        for i in range(COUNT):
            out = memoryview(bytearray(SEGMENT))
            if i not in (first, second):
                file.read_segment_into(i, out)
                continue
            with pytest.raises(IntegrityError, match=f"segment {i}: authentication failed"):
                file.read_segment_into(i, out)
            assert out == bytes(SEGMENT)


def test_a_segment_served_twice_is_refused(sealed: Sealed) -> None:
    sealed.ciphertext[sealed.segment(3)] = sealed.ciphertext[sealed.segment(2)]
    refused(sealed, r"weights/0\.bin: segment 3: authentication failed")


def test_the_final_segment_in_place_of_another_is_refused(rng: Rng) -> None:
    sealed = seal(DATA[: 2 * SEGMENT], rng)
    assert sealed.read() == DATA[: 2 * SEGMENT]
    sealed.ciphertext[sealed.segment(0)] = sealed.ciphertext[sealed.segment(1)]
    refused(sealed, r"weights/0\.bin: segment 0: the length prefix is wrong")


@pytest.mark.parametrize("dropped", range(COUNT))
def test_a_dropped_segment_is_refused(sealed: Sealed, dropped: int) -> None:
    del sealed.ciphertext[sealed.segment(dropped)]
    refused(sealed, r"weights/0\.bin: segment [45] is cut off")


@pytest.mark.parametrize(
    ("size", "segment"), [(0, 0), (1, 0), (HEADER_SIZE, 0), (HEADER_SIZE + SEGMENT, 0), (HEADER_SIZE + 4128 * 2, 2)]
)
def test_a_truncated_file_is_refused(sealed: Sealed, size: int, segment: int) -> None:
    del sealed.ciphertext[size:]
    refused(sealed, rf"weights/0\.bin: segment {segment} is cut off: {size} stored bytes")


@pytest.mark.parametrize("size", [1, 32, 4128])
def test_an_extended_file_is_refused(sealed: Sealed, size: int) -> None:
    sealed.ciphertext += bytes(size)
    refused(sealed, r"weights/0\.bin: segment 5 is not the end")


def test_a_segment_appended_by_someone_with_the_file_key_is_refused(sealed: Sealed, rng: Rng) -> None:
    longer = seal(DATA + plaintext(SEGMENT), rng)
    sealed.ciphertext[:] = longer.ciphertext
    refused(sealed, r"weights/0\.bin: segment 5 is not the end")


def test_a_file_of_another_version_is_refused(sealed: Sealed, rng: Rng) -> None:
    other = seal(DATA, rng, vid=b"w" * 32, keys="other keys")
    sealed.ciphertext[:] = other.ciphertext
    refused(sealed, r"weights/0\.bin: FLOE header: the tag does not fit")


def test_another_file_of_the_version_is_refused(sealed: Sealed, rng: Rng) -> None:
    sealed.ciphertext[:] = seal(DATA, rng, index=1).ciphertext
    refused(sealed, r"weights/0\.bin: FLOE header: the tag does not fit")


def test_an_older_ciphertext_under_the_same_key_is_refused(sealed: Sealed, rng: Rng) -> None:
    # Same vid, index, size and keys: FLOE itself accepts it, so only the digests tell the two apart.
    other = seal(DATA[::-1], rng)
    assert other.read() == DATA[::-1]
    sealed.ciphertext[:] = other.ciphertext
    refused(sealed, r"weights/0\.bin: segment 0: not the plaintext that was sealed")


def test_another_header_is_refused(sealed: Sealed, rng: Rng) -> None:
    sealed.ciphertext[:HEADER_SIZE] = seal(DATA, rng).ciphertext[:HEADER_SIZE]
    refused(sealed, r"weights/0\.bin: segment 0: authentication failed")


@pytest.mark.parametrize("byte", [0, 5, 10, 41, 42, 73])
def test_a_header_with_one_bit_flipped_is_refused_before_any_segment(sealed: Sealed, byte: int) -> None:
    sealed.ciphertext[byte] ^= 1
    with pytest.raises((IntegrityError, FormatError), match=r"weights/0\.bin: FLOE header"):
        sealed.open()
    assert sealed.blob.reads == [(0, HEADER_SIZE)]


def test_a_ciphertext_made_for_two_keys_opens_with_one_of_them_at_most(sealed: Sealed) -> None:
    # The header's tag commits to one key. That GCM alone opens under two is shown where FLOE is tested.
    blob = MemoryBlob(sealed.ciphertext)
    SegmentDecryptor(sealed.plan, sealed.file_key, blob).close()
    blob.reads.clear()
    with pytest.raises(IntegrityError, match="the tag does not fit this key"):
        SegmentDecryptor(sealed.plan, key("the other key"), blob)
    assert blob.reads == [(0, HEADER_SIZE)], "no segment was looked at"


@pytest.mark.parametrize("i", [0, 3, 5])
@pytest.mark.parametrize("where", [0, 4, 16, -1])
def test_a_flipped_bit_is_refused(sealed: Sealed, i: int, where: int) -> None:
    segment = sealed.segment(i)
    sealed.ciphertext[segment.stop - 1 if where < 0 else segment.start + where] ^= 0x80
    refused(sealed, rf"weights/0\.bin: segment {i}: ")


def forge(sealed: Sealed, i: int, other: bytes, rng: Rng) -> None:
    """Replace segment ``i`` as somebody can who has the file key: with a tag that verifies, under the same header."""

    def stored_iv(size: int) -> bytes:
        return bytes(sealed.ciphertext[10:42]) if size == 32 else rng(size)

    plan = sealed.plan
    where = plan.locate(i)
    with Encryptor(sealed.file_key, plan.aad, Params(SEGMENT), stored_iv) as encryptor:
        assert encryptor.header == sealed.ciphertext[:HEADER_SIZE]
        out = memoryview(sealed.ciphertext)[sealed.segment(i)]
        encryptor.encrypt_into(i, where.is_final, memoryview(other), out)
        out.release()


@pytest.mark.parametrize("i", [0, 3, 5])
def test_a_forged_segment_with_a_valid_tag_is_refused_by_the_digest_list_and_wiped(
    sealed: Sealed, rng: Rng, i: int
) -> None:
    backdoor = b"backdoor" * 1000
    forge(sealed, i, backdoor[: sealed.plan.locate(i).length], rng)
    out = bytearray(SEGMENT)
    with closing(SegmentDecryptor(sealed.plan, sealed.file_key, MemoryBlob(sealed.ciphertext))) as broker:
        broker.decrypt_segment_into(i, memoryview(out))
    assert out.startswith(b"backdoor"), "the tag verifies: the broker cannot tell"

    refused(sealed, rf"weights/0\.bin: segment {i}: not the plaintext that was sealed")
    out = bytearray(b"?" * SEGMENT)
    length = sealed.plan.locate(i).length
    with sealed.open() as file, pytest.raises(IntegrityError):
        file.read_segment_into(i, memoryview(out))
    assert out[:length] == bytes(length)


def test_a_forged_segment_with_its_digest_in_the_list_is_refused_before_any_segment(sealed: Sealed, rng: Rng) -> None:
    # Whoever held both keys of a lease can make this list; they cannot make the content name it.
    other = plaintext(SEGMENT)[::-1]
    forge(sealed, 2, other, rng)
    sealed.digests[64:96] = segment_digest(sealed.digest_key, 2, other)
    trusting = SealedFile("", blake3(sealed.digests).hexdigest())
    trusted = Sealed(sealed.plan, sealed.file_key, sealed.digest_key, trusting, sealed.ciphertext, sealed.digests)
    assert trusted.read()[2 * SEGMENT : 3 * SEGMENT] == other, "a content that named it would let it pass"

    with pytest.raises(IntegrityError, match=r"weights/0\.bin: digest list: the bytes are not those that were sealed"):
        sealed.open()
    assert sealed.blob.reads == [], "the list comes first"


@pytest.mark.parametrize("change", ["cut", "extended", "empty", "swapped"])
def test_another_digest_list_is_refused(sealed: Sealed, change: str) -> None:
    match change:
        case "cut":
            del sealed.digests[-32:]
        case "extended":
            sealed.digests += bytes(32)
        case "empty":
            sealed.digests.clear()
        case _:
            sealed.digests[:32], sealed.digests[32:64] = sealed.digests[32:64], sealed.digests[:32]
    refused(sealed, r"weights/0\.bin: digest list")


def test_a_list_of_a_petabyte_costs_no_memory(sealed: Sealed) -> None:
    class Huge(MemoryBlob):
        @property
        def size(self) -> int:
            return 1 << 50

    for ciphertext, digests in (
        (MemoryBlob(sealed.ciphertext), Huge(b"")),
        (Huge(b""), MemoryBlob(sealed.digests)),
    ):
        with pytest.raises(IntegrityError, match=f"{1 << 50} (bytes|stored bytes) instead of"):
            OpenFile.open(
                sealed.plan,
                expected=sealed.content.digests,
                file_key=sealed.file_key,
                digest_key=sealed.digest_key,
                ciphertext=ciphertext,
                digests=digests,
            )


def test_a_content_that_claims_another_size_is_refused(sealed: Sealed) -> None:
    # The AAD holds size and count; a list and a file cut to match do not help.
    plan = FilePlan(sealed.plan.vid, 0, 5 * SEGMENT, SEGMENT, "weights/0.bin")
    cut = Sealed(
        plan,
        sealed.file_key,
        sealed.digest_key,
        SealedFile("", blake3(sealed.digests[: 5 * 32]).hexdigest()),
        sealed.ciphertext[: plan.stored_size],
        sealed.digests[: 5 * 32],
    )
    with pytest.raises(IntegrityError, match="the tag does not fit"):
        cut.open()


def test_the_two_keys_are_not_interchangeable(sealed: Sealed) -> None:
    sealed.file_key, sealed.digest_key = sealed.digest_key, sealed.file_key
    with pytest.raises(CustodyError):
        sealed.open()
