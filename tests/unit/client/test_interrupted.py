"""Whoever waits can be interrupted, what was opened is ended and wiped, and nobody else has to pay for it."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from custody.client import download, parts
from custody.client.reading import Kept
from custody.client.session import Session
from custody.errors import (
    CustodyError,
    DeniedError,
    FormatError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from custody.values import U64
from tests.doubles.interrupting import interrupting
from tests.unit.client.broker import FILES, SEGMENT, Broker

BIG = "weights/0.bin"
SOON = 5.0


def wait_for_real(broker: Broker) -> None:
    """Pauses take a moment of real time, and patience never ends."""

    def sleep(seconds: float) -> None:
        del seconds
        time.sleep(0.01)

    broker.clock.sleep = sleep  # type: ignore[method-assign]


class Away:
    """A broker that does not answer until it is told that it was waited for too long."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()

    def __call__(self, *_: object) -> Any:
        self.asked.set()
        if self.over.is_set():
            raise DeniedError("nobody was interrupted")
        time.sleep(0.01)
        raise UnavailableError("away")

    def stream(self, *_: object) -> Iterator[Any]:
        yield self()


# -- Ctrl-C


def test_a_part_whose_fetch_was_interrupted_is_left_to_the_next(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment: it is whole, and waits to be counted with the others while a terminal is slow."""
    real, held, go_on = os.fsync, threading.Event(), threading.Event()

    def tell(_done: int) -> None:
        held.set()
        assert go_on.wait(SOON)

    def fsync(descriptor: int) -> None:
        real(descriptor)
        frame: Any = sys._getframe(1)
        group = frame.f_locals["self"]
        threading.Thread(target=group._tell, args=(tell, 0)).start()
        assert held.wait(SOON)
        begin()

    monkeypatch.setattr(download, "can_sync_whole", lambda _: False)
    lease = broker.lease()
    with lease.open([BIG]) as session, interrupting(1, go_on.set) as begin:
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(KeyboardInterrupt):
            session.download(tmp_path)
        monkeypatch.undo()
    with lease.open([BIG]) as session:
        session.download(tmp_path)
    assert (tmp_path / BIG).read_bytes() == broker.plain[BIG]


def test_ctrl_c_ends_a_download_that_waits_for_shares(broker: Broker, tmp_path: Path) -> None:
    wait_for_real(broker)
    away = Away()
    with broker.lease().open(patience=900) as session:
        broker.restart(shares=False)
        broker.lie("get_request", lambda *_, **__: away())
        with interrupting(1, away.over.set) as begin:
            begin()
            with pytest.raises(KeyboardInterrupt):
                session.download(tmp_path / "out")


@pytest.mark.parametrize("leave", ["Ctrl-C", "break"])
def test_nobody_waits_for_tensors_that_nobody_asks_for(tmp_path: Path, leave: str) -> None:
    file = save({f"t{i}": np.arange(3 * SEGMENT, dtype="u1") for i in range(8)})
    broker, away = Broker(tmp_path / "tls", files={"m.safetensors": file}), Away()
    wait_for_real(broker)
    honest = broker.read_within

    def some(session: str, file: int, first: int, *rest: Any) -> Iterator[Any]:
        yield from (away.stream() if first >= 4 else honest(session, file, first, *rest))

    broker.lie("read_within", some)
    with broker.lease().open(patience=900) as session:
        walk = session.walk_tensors("m.safetensors", framework="numpy", memory=8 * SEGMENT)
        next(walk)
        assert away.asked.wait(SOON)
        if leave == "Ctrl-C":
            with interrupting(1, away.over.set) as begin:
                begin()
                with pytest.raises(KeyboardInterrupt):
                    list(walk)
        else:
            late = threading.Timer(SOON, away.over.set)
            late.start()
            walk.close()  # type: ignore[attr-defined]
            late.cancel()
            assert not away.over.is_set()


def test_tensors_that_nobody_asks_for_may_be_collected_by_their_own_thread(tmp_path: Path) -> None:
    """A dropped generator in a cycle ends when the collector finds it, in whichever thread that runs."""
    file = save({f"t{i}": np.arange(3 * SEGMENT, dtype="u1") for i in range(8)})
    broker, go_on, collected = Broker(tmp_path / "tls", files={"m.safetensors": file}), threading.Event(), list[str]()
    honest = broker.read_within

    def some(session: str, file: int, first: int, *rest: Any) -> Iterator[Any]:
        if first >= 4:
            assert go_on.wait(SOON)
            gc.collect()
            collected.append(threading.current_thread().name)
        yield from honest(session, file, first, *rest)

    def drop() -> memoryview:
        walk = session.walk_tensors("m.safetensors", framework="numpy", memory=8 * SEGMENT)
        cycle: list[Any] = [walk]
        cycle.append(cycle)
        return memoryview(next(walk)[1])

    broker.lie("read_within", some)
    gc.disable()
    try:
        with broker.lease().open() as session:
            seen = drop()
            assert any(seen)
            go_on.set()
            end = time.monotonic() + SOON
            while any(seen) and time.monotonic() < end:
                time.sleep(0.01)
            assert not any(seen)
    finally:
        gc.enable()
    assert collected == ["custody-ahead"]


def test_a_program_that_ends_in_the_middle_of_a_walk_says_nothing(tmp_path: Path) -> None:
    script = """if True:
        import sys, time, numpy as np
        from pathlib import Path
        from safetensors.numpy import save
        from tests.unit.client.broker import Broker, SEGMENT
        file = save({f"t{i}": np.arange(3 * SEGMENT, dtype="u1") for i in range(8)})
        broker = Broker(Path(sys.argv[1]) / "tls", files={"m.safetensors": file})
        honest = broker.read_within
        def some(session, file, first, *rest):
            if first >= 4:
                time.sleep(60)  # the program does not wait for that
            yield from honest(session, file, first, *rest)
        broker.lie("read_within", some)
        walk = broker.lease().open().walk_tensors("m.safetensors", framework="numpy", memory=8 * SEGMENT)
        print(next(walk)[0])
    """
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "t0\n", "")


def test_a_helper_is_outwaited_however_often_the_user_interrupts(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes to a descriptor, which belongs to another file as soon as it was closed."""
    real, pressed, writing = parts.Part.write, threading.Event(), threading.Event()
    done: list[bool] = []

    def slow(part: parts.Part, data: memoryview, offset: int) -> None:
        writing.set()
        assert pressed.wait(SOON)
        done.append(part.descriptor >= 0)
        real(part, data, offset)

    monkeypatch.setattr(parts.Part, "write", slow)
    with broker.lease().open([BIG]) as session, interrupting(4, pressed.set) as begin:
        threading.Thread(target=lambda: (writing.wait(SOON), begin())).start()
        with pytest.raises(KeyboardInterrupt):
            session.download(tmp_path / "out")
        assert pressed.is_set()
        assert done
        assert all(done)


def test_a_session_whose_opening_was_interrupted_is_ended(tmp_path: Path) -> None:
    """Otherwise it counts its whole ceiling, and of a lease of one session nothing is left."""
    broker = Broker(tmp_path / "tls", bytes=U64(sum(FILES.values())), sessions=U64(1))
    honest = broker.open_session

    def interrupted(envelope: Any) -> Any:
        honest(envelope)
        raise KeyboardInterrupt

    broker.lie("open_session", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broker.lease().open()
    assert not broker.sessions
    assert broker.case.found.spent == 0


# -- Closing


def test_closing_does_not_wait_for_a_thread_that_opens_a_session_again(broker: Broker) -> None:
    wait_for_real(broker)
    away, failures = Away(), list[BaseException]()

    def read() -> None:
        try:
            session.read(BIG)
        except (CustodyError, ValueError) as error:
            failures.append(error)

    session = broker.lease().open(patience=3600)
    session.read("config.json", 0, 8)
    broker.sessions.clear()
    broker.lie("open_session", away)
    reader = threading.Thread(target=read)
    reader.start()
    assert away.asked.wait(SOON)
    session.close()
    reader.join(SOON)
    away.over.set()
    assert not reader.is_alive()
    assert str(failures[0]) == "the session was closed"


def test_a_session_that_was_opened_again_while_all_was_closed_is_ended(broker: Broker) -> None:
    honest, opening, closed = broker.open_session, threading.Event(), threading.Event()

    def slow(envelope: Any) -> Any:
        opening.set()
        assert closed.wait(SOON)
        return honest(envelope)

    def read() -> None:
        with pytest.raises(ValueError, match="the session was closed"):
            session.read(BIG)

    session = broker.lease().open()
    broker.sessions.clear()
    broker.lie("open_session", slow)
    reader = threading.Thread(target=read)
    reader.start()
    assert opening.wait(SOON)
    session.close()
    closed.set()
    reader.join(SOON)
    assert not broker.sessions


def test_an_interrupted_close_wipes_all_the_same(broker: Broker) -> None:
    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    session = broker.lease().open()
    session.read("config.json", 0, 8)
    broker.lie("close_session", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.close()
    assert all(key.closed for key in session._live._keys.digest_keys.values())
    assert not session._kept._segments


def test_what_is_to_be_kept_after_the_end_is_wiped() -> None:
    kept, data = Kept(1 << 20), bytearray(b"plaintext")
    kept.close()
    kept.put(0, 0, data)
    assert not any(data)
    assert not kept.copy(0, 0, 0, memoryview(bytearray(4)))


# -- What the caller's buffer holds


@pytest.mark.parametrize(
    ("path", "offset", "error"),
    [("config.json", 10**6, FormatError), ("nothing", 0, NotFoundError), (BIG, 0, IntegrityError)],
)
def test_the_buffer_is_zeros_whatever_is_raised(
    broker: Broker, path: str, offset: int, error: type[CustodyError]
) -> None:
    buffer = bytearray(100)
    with broker.lease().open() as session:
        session.readinto("config.json", buffer)
        broker.lists[2] = bytes(len(broker.lists[2]))
        assert any(buffer)
        with pytest.raises(error):
            session.readinto(path, buffer, offset)
    assert not any(buffer)


def test_what_is_not_wanted_any_more_ends_and_is_wiped(broker: Broker) -> None:
    wait_for_real(broker)
    buffer, asked = bytearray(b"?" * 100), list[None]()

    def wanted() -> None:
        asked.append(None)
        if len(asked) > 3:
            raise UnavailableError("the training step is over")

    def read(session: Session) -> None:
        session.readinto(BIG, buffer, wanted=wanted)

    with broker.lease().open(patience=900) as session:
        broker.lie("read_within", Away().stream)
        with pytest.raises(UnavailableError, match="the training step is over"):
            read(session)
    assert not any(buffer)
