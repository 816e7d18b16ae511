"""S3 servers for tests: moto (a fake over real HTTP) and SeaweedFS (a real one), each started once, on loopback."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import boto3
import pytest
from botocore.config import Config

from custody.adapters.s3_place import S3Place
from custody.adapters.store_s3 import S3Store
from custody.adapters.surroundings import Around, Surroundings
from custody.app.demo.places import WEED_PORTS, weed_answers, weed_command
from tests.doubles.ports import own_ports

__all__ = ["KEY_ID", "SECRET", "S3Server", "credentials", "moto_server", "weed_server"]

KEY_ID: Final = "AKIDTEST"
SECRET: Final = "secret-of-a-test"
_BUCKETS: Final = count()
_PREFIXES: Final = count()


class S3Server:
    """A running server, and buckets on it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}),
        )

    def bucket(self, *, lock: bool = False) -> str:
        """Make a bucket and return its name."""
        name = f"bucket-{os.getpid()}-{next(_BUCKETS)}"
        self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        return name

    @cached_property
    def common(self) -> str:
        """A bucket for everybody; SeaweedFS keeps files of their own for each."""
        return self.bucket()

    def url(self, bucket: str, prefix: str = "some/prefix", *, endpoint: str | None = None) -> str:
        """Name a place in a bucket as a configuration does."""
        return f"s3://{bucket}/{prefix}?endpoint={quote(endpoint or self.endpoint, safe='')}&region=us-east-1"

    def store(self, bucket: str | None = None, *, endpoint: str | None = None, around: Around | None = None) -> S3Store:
        """Open a store in a bucket, by default under a new prefix of the common one. ``endpoint`` may be a proxy's."""
        place = S3Place.parse(self.url(bucket or self.common, _fresh_prefix(), endpoint=endpoint))
        return S3Store(place, around or Surroundings.real())

    def emptied(self) -> S3Store:
        """Return one and the same store, under a new prefix each time: making a client takes most of a second."""
        self._one._prefix = f"{_fresh_prefix()}/"
        return self._one

    @cached_property
    def _one(self) -> S3Store:
        return self.store()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if "_one" in self.__dict__:
            self._one.close()


def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put credentials where the standard chain finds them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto in a process of its own."""
    port = own_ports(1)[0]
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, f"http://127.0.0.1:{port}/") as endpoint, S3Server(endpoint) as server:
        yield server


@contextmanager
def weed_server(directory: Path) -> Iterator[S3Server]:
    """Run SeaweedFS with its data in ``directory``."""
    ports = own_ports(WEED_PORTS)
    identity = {"name": "test", "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}], "actions": ["Admin"]}
    (directory / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    command = weed_command(directory, ports)
    with _running(command, f"http://127.0.0.1:{ports[0]}/") as endpoint, S3Server(endpoint) as server:
        yield server
    shutil.rmtree(directory / "data", ignore_errors=True)


@contextmanager
def _running(command: Sequence[str], endpoint: str) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not weed_answers(endpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.1)
        yield endpoint.rstrip("/")
    finally:
        process.kill()
        process.wait()


def _fresh_prefix() -> str:
    return f"test/{next(_PREFIXES)}"
