"""S3 servers, each started once for the whole folder."""

from collections.abc import Iterator

import pytest

from tests.doubles.s3 import S3Server, moto_server, weed_server

__all__ = ["moto", "weed"]


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with weed_server(tmp_path_factory.mktemp("weed")) as server:
        yield server
