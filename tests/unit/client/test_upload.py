"""Uploads that were given up: nobody goes on waiting for a store or a broker that is away."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from custody.adapters.surroundings import Surroundings
from custody.client.link import Link
from custody.client.upload import Upload
from custody.errors import UnavailableError
from custody.ports import Presigned
from custody.segments.finishing import GivenUpError
from custody.wire.uploads import BlobPlace, UploadReply
from tests.unit.client.broker import Broker

PART = 1 << 20
SOON = 4.0
WAIT = 20.0
AWAY = ["the store", "the broker, for parts", "the broker, for signatures"]


@contextmanager
def uploading(broker: Broker, away: str, parts: int) -> Iterator[tuple[Upload, threading.Event]]:
    """An upload of one blob, ``k``; and what is set when it was tried to send a part."""
    tried = threading.Event()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/k?token"

        def sign(place: BlobPlace, first: int, many: int) -> Sequence[Presigned]:
            tried.set()
            if away == "the broker, for signatures":
                raise UnavailableError("the broker is away")
            return [Presigned(url, {}, 1 << 40)] * many

        def write(*_: Any) -> int:
            tried.set()
            raise UnavailableError("the broker is away")

        broker.lie("sign_parts", sign)
        broker.lie("write_blob", write)
        reply = UploadReply("u", away != "the broker, for parts", PART)
        with Link(broker.settings(), Surroundings.real(), connect=broker.connect) as link:
            upload = Upload(link, reply, {"k": (0, False, parts * PART)})
            yield upload, tried
            begin = time.monotonic()
            upload.close()
            assert time.monotonic() - begin < SOON


def write_all(upload: Upload, parts: int) -> None:
    with upload.writer("k") as writer:
        for _ in range(parts):
            writer.write(bytes(PART))


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize(
    "parts", [1, 3, 40], ids=["one part, when it ends", "parts when it ends", "when it is written"]
)
def test_who_waits_for_an_upload_that_was_given_up_is_let_go(broker: Broker, away: str, parts: int) -> None:
    with uploading(broker, away, parts) as (upload, tried), ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write_all, upload, parts)
        assert tried.wait(WAIT)
        with pytest.raises(TimeoutError):
            writing.result(0.3)
        upload.give_up()
        begin = time.monotonic()
        with pytest.raises(GivenUpError):
            writing.result(WAIT)
        assert time.monotonic() - begin < SOON


@pytest.mark.parametrize("away", [AWAY[0], AWAY[2]])
def test_a_blob_whose_block_was_interrupted_is_not_waited_for(broker: Broker, away: str) -> None:
    def interrupted() -> None:
        with upload.writer("k") as writer:
            writer.write(bytes(2 * PART))
            assert tried.wait(WAIT)
            begun.append(time.monotonic())
            raise KeyboardInterrupt

    begun: list[float] = []
    with uploading(broker, away, 3) as (upload, tried):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert time.monotonic() - begun[0] < SOON


def test_a_blob_that_the_broker_does_not_end_is_let_go_too(broker: Broker) -> None:
    ended = threading.Event()

    def finish(_place: BlobPlace) -> int:
        ended.set()
        raise UnavailableError("the broker is away")

    taken: Callable[..., int] = lambda _place, offset, data: offset + len(data)  # noqa: E731 - its type is the point
    with uploading(broker, AWAY[1], 1) as (upload, _), ThreadPoolExecutor(1) as thread:
        broker.lie("write_blob", taken)
        broker.lie("finish_blob", finish)
        writing = thread.submit(write_all, upload, 1)
        assert ended.wait(WAIT)
        upload.give_up()
        with pytest.raises(GivenUpError):
            writing.result(SOON)
