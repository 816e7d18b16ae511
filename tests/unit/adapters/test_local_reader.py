"""Reading a published log from a directory: as ``LocalStore`` does, with directories kept open."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.adapters.local_reader import LocalReader
from custody.errors import ConfigError, FormatError, IntegrityError, NotFoundError


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[LocalReader]:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/ab").write_bytes(b"hello")
    (tmp_path / "checkpoint").write_bytes(b"note")
    with LocalReader(tmp_path) as opened:
        yield opened


def test_it_reads_files_at_any_depth(reader: LocalReader, tmp_path: Path) -> None:
    assert reader.get("checkpoint", 4) == b"note"
    assert reader.get("documents/ab", 5) == b"hello"
    (tmp_path / "tile/0/x001").mkdir(parents=True)
    (tmp_path / "tile/0/x001/000").write_bytes(bytes(100_000))
    assert reader.get("tile/0/x001/000", 1 << 20) == bytes(100_000)
    assert sorted(reader.list("tile/")) == ["tile/0/x001/000"]


def test_what_comes_later_is_found(reader: LocalReader, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        reader.get("later/file", 10)
    with pytest.raises(NotFoundError):
        reader.get("documents/cd", 10)
    (tmp_path / "later").mkdir()
    (tmp_path / "later/file").write_bytes(b"1")
    (tmp_path / "documents/cd").write_bytes(b"2")
    assert (reader.get("later/file", 10), reader.get("documents/cd", 10)) == (b"1", b"2")


def test_a_directory_is_no_file(reader: LocalReader) -> None:
    with pytest.raises(NotFoundError):
        reader.get("documents", 10)


def test_more_than_the_limit_is_refused(reader: LocalReader) -> None:
    with pytest.raises(IntegrityError, match="5 bytes, more than the 4"):
        reader.get("documents/ab", 4)


@pytest.mark.parametrize("key", ["", "/", "../x", "documents/../checkpoint", "documents//ab", "a\0b", "x" * 600])
def test_what_is_no_key_is_refused(reader: LocalReader, key: str) -> None:
    with pytest.raises(FormatError):
        reader.get(key, 10)


def test_links_and_pipes_are_refused(reader: LocalReader, tmp_path: Path) -> None:
    (tmp_path / "documents/link").symlink_to(tmp_path / "checkpoint")
    (tmp_path / "folder").symlink_to(tmp_path / "documents")
    os.mkfifo(tmp_path / "documents/pipe")
    for key in ("documents/link", "folder/ab", "documents/pipe", "checkpoint/below"):
        with pytest.raises(IntegrityError):
            reader.get(key, 10)


def test_few_directories_stay_open(reader: LocalReader, tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"d{number}/e").mkdir(parents=True)
        (tmp_path / f"d{number}/e/f").write_bytes(b"%d" % number)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in (*range(200), *range(200)):
        assert reader.get(f"d{number}/e/f", 10) == b"%d" % number
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 64


def test_no_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="store"):
        LocalReader(tmp_path / "nowhere")
