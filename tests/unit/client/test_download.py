"""Files on disk: whole and checked under their name, or not there."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.client import download
from custody.client.download import prepare
from custody.client.parts import PART
from custody.client.reading import VerifiedFile
from custody.client.session import Session
from custody.errors import ConflictError, CustodyError, IntegrityError, UnavailableError
from tests.unit.client.broker import FILES, SEGMENT, Broker

BIG = "weights/0.bin"


def _download(session: Session, out: Path) -> dict[str, int]:
    there: dict[str, int] = {}
    session.download(out, fetched=there.__setitem__)
    return there


def _require_all(broker: Broker, out: Path) -> None:
    for path, data in broker.plain.items():
        assert (out / path).read_bytes() == data


def test_all_files_arrive_private_and_whole(broker: Broker, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    done: list[int] = []
    with broker.lease().open() as session:
        session.download(out, progress=done.append)
    _require_all(broker, out)
    for path in broker.plain:
        assert (out / path).stat().st_mode & 0o077 == 0
    assert out.stat().st_mode & 0o077 == 0
    assert sum(done) == sum(FILES.values())
    assert not list(out.rglob(f"*{PART}"))


def test_what_is_there_and_right_is_not_fetched_again(broker: Broker, tmp_path: Path) -> None:
    lease = broker.lease()
    with lease.open() as session:
        _download(session, tmp_path / "out")
    before = broker.case.found.spent
    with lease.open() as session:
        assert _download(session, tmp_path / "out") == FILES
    assert broker.case.found.spent == before


def test_an_interrupted_download_goes_on_at_the_first_missing_segment(broker: Broker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lease = broker.lease()
    broker.breaks = [4]
    with lease.open([BIG], patience=0) as session, pytest.raises(UnavailableError):
        _download(session, out)
    assert not (out / BIG).exists()
    assert (out / (BIG + PART)).stat().st_size == 2 * SEGMENT
    with lease.open([BIG]) as session:
        assert _download(session, out) == {BIG: 2 * SEGMENT}
    assert (out / BIG).read_bytes() == broker.plain[BIG]


def test_a_part_that_somebody_altered_is_fetched_again(broker: Broker, tmp_path: Path) -> None:
    part = tmp_path / "out" / (BIG + PART)
    part.parent.mkdir(parents=True)
    data = bytearray(broker.plain[BIG][: 3 * SEGMENT])
    data[SEGMENT + 1] ^= 1
    part.write_bytes(data)
    part.chmod(0o600)
    with broker.lease().open([BIG]) as session:
        assert _download(session, tmp_path / "out") == {BIG: SEGMENT}
    assert (tmp_path / "out" / BIG).read_bytes() == broker.plain[BIG]


def test_weights_that_are_not_the_sealers_never_get_their_name(broker: Broker, tmp_path: Path) -> None:
    broker.plain[BIG] = bytes(len(broker.plain[BIG]))
    with broker.lease().open([BIG]) as session, pytest.raises(IntegrityError, match="segment 0"):
        _download(session, tmp_path / "out")
    assert not (tmp_path / "out" / BIG).exists()
    assert (tmp_path / "out" / (BIG + PART)).read_bytes() == b""


@pytest.mark.parametrize("change", ["other size", "same size"])
def test_another_file_in_the_place_is_left_alone_and_named(broker: Broker, tmp_path: Path, change: str) -> None:
    target = tmp_path / "out" / "config.json"
    target.parent.mkdir()
    data = b"mine" if change == "other size" else bytes(FILES["config.json"])
    target.write_bytes(data)
    with (
        broker.lease().open() as session,
        pytest.raises(ConflictError, match=r"config.json exists and is another file"),
    ):
        _download(session, tmp_path / "out")
    assert target.read_bytes() == data


def test_symbolic_links_lead_nowhere(broker: Broker, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (out / "weights").symlink_to(elsewhere)
    with broker.lease().open() as session, pytest.raises(ConflictError, match="symbolic link"):
        _download(session, out)
    assert list(elsewhere.iterdir()) == []
    (out / "weights").unlink()
    (out / ("config.json" + PART)).symlink_to(elsewhere / "x")
    with broker.lease().open() as session, pytest.raises(CustodyError):
        _download(session, out)
    assert list(elsewhere.iterdir()) == []


def test_a_part_that_others_may_read_is_not_used(broker: Broker, tmp_path: Path) -> None:
    part = tmp_path / "out" / (BIG + PART)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    part.chmod(0o644)
    with broker.lease().open([BIG]) as session, pytest.raises(IntegrityError, match="not a private file"):
        _download(session, tmp_path / "out")


def test_a_fifo_in_the_place_does_not_hang(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "config.json")
    with broker.lease().open() as session, pytest.raises(ConflictError):
        _download(session, tmp_path / "out")


def test_no_session_is_spent_on_what_can_be_known_before(tmp_path: Path) -> None:
    prepare(tmp_path / "a", [("x", 10)])
    with pytest.raises(UnavailableError, match="bytes are needed"):
        prepare(tmp_path / "a", [("x", 1 << 62)])
    (tmp_path / "a" / "x").write_bytes(b"four")
    with pytest.raises(ConflictError, match="another file"):
        prepare(tmp_path / "a", [("x", 10)])
    prepare(tmp_path / "a", [("x", 4)])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CustodyError):
        prepare(tmp_path / "file" / "out", [])


def test_a_full_disk_is_said_in_one_line(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("custody.client.download.os.pwrite", full)
    with broker.lease().open([BIG]) as session, pytest.raises(UnavailableError, match="no space left on device"):
        _download(session, tmp_path / "out")
    assert not (tmp_path / "out" / BIG).exists()


def test_small_files_are_under_way_side_by_side(broker: Broker, tmp_path: Path) -> None:
    together = threading.Barrier(2)
    read = broker.read_within

    def both(session: str, file: int, *rest: int) -> Iterator[Any]:
        if file in (0, 2):
            together.wait(10)  # one after the other, the first would wait for the second in vain
        yield from read(session, file, *rest)

    broker.lie("read_within", both)
    with broker.lease().open() as session:
        _download(session, tmp_path / "out")
    _require_all(broker, tmp_path / "out")


@pytest.fixture
def hurries(monkeypatch: pytest.MonkeyPatch) -> list[threading.Event]:
    """Of each group of files that is begun, what is set when something has failed and the rest is to end."""
    found: list[threading.Event] = []
    begin = download._Group.download

    def noted(group: download._Group, fetched: download.Fetched) -> None:
        found.append(group._hurry)
        begin(group, fetched)

    monkeypatch.setattr(download._Group, "download", noted)
    return found


def test_one_failure_ends_the_others_and_names_nothing(
    broker: Broker, tmp_path: Path, hurries: list[threading.Event]
) -> None:
    failed = threading.Event()
    read = broker.read_within

    def one_is_bad(session: str, file: int, *rest: int) -> Iterator[Any]:
        if file == 0:
            failed.set()
            raise IntegrityError("this one is bad")
        assert failed.wait(10)
        assert hurries[0].wait(10)
        yield from read(session, file, *rest)

    broker.lie("read_within", one_is_bad)
    with broker.lease().open() as session:
        with pytest.raises(IntegrityError, match="this one is bad"):
            _download(session, tmp_path / "out")
        assert [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != PART] == []
    broker.lie("read_within", read)
    with broker.lease().open() as session:
        _download(session, tmp_path / "out")
    _require_all(broker, tmp_path / "out")


def test_nobody_who_was_told_to_stop_tries_again_and_the_first_failure_is_told(
    broker: Broker, tmp_path: Path, hurries: list[threading.Event]
) -> None:
    away = threading.Event()
    tries: list[int] = []

    def away_or_bad(_session: str, file: int, *_: int) -> Iterator[Any]:
        tries.append(file)
        if file == 2:
            assert away.wait(10)
            raise IntegrityError("this one is bad")
        away.set()
        assert hurries[0].wait(10)
        raise UnavailableError("the connection broke")

    broker.lie("read_within", away_or_bad)
    with broker.lease().open(patience=1e9) as session, pytest.raises(IntegrityError, match="this one is bad"):
        _download(session, tmp_path / "out")
    assert len(tries) == len(set(tries))


@pytest.mark.parametrize("known", [True, False])
def test_a_file_is_durable_before_it_has_its_name_and_its_name_before_anybody_is_told(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    out = tmp_path / "out"
    steps: list[str] = []

    def noting(name: str, sync: Callable[[int], None]) -> Callable[[int], None]:
        def note(descriptor: int) -> None:
            steps.append(name)
            named.append(sum((out / path).exists() for path in FILES))
            sync(descriptor)

        return note

    named: list[int] = []
    monkeypatch.setattr(download, "can_sync_whole", lambda _: known)
    monkeypatch.setattr(download, "sync_whole", noting("all", lambda _: None))
    monkeypatch.setattr("custody.client.download.os.fsync", noting("one", os.fsync))
    with broker.lease().open() as session:
        session.download(out, fetched=lambda path, _: steps.append(path))
    if known:
        assert steps == ["all", "all", *FILES]
        assert named == [0, len(FILES)]
    else:  # four files, then the two directories
        assert steps == ["one"] * 6 + list(FILES)
        assert named == [0] * 4 + [len(FILES)] * 2


@pytest.mark.parametrize("known", [True, False])
def test_what_a_failed_sync_was_about_is_not_used_again(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(download, "can_sync_whole", lambda _: known)
    monkeypatch.setattr(download, "sync_whole", broken)
    monkeypatch.setattr("custody.client.download.os.fsync", broken)
    files = list(FILES) if known else [BIG]
    with broker.lease().open(files) as session, pytest.raises(UnavailableError, match="input/output error"):
        _download(session, tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_file_that_is_in_its_place_is_kept_open_no_longer(broker: Broker, tmp_path: Path) -> None:
    with broker.lease().open() as session:
        _download(session, tmp_path / "out")
        assert session._files._files == {}  # a version has fifty thousand, each with its buffers


def test_of_all_files_that_were_read_a_few_stay_open(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version may have more files than a process may have descriptors."""
    monkeypatch.setattr("custody.client.session._FILES", 2)
    opened, closed = list[VerifiedFile](), list[VerifiedFile]()
    init, close = VerifiedFile.__init__, VerifiedFile.close

    def open_file(file: VerifiedFile, *rest: Any) -> None:
        opened.append(file)
        init(file, *rest)

    def close_file(file: VerifiedFile) -> None:
        closed.append(file)
        close(file)

    monkeypatch.setattr(VerifiedFile, "__init__", open_file)
    monkeypatch.setattr(VerifiedFile, "close", close_file)
    with broker.lease().open() as session:
        for path in FILES:
            assert session.read(path) == broker.plain[path]
            assert len(opened) - len(closed) <= 2
        assert len(closed) == len(FILES) - 2
        assert session.read(next(iter(FILES)), 0, 0) == b""  # opened again
    assert len(opened) == len(closed) == len(FILES) + 1
