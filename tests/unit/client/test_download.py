"""Files on disk: whole and checked under their name, or not there."""

import os
from pathlib import Path

import pytest

from custody.client.download import PART, prepare
from custody.client.session import Session
from custody.errors import ConflictError, CustodyError, IntegrityError, UnavailableError
from tests.unit.client.broker import FILES, SEGMENT, Broker

BIG = "weights/0.bin"


def _download(session: Session, out: Path) -> dict[str, int]:
    there: dict[str, int] = {}
    session.download(out, fetched=there.__setitem__)
    return there


def test_all_files_arrive_private_and_whole(broker: Broker, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    done: list[int] = []
    with broker.lease().open() as session:
        session.download(out, progress=done.append)
    for path, data in broker.plain.items():
        assert (out / path).read_bytes() == data
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
