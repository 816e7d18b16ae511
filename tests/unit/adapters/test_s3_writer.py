"""A blob on its way into S3 of which a part did not arrive: nothing completes it, whoever goes on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from custody.adapters import s3_writer
from custody.adapters.s3_writer import S3Writer
from custody.errors import UnavailableError


class Client:
    """An S3 that takes parts but those numbered ``lost``, and no upload at all while ``down``."""

    def __init__(self) -> None:
        self.lost = 0
        self.down = False
        self.parts: dict[int, bytes] = {}
        self.completed: list[int] = []
        self.aborted = False

    def create_multipart_upload(self, **_: object) -> dict[str, str]:
        if self.down:
            raise ConnectionRefusedError("the store is down")
        return {"UploadId": "upload"}

    def upload_part(self, *, PartNumber: int, Body: bytes, **_: object) -> dict[str, str]:  # noqa: N803 - S3's names
        if PartNumber == self.lost:
            raise ConnectionResetError("the line broke")
        self.parts[PartNumber] = bytes(Body)
        return {"ETag": str(PartNumber)}

    def complete_multipart_upload(self, **_: object) -> None:
        self.completed = sorted(self.parts)

    def abort_multipart_upload(self, **_: object) -> None:
        self.aborted = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(s3_writer, "PART", 10)
    return Client()


@pytest.fixture
def writer(client: Client) -> Iterator[S3Writer]:
    with ThreadPoolExecutor(1) as pool:
        yield S3Writer(client, "bucket", "a", "a", pool, lambda: (0, b""))  # type: ignore[arg-type]  # what is asked of it


def test_parts_go_out_while_the_blob_is_written(client: Client, writer: S3Writer) -> None:
    for _ in range(9):
        writer.write(b"01234")
    writer.finish()
    assert client.completed == [1, 2, 3, 4, 5]
    assert b"".join(client.parts[number] for number in client.completed) == b"01234" * 9


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_blob_of_which_a_part_is_lost_is_not_completed(client: Client, writer: S3Writer, lost: int) -> None:
    client.lost = lost
    for _ in range(18):
        with suppress(UnavailableError):
            writer.write(b"01234")
    with pytest.raises(UnavailableError, match="the line broke"):
        writer.finish()
    writer.abandon()
    assert not client.completed
    assert client.aborted


def test_after_a_write_that_failed_the_next_one_fails_too(client: Client, writer: S3Writer) -> None:
    client.down = True
    with pytest.raises(UnavailableError, match="the store is down"):
        writer.write(bytes(25))
    client.down = False
    with pytest.raises(UnavailableError, match="the store is down"):
        writer.write(bytes(25))
    with pytest.raises(UnavailableError, match="the store is down"):
        writer.finish()
    assert not client.parts
