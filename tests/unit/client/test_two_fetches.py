"""Two fetches into one directory: neither cuts off, overwrites or names what the other has checked."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.client import download, parts
from custody.errors import ConflictError
from tests.unit.client.broker import FILES, Broker

BIG = "weights/0.bin"
SOON = 5.0


def test_two_fetches_of_one_file_into_one_directory_do_not_meet(broker: Broker, tmp_path: Path) -> None:
    """The second would cut off what the first has written and go, and the first would give the rest its name."""
    out, honest = tmp_path / "out", broker.read_within
    begun, go_on = threading.Event(), threading.Event()

    def slow(*asked: Any) -> Iterator[Any]:
        for piece in honest(*asked):
            yield piece
            begun.set()
            assert go_on.wait(SOON)

    broker.lie("read_within", slow)
    with broker.lease().open([BIG]) as session:
        first = threading.Thread(target=session.download, args=(out,))
        first.start()
        assert begun.wait(SOON)
        with (
            broker.lease().open([BIG]) as other,
            pytest.raises(ConflictError, match=r"0\.bin\.custody-part: another fetch is writing it"),
        ):
            other.download(out)
        go_on.set()
        first.join()
    assert (out / BIG).read_bytes() == broker.plain[BIG]
    with broker.lease().open([BIG]) as session:
        session.download(out)  # it finds the file in its place


def test_a_part_that_got_its_name_while_it_was_opened_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / f"file{parts.PART}"
    with parts.Part(path) as mine:
        mine.write(memoryview(b"whole"), 0)
        real = os.open

        def late(*asked: Any, **more: Any) -> int:
            descriptor = real(*asked, **more)
            mine.name()
            mine.close()
            return descriptor

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", late)
            with pytest.raises(ConflictError, match="another fetch is writing it"):
                parts.Part(path)
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_one_download_that_fails_ends_no_other_of_the_session(broker: Broker, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_bytes(b"x" * FILES["config.json"])
    honest, failed = broker.read_within, threading.Event()
    first, begun = iter(range(3)), threading.Semaphore(0)  # the good one's: three files have bytes

    def slow(session: str, file: int, *rest: Any) -> Iterator[Any]:
        if next(first, None) is not None:
            begun.release()
            assert failed.wait(SOON)
        yield from honest(session, file, *rest)

    broker.lie("read_within", slow)
    with broker.lease().open() as session:
        good = threading.Thread(target=session.download, args=(tmp_path / "good",))
        good.start()
        assert all(begun.acquire(timeout=SOON) for _ in range(3))
        with pytest.raises(ConflictError, match="is another file"):
            session.download(bad)
        failed.set()
        good.join()
    assert all((tmp_path / "good" / name).read_bytes() == data for name, data in broker.plain.items())


def test_a_file_that_the_other_fetch_has_just_named_is_found_and_not_fetched_again(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lease, made = tmp_path / "out", broker.lease(), list[Path]()

    class Late(parts.Part):
        def __init__(self, path: Path) -> None:
            made.append(path)
            if len(made) == 1:
                with lease.open([BIG]) as other:
                    other.download(out)
            super().__init__(path)

    there: dict[str, int] = {}
    monkeypatch.setattr(download, "Part", Late)
    with lease.open([BIG]) as session:
        session.download(out, fetched=there.__setitem__)
    assert there == {BIG: FILES[BIG]}
    assert broker.case.found.spent == FILES[BIG]
    assert [path.name for path in (out / "weights").iterdir()] == ["0.bin"]
    assert len(made) == 2
