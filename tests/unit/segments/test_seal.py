"""Sealing: what is written, and what is refused."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from custody.adapters import local_files, store_local
from custody.adapters.store_local import LocalStore
from custody.crypto.digests import segment_digest
from custody.crypto.floe import Decryptor, Params
from custody.crypto.schedule import digest_key, file_key
from custody.crypto.secret import SecretBytes
from custody.documents.content import File
from custody.errors import FormatError, IntegrityError, UnavailableError
from custody.segments.layout import FilePlan, version_prefix
from custody.segments.open import OpenFile
from custody.segments.seal import FileToSeal, SealedFile, seal_file, seal_version
from custody.segments.streams import Sink, Source
from tests.doubles.sealed import SEGMENT, key, plaintext, seal
from tests.doubles.store import Fault, FaultyOs, FaultyStore

Rng = Callable[[int], bytes]

VID = b"v" * 32
SIZES = [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 5 * SEGMENT + 123]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "store").mkdir()
    return LocalStore(tmp_path / "store")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_the_ciphertext_is_floe_and_the_list_holds_the_keyed_digests(rng: Rng, size: int, threads: int) -> None:
    data = plaintext(size)
    sealed = seal(data, rng, threads=threads)
    plan = sealed.plan
    assert len(sealed.ciphertext) == plan.stored_size
    decryptor = Decryptor(sealed.file_key, plan.aad, Params(SEGMENT), bytes(sealed.ciphertext[:74]))
    digests = b""
    for i in range(plan.count):
        where = plan.locate(i)
        out = memoryview(bytearray(where.length))
        decryptor.decrypt_into(i, where.is_final, memoryview(sealed.ciphertext)[sealed.segment(i)], out)
        assert out == data[where.offset : where.offset + where.length]
        digests += segment_digest(sealed.digest_key, i, out)
    assert sealed.digests == digests
    assert sealed.content == (blake3(sealed.ciphertext).hexdigest(), blake3(digests).hexdigest())


def test_an_empty_file_is_one_final_segment_of_nothing(rng: Rng) -> None:
    sealed = seal(b"", rng)
    assert len(sealed.ciphertext) == 74 + 32
    assert sealed.ciphertext[74:78] == (32).to_bytes(4, "big")
    assert len(sealed.digests) == 32
    assert sealed.read() == b""


def test_one_thread_and_repeated_entropy_give_the_same_bytes(rng: Rng) -> None:
    def zeros(size: int) -> bytes:
        return bytes(size)

    assert seal(plaintext(9000), zeros).ciphertext == seal(plaintext(9000), zeros).ciphertext
    assert seal(plaintext(9000), rng).ciphertext != seal(plaintext(9000), rng).ciphertext


def test_a_long_digest_list_is_written_in_pieces(rng: Rng) -> None:
    sizes = []

    class Pieces(io.BytesIO):
        def write(self, data: "memoryview | bytes", /) -> int:  # type: ignore[override]
            sizes.append(len(data))
            return super().write(data)

    data = plaintext(16 * 5000)
    digests = Pieces()
    plan = FilePlan(VID, 0, len(data), 16, "x")
    sealed = seal_file(
        io.BytesIO(data),
        plan,
        file_key=key("f"),
        digest_key=key("d"),
        ciphertext=io.BytesIO(),
        digests=digests,
        rng=rng,
    )
    assert sizes == [65536, 65536, 32 * (5000 - 4096)]
    assert sealed.digests == blake3(digests.getvalue()).hexdigest()


def test_progress_is_told_in_order_and_adds_up(rng: Rng) -> None:
    steps: list[int] = []
    data = plaintext(5 * SEGMENT + 123)
    _seal(io.BytesIO(data), len(data), rng, progress=steps.append)
    assert steps == [SEGMENT] * 5 + [123]


def _seal(
    source: Source,
    size: int,
    rng: Rng,
    *,
    ciphertext: Sink | None = None,
    progress: Callable[[int], None] = lambda _done: None,
    threads: int = 2,
) -> SealedFile:
    plan = FilePlan(VID, 0, size, SEGMENT, "weights/0.bin")
    return seal_file(
        source,
        plan,
        file_key=key("keys file 0"),
        digest_key=key("keys digest 0"),
        ciphertext=ciphertext or io.BytesIO(),
        digests=io.BytesIO(),
        rng=rng,
        progress=progress,
        threads=threads,
    )


# ------------------------------------------------------------------------------------------------------------- sources


class Slow(io.BytesIO):
    """Gives a few bytes at a time, as a pipe does."""

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # type: ignore[override]
        return super().readinto(memoryview(buffer)[:1000])


def test_short_reads_are_put_together(rng: Rng) -> None:
    data = plaintext(3 * SEGMENT + 5)
    honest, slow = io.BytesIO(), io.BytesIO()

    def zeros(size: int) -> bytes:
        return bytes(size)

    _seal(io.BytesIO(data), len(data), zeros, ciphertext=honest, threads=1)
    _seal(Slow(data), len(data), zeros, ciphertext=slow, threads=1)
    assert slow.getvalue() == honest.getvalue()


@pytest.mark.parametrize("difference", [-2 * SEGMENT, -1, 1, 2 * SEGMENT])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_source_that_shrank_or_grew_is_refused(rng: Rng, difference: int, threads: int) -> None:
    data = plaintext(5 * SEGMENT + 5)
    _seal(io.BytesIO(data), len(data), rng, threads=threads)
    with pytest.raises(IntegrityError, match=r"weights/0\.bin: changed while it was read"):
        _seal(io.BytesIO(data), len(data) - difference, rng, threads=threads)


def test_an_empty_file_that_grew_is_refused(rng: Rng) -> None:
    with pytest.raises(IntegrityError, match="changed while it was read"):
        _seal(io.BytesIO(b"x"), 0, rng)


def test_a_file_cut_while_it_is_sealed_is_refused(rng: Rng, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(plaintext(20 * SEGMENT))
    with path.open("rb", buffering=0) as source, pytest.raises(IntegrityError, match="changed while it was read"):
        _seal(source, 20 * SEGMENT, rng, progress=lambda _done: os.truncate(path, 10 * SEGMENT))


def test_a_file_rewritten_in_place_while_it_is_sealed_is_refused(rng: Rng, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(plaintext(20 * SEGMENT))
    with path.open("rb", buffering=0) as source:
        _seal(source, 20 * SEGMENT, rng)

    def rewrite(_done: int) -> None:
        with path.open("r+b") as file:
            file.write(b"other weights")
        os.utime(path, (1, 1))  # whatever the resolution of the file system's clock

    with path.open("rb", buffering=0) as source, pytest.raises(IntegrityError, match="changed while it was read"):
        _seal(source, 20 * SEGMENT, rng, progress=rewrite)


def test_a_source_that_cannot_be_read_is_unavailable(rng: Rng) -> None:
    class Broken(io.RawIOBase):
        def readinto(self, buffer: object, /) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(UnavailableError, match=r"weights/0\.bin: cannot be read: input/output error"):
        _seal(Broken(), 10, rng)


def test_a_source_that_does_not_block_is_the_callers_mistake(rng: Rng) -> None:
    class NotReady(io.RawIOBase):
        def readinto(self, buffer: object, /) -> None:
            return None

    with pytest.raises(ValueError, match="does not block"):
        _seal(NotReady(), 10, rng)
    with pytest.raises(ValueError, match="thread"):
        _seal(io.BytesIO(b""), 0, rng, threads=0)


# --------------------------------------------------------------------------------------------------------------- sinks


def test_a_raw_file_that_takes_less_than_it_is_given_gets_the_rest(rng: Rng) -> None:
    class Small(io.BytesIO):
        def write(self, data: "memoryview | bytes", /) -> int:  # type: ignore[override]
            return super().write(memoryview(data)[:700])

    data = plaintext(2 * SEGMENT)
    sink = Small()
    sealed = _seal(io.BytesIO(data), len(data), rng, ciphertext=sink)
    assert sealed.ciphertext == blake3(sink.getvalue()).hexdigest()


def test_a_full_sink_is_unavailable(rng: Rng) -> None:
    class Full(io.RawIOBase):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(UnavailableError, match="cannot be written: no space left on device"):
        _seal(io.BytesIO(b"x"), 1, rng, ciphertext=Full())


# ------------------------------------------------------------------------------------------------------------ versions


def _files(contents: dict[str, bytes]) -> list[FileToSeal]:
    def opener(data: bytes) -> Callable[[], AbstractContextManager[Source]]:
        return lambda: io.BytesIO(data)

    return [FileToSeal(path, opener(data), len(data)) for path, data in contents.items()]


CONTENTS = {"b/model.bin": plaintext(3 * SEGMENT + 1), "a.json": b"{}", "empty": b""}


def _seal_version(store: LocalStore | FaultyStore, rng: Rng, files: list[FileToSeal]) -> tuple[File, ...]:
    with SecretBytes.take(bytearray(range(64))) as version_key:
        return seal_version(files, vid=VID, version_key=version_key, segment=SEGMENT, writer=store.writer, rng=rng)


def test_a_version_is_sealed_in_the_order_of_its_content(store: LocalStore, rng: Rng) -> None:
    files = _seal_version(store, rng, _files(CONTENTS))
    assert [file.path for file in files] == sorted(CONTENTS)
    prefix = version_prefix(VID)
    assert list(store.list("")) == sorted(f"{prefix}{j}.{kind}" for j in range(3) for kind in ("digests", "floe"))
    for j, file in enumerate(files):
        plan = FilePlan(VID, j, int(file.size), SEGMENT, file.path)
        assert blake3(store.get(plan.ciphertext_key)).hexdigest() == file.ciphertext
        version_key = SecretBytes.take(bytearray(range(64)))
        with OpenFile.open(
            plan,
            expected=file.digests,
            file_key=file_key(version_key, j),
            digest_key=digest_key(version_key, j),
            ciphertext=store.open(plan.ciphertext_key),
            digests=store.open(plan.digests_key),
        ) as opened:
            out = bytearray(plan.size)
            opened.read_into(0, memoryview(out))
            assert out == CONTENTS[file.path]


def test_paths_that_no_content_may_have_are_refused_before_anything_is_written(store: LocalStore, rng: Rng) -> None:
    for path in ("../x", "/x", "a//b", "", "a\u202eb"):
        with pytest.raises(FormatError):
            _seal_version(store, rng, _files({**CONTENTS, path: b""}))
    with pytest.raises(ValueError):
        _seal_version(store, rng, _files(CONTENTS) + _files(CONTENTS))
    assert list(store.list("")) == []


def test_a_file_that_is_not_there_is_unavailable(store: LocalStore, rng: Rng, tmp_path: Path) -> None:
    missing = FileToSeal("x", lambda: (tmp_path / "missing").open("rb", buffering=0), 1)
    with pytest.raises(UnavailableError, match="x: cannot be read: no such file"):
        _seal_version(store, rng, [missing])


def test_the_files_of_one_version_have_keys_of_their_own(store: LocalStore, rng: Rng) -> None:
    same = {"a": b"same", "b": b"same"}
    first, second = _seal_version(store, rng, _files(same))
    assert first.digests != second.digests
    assert first.ciphertext != second.ciphertext


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC])
def test_a_store_that_fails_at_any_operation_leaves_no_part_of_a_file(tmp_path: Path, rng: Rng, fault: Fault) -> None:
    def attempt(name: str, at: int | None) -> tuple[LocalStore, FaultyStore]:
        (tmp_path / name).mkdir()
        inner = LocalStore(tmp_path / name)
        return inner, FaultyStore(inner, at=at, fault=fault)

    inner, counter = attempt("honest", None)
    files = _seal_version(counter, rng, _files(CONTENTS))
    sizes = {key: len(inner.get(key)) for key in inner.list("")}
    assert len(files) == 3
    for at in range(counter.done):
        inner, faulty = attempt(str(at), at)
        with pytest.raises(UnavailableError):
            _seal_version(faulty, rng, _files(CONTENTS))
        left = {key: len(inner.get(key)) for key in inner.list("")}
        assert left.items() <= sizes.items(), "every blob that is visible is whole"
        assert len(left) < len(sizes)


def test_a_full_disk_at_any_write_leaves_nothing_under_the_key(
    tmp_path: Path, rng: Rng, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = plaintext(3 * SEGMENT)
    plan = FilePlan(VID, 0, len(data), SEGMENT, "weights/0.bin")

    @contextmanager
    def sealing(name: str, at: int | None) -> Iterator[tuple[LocalStore, FaultyOs]]:
        (tmp_path / name).mkdir()
        store = LocalStore(tmp_path / name)
        double = FaultyOs(at=at, fault=Fault.ENOSPC)
        with monkeypatch.context() as patch:
            patch.setattr(store_local, "os", double)
            patch.setattr(local_files, "os", double)
            yield store, double

    with sealing("honest", None) as (store, counter), store.writer(plan.ciphertext_key) as writer:
        _seal(io.BytesIO(data), len(data), rng, ciphertext=writer)
    assert store.exists(plan.ciphertext_key)
    visible = len(counter.steps) - 1  # then comes: fsync of the directory
    for at in range(visible):
        refusal = pytest.raises(UnavailableError, match="no space left")
        with sealing(str(at), at) as (store, _), refusal, store.writer(plan.ciphertext_key) as writer:
            _seal(io.BytesIO(data), len(data), rng, ciphertext=writer)
        assert not store.exists(plan.ciphertext_key)
        assert [path for path in (tmp_path / str(at)).rglob("*") if not path.is_dir()] == []
