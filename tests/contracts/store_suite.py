"""What every store must do. A backend's test file subclasses ``StoreSuite`` and gives the fixture ``store``."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from custody.errors import ConflictError, FormatError, IntegrityError, NotFoundError
from custody.ports import Store

__all__ = ["BAD_KEYS", "StoreSuite"]

KEY = "versions/00ff/0.floe"
BIG = bytes(range(256)) * 8200  # above 2 MiB: more than one piece

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    ".",
    "..",
    "a/../b",
    "../a",
    "a/./b",
    ".tmp-1-0",
    "a/.hidden",
    "A",
    "a\0b",
    "a b",
    "a\\b",
    "a%2fb",
    "a\nb",
    "ａ",  # noqa: RUF001 - a look-alike is the point
    "a/‥/b",
    "a\u202eb",
    "a" * 201,
    "a/" * 400 + "a",
    "a" * 10_000_000,
]


def _name(key: str) -> str:
    return ascii(key[:20])


class StoreSuite:
    """The promises of ``custody.ports.Store``."""

    writers = 6  # that write one key at the same time

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    def test_what_is_put_is_got(self, store: Store) -> None:
        assert not store.exists(KEY)
        store.put_new(KEY, b"weights")
        assert store.exists(KEY)
        assert store.get(KEY) == b"weights"

    @pytest.mark.parametrize("data", [b"", b"x", BIG], ids=["empty", "one byte", "two pieces"])
    def test_a_stream_is_stored_whole(self, store: Store, data: bytes) -> None:
        store.put_new(KEY, io.BytesIO(data))
        assert store.get(KEY) == data

    def test_the_same_bytes_again_are_fine(self, store: Store) -> None:
        store.put_new(KEY, BIG)
        store.put_new(KEY, io.BytesIO(BIG))
        with store.writer(KEY) as writer:
            writer.write(BIG)
        assert store.get(KEY) == BIG

    @pytest.mark.parametrize(
        "other", [b"", BIG[:-1], BIG + b"x", BIG[:-1] + b"x"], ids=["empty", "cut", "long", "last"]
    )
    def test_other_bytes_under_a_key_are_refused_and_change_nothing(self, store: Store, other: bytes) -> None:
        store.put_new(KEY, BIG)
        with pytest.raises(ConflictError, match="exists with other content"):
            store.put_new(KEY, other)
        with pytest.raises(ConflictError, match="exists with other content"), store.writer(KEY) as writer:
            writer.write(other)
        assert store.get(KEY) == BIG

    def test_many_small_blobs_are_stored_together(self, store: Store) -> None:
        blobs = {f"{folder}/{number}": b"%d" % number * number for folder in ("a", "b/c") for number in range(70)}
        store.put_all(blobs)
        assert {key: store.get(key) for key in store.list("")} == blobs
        store.put_all({**blobs, "d": b"new"})
        store.put_all({})
        assert store.get("d") == b"new"

    def test_one_of_many_that_exists_with_other_content_is_refused_and_stays(self, store: Store) -> None:
        store.put_new("a/1", b"first")
        with pytest.raises(ConflictError, match="a/1 exists with other content"):
            store.put_all({"a/0": b"zero", "a/1": b"other", "a/2": b"two"})
        assert store.get("a/1") == b"first"
        for key, data in (("a/0", b"zero"), ("a/2", b"two")):
            assert not store.exists(key) or store.get(key) == data
        with pytest.raises(FormatError):
            store.put_all({"b/0": b"fine", "../b": b"outside"})

    def test_a_written_blob_is_visible_when_the_block_ends_and_not_before(self, store: Store) -> None:
        buffer = bytearray(b"first")
        with store.writer(KEY) as writer:
            writer.write(memoryview(buffer))
            buffer[:] = b"other"  # the buffer is ours again
            writer.write(memoryview(buffer))
            writer.write(b"")
            assert not store.exists(KEY)
            assert list(store.list("")) == []
        assert store.get(KEY) == b"firstother"

    def test_a_block_that_raises_leaves_nothing(self, store: Store) -> None:
        with pytest.raises(TypeError), store.writer(KEY) as writer:  # noqa: PT012 - the block is what is tested
            writer.write(BIG)
            writer.write("not bytes")  # type: ignore[arg-type]
        assert not store.exists(KEY)
        assert list(store.list("")) == []
        store.put_new(KEY, b"and the key is still free")

    def test_a_writer_is_of_no_use_after_its_block(self, store: Store) -> None:
        with store.writer(KEY) as writer:
            writer.write(b"whole")
        with pytest.raises(ValueError):
            writer.write(b"more")
        assert store.get(KEY) == b"whole"

    def test_of_many_writers_of_one_key_one_wins_and_the_others_are_told(self, store: Store) -> None:
        start = threading.Barrier(self.writers)

        def write(number: int) -> bool:
            start.wait()
            try:
                store.put_new(KEY, b"%d" % (number // 2))
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(self.writers) as pool:
            won = list(pool.map(write, range(6)))
        winner = int(store.get(KEY))
        assert won == [number // 2 == winner for number in range(6)]

    def test_a_mutable_blob_is_replaced(self, store: Store) -> None:
        store.put("checkpoint", b"first")
        store.put("checkpoint", b"second, longer")
        store.put("checkpoint", b"third")
        assert store.get("checkpoint") == b"third"
        assert list(store.list("")) == ["checkpoint"]

    def test_a_blob_larger_than_the_limit_is_refused(self, store: Store) -> None:
        store.put_new(KEY, b"12345")
        assert store.get(KEY, limit=5) == b"12345"
        with pytest.raises(IntegrityError, match="5 bytes, more than the 4"):
            store.get(KEY, limit=4)

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        store.put_new(KEY, b"weights")
        for key in ("versions", "versions/00ff", "versions/00ff/1.floe", "nothing/0"):
            with pytest.raises(NotFoundError, match=key):
                store.get(key)
            with pytest.raises(NotFoundError, match=key):
                store.open(key)
            assert not store.exists(key)

    def test_a_blob_is_read_at_any_place(self, store: Store) -> None:
        store.put_new(KEY, BIG)
        blob = store.open(KEY)
        assert blob.size == len(BIG)
        for offset, length in ((0, len(BIG)), (0, 0), (1, 300), (len(BIG) - 7, 7), (len(BIG), 0)):
            buffer = bytearray(length)
            blob.read_into(offset, memoryview(buffer))
            assert buffer == BIG[offset : offset + length]
        blob.close()

    @pytest.mark.parametrize(("offset", "length"), [(0, 6), (4, 2), (5, 1), (1 << 40, 1)])
    def test_a_read_past_the_end_is_refused(self, store: Store, offset: int, length: int) -> None:
        store.put_new(KEY, b"12345")
        blob = store.open(KEY)
        with pytest.raises(IntegrityError, match=KEY):
            blob.read_into(offset, memoryview(bytearray(length)))
        with pytest.raises(ValueError):
            blob.read_into(-1, memoryview(bytearray(length)))
        blob.close()

    def test_many_threads_read_one_blob(self, store: Store) -> None:
        store.put_new(KEY, BIG)
        blob = store.open(KEY)

        def read(offset: int) -> bool:
            buffer = bytearray(70_001)
            blob.read_into(offset, memoryview(buffer))
            return buffer == BIG[offset : offset + len(buffer)]

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(0, len(BIG) - 70_001, 9_973)))
        blob.close()

    def test_a_closed_blob_is_not_read(self, store: Store) -> None:
        store.put_new(KEY, b"12345")
        blob = store.open(KEY)
        blob.close()
        blob.close()
        with pytest.raises(ValueError):
            blob.read_into(0, memoryview(bytearray(1)))

    def test_an_open_blob_survives_its_deletion_or_says_so(self, store: Store) -> None:
        store.put_new(KEY, b"12345")
        blob = store.open(KEY)
        store.delete(KEY)
        buffer = bytearray(5)
        try:
            blob.read_into(0, memoryview(buffer))
        except (NotFoundError, IntegrityError):
            pass
        else:
            assert buffer == b"12345"
        blob.close()

    def test_keys_are_listed_in_order_and_by_any_prefix(self, store: Store) -> None:
        keys = ["a-b", "a.c/d", "a/0", "a/1/x", "a/10", "a/2", "a0", "b/a/c"]
        for key in reversed(keys):
            store.put_new(key, key.encode())
        assert sorted(keys) == keys
        for prefix in ("", "a", "a/", "a/1", "a/1/", "a/1/x", "a.", "a.c/d", "b", "b/a/c", "c", "a/3", "c/d/e", "a0/"):
            assert list(store.list(prefix)) == [key for key in keys if key.startswith(prefix)], prefix

    def test_a_deleted_blob_is_gone_and_its_key_free(self, store: Store) -> None:
        store.put_new(KEY, b"old")
        store.delete(KEY)
        store.delete(KEY)
        store.delete("never/was")
        store.delete("never/was", durable=False)
        assert not store.exists(KEY)
        assert list(store.list("")) == []
        store.put_new(KEY, b"new")
        assert store.get(KEY) == b"new"

    @pytest.mark.parametrize("key", BAD_KEYS, ids=_name)
    def test_a_key_that_is_none_reaches_no_path(self, store: Store, key: str) -> None:
        with pytest.raises(FormatError) as caught:
            store.put_new(key, b"")
        assert len(caught.value.message) < 600
        assert caught.value.message.isascii()
        for use in (store.get, store.open, store.exists, store.delete, lambda key: store.put(key, b"")):
            with pytest.raises(FormatError):
                use(key)
        with pytest.raises(FormatError), store.writer(key):
            pass

    @pytest.mark.parametrize("prefix", ["/", "..", "../", "a/../", "a//", ".", "A/", "a\0"])
    def test_a_prefix_that_is_none_reaches_no_path(self, store: Store, prefix: str) -> None:
        with pytest.raises(FormatError):
            list(store.list(prefix))
