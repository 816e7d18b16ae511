"""Many files through the same lanes: the same version whatever the threads, and one clear line when one file is bad."""

import errno
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.adapters import s3_writer
from custody.adapters.store_local import LocalStore
from custody.app.source import scan
from custody.broker import blobs as broker_blobs
from custody.client import upload
from custody.crypto.schedule import digest_key, file_key
from custody.crypto.secret import SecretBytes
from custody.documents.content import File
from custody.errors import CustodyError, IntegrityError, NotFoundError, UnavailableError
from custody.segments import finishing
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile
from custody.segments.seal import seal_version
from custody.segments.sealing_queue import FileToSeal, QueuedFile
from custody.segments.streams import Sink, Source, ignore_finished
from tests.doubles.store import Fault, FaultyStore, MemoryBlob

VID = b"v" * 32
SEGMENT = 64


def zeros(size: int) -> bytes:
    """Entropy without which threads would differ."""
    return bytes(size)


def version_key() -> SecretBytes:
    return SecretBytes.take(bytearray(range(64)))


def in_memory(contents: dict[str, bytes]) -> list[FileToSeal]:
    def opener(data: bytes) -> Callable[[], AbstractContextManager[Source]]:
        return lambda: io.BytesIO(data)

    return [FileToSeal(path, opener(data), len(data)) for path, data in contents.items()]


@dataclass
class Blobs:
    """A store in memory that knows how many blobs were being written at once, and what became of each."""

    whole: dict[str, bytes] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    open: int = 0
    most: int = 0
    fails: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def writer(self, key: str) -> Iterator[Sink]:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        sink = io.BytesIO()
        try:
            yield sink
            if self.fails and key.endswith(self.fails):
                raise UnavailableError(f"store: {key}: no space left on device")
            self.whole[key] = sink.getvalue()
        except BaseException:
            self.dropped.add(key)
            raise
        finally:
            with self.lock:
                self.open -= 1


def seal(
    blobs: Blobs, files: list[FileToSeal], threads: int = 3, finished: Callable[[str], None] = ignore_finished
) -> tuple[File, ...]:
    with version_key() as key:
        return seal_version(
            files,
            vid=VID,
            version_key=key,
            segment=SEGMENT,
            writer=blobs.writer,
            rng=zeros,
            finished=finished,
            threads=threads,
        )


SIZES = st.lists(st.integers(0, 3 * SEGMENT), min_size=1, max_size=40)


@given(sizes=SIZES, threads=st.integers(2, 4))
def test_threads_change_nothing_and_every_file_opens(sizes: list[int], threads: int) -> None:
    contents = {f"{i:03}": hashlib.shake_256(b"%d" % i).digest(size) for i, size in enumerate(sizes)}
    one, many, finished = Blobs(), Blobs(), list[str]()
    files = seal(one, in_memory(contents), 1)
    assert seal(many, in_memory(dict(reversed(contents.items()))), threads, finished.append) == files
    assert many.whole == one.whole
    assert sorted(finished) == [file.path for file in files] == sorted(contents)
    index = len(sizes) // 2
    plan = FilePlan(VID, index, sizes[index], SEGMENT, "x")
    with (
        version_key() as key,
        file_key(key, index) as secret,
        digest_key(key, index) as digest,
        OpenFile.open(
            plan,
            expected=files[index].digests,
            file_key=secret,
            digest_key=digest,
            ciphertext=MemoryBlob(many.whole[plan.ciphertext_key]),
            digests=MemoryBlob(many.whole[plan.digests_key]),
        ) as opened,
    ):
        out = io.BytesIO()
        opened.copy_to(out)
        assert out.getvalue() == contents[f"{index:03}"]


def test_no_more_files_are_under_way_than_a_broker_takes() -> None:
    blobs = Blobs()
    seal(blobs, in_memory({f"{i:04}": b"x" for i in range(500)}))
    assert len(blobs.whole) == 1000
    assert blobs.open == 0
    assert 2 < blobs.most <= 64


@pytest.mark.parametrize("threads", [1, 3])
def test_of_several_bad_files_the_first_is_named_and_all_that_were_begun_are_dropped(threads: int) -> None:
    def bad() -> AbstractContextManager[Source]:
        raise OSError(errno.EACCES, "Permission denied")

    files = in_memory({f"{i:03}": bytes(i) for i in range(200)})
    for i in (90, 40, 150):
        files[i] = files[i]._replace(open=bad)
    blobs = Blobs()
    with pytest.raises(UnavailableError, match=r"^040: cannot be read: permission denied$"):
        seal(blobs, files, threads)
    assert blobs.open == 0
    assert not blobs.dropped & blobs.whole.keys()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_blob_that_cannot_be_ended_ends_the_seal(threads: int) -> None:
    blobs = Blobs(fails="/7.digests")
    before = set(threading.enumerate())
    with pytest.raises(UnavailableError, match="no space left"):
        seal(blobs, in_memory({f"{i:04}": bytes(i) for i in range(3000)}), threads)
    assert blobs.open == 0
    assert len(blobs.whole) < 400, "nobody went on for long"
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("threads", [1, 3])
def test_a_digest_list_whose_last_write_fails_ends_its_writers_too(threads: int) -> None:
    class Full(io.BytesIO):
        def write(self, _data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def writer(key: str) -> Iterator[Sink]:
        with blobs.writer(key) as sink:
            yield Full() if key.endswith("/1.digests") else sink

    def held(key: str) -> AbstractContextManager[Sink]:
        managers.append(writer(key))
        return managers[-1]  # what nobody holds would be ended by the interpreter

    blobs, managers = Blobs(), list[AbstractContextManager[Sink]]()
    with version_key() as key, pytest.raises(UnavailableError, match="no space left"):
        seal_version(
            in_memory({f"{i}": b"x" for i in range(3)}),
            vid=VID,
            version_key=key,
            segment=SEGMENT,
            writer=held,
            rng=zeros,
            threads=threads,
        )
    assert blobs.open == 0
    assert len(blobs.dropped) >= 2


def test_a_large_file_counts_for_all_that_a_stores_writer_holds_of_it() -> None:
    file = QueuedFile(FileToSeal("x", io.BytesIO, 1 << 30), FilePlan(VID, 0, 1 << 30, 1 << 20, "x"), lambda *_: None)
    assert file.weight >= (s3_writer._MOST_AHEAD + 1) * s3_writer.PART
    assert file.weight >= upload._AHEAD + broker_blobs.PART
    assert 2 * file.weight <= finishing._WEIGHT, "the next is begun while one ends"


def test_being_interrupted_leaves_no_blob_open() -> None:
    blobs = Blobs()
    count = iter(range(10_000))

    def progress(_done: int) -> None:
        if next(count) == 300:
            raise KeyboardInterrupt

    with version_key() as key, pytest.raises(KeyboardInterrupt):
        seal_version(
            in_memory({f"{i:04}": b"x" for i in range(1000)}),
            vid=VID,
            version_key=key,
            segment=SEGMENT,
            writer=blobs.writer,
            rng=zeros,
            progress=progress,
        )
    assert blobs.open == 0
    assert len(blobs.whole) < 700


# ---------------------------------------------------------------------------------------------- files as they lie there


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i:02}").write_bytes(bytes(100 + i))
    return folder


def vanish(path: Path) -> None:
    path.unlink()


def shrink(path: Path) -> None:
    os.truncate(path, 3)


def grow(path: Path) -> None:
    path.write_bytes(bytes(1000))


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (vanish, NotFoundError, "no such file"),
        (shrink, IntegrityError, "17: changed while it was read"),
        (grow, IntegrityError, "17: changed while it was read"),
        (become_a_link, CustodyError, "17: "),
    ],
)
def test_a_file_that_changes_behind_the_scan_is_named(
    model: Path, change: Callable[[Path], None], error: type[CustodyError], message: str
) -> None:
    files = scan(model)
    change(model / "17")
    blobs = Blobs()
    with pytest.raises(error, match=message) as caught:
        seal(blobs, files)
    assert "\n" not in caught.value.message
    assert blobs.open == 0


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC])
def test_a_store_that_fails_among_many_files_holds_whole_blobs_only(tmp_path: Path, model: Path, fault: Fault) -> None:
    for at in (5, 60, 150):
        (tmp_path / str(at)).mkdir()
        inner = LocalStore(tmp_path / str(at))
        store = FaultyStore(inner, at=at, fault=fault)
        with pytest.raises(UnavailableError), version_key() as key:
            seal_version(scan(model), vid=VID, version_key=key, segment=SEGMENT, writer=store.writer, rng=os.urandom)
        plans = [FilePlan(VID, i, 100 + i, SEGMENT, f"{i:02}") for i in range(40)]
        sizes = {plan.ciphertext_key: plan.stored_size for plan in plans}
        sizes |= {plan.digests_key: plan.digests_size for plan in plans}
        for name in inner.list(""):
            assert inner.open(name).size == sizes[name]
        assert [path for path in (tmp_path / str(at)).rglob(".*") if not path.is_dir()] == []
