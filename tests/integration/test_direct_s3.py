"""Direct mode over S3: the job reads at presigned URLs, renewed through the broker, with no credentials of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.values import U64
from tests.doubles.direct import DirectSite
from tests.doubles.s3 import S3Server, credentials, weed_server
from tests.doubles.site import write_model

SIZES = {"config.json": 300, "empty": 0, "weights.bin": 1_000_000}
SIZE = sum(SIZES.values())


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch, weed_server(tmp_path_factory.mktemp("weed")) as server:
        credentials(patch)
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, weed: S3Server) -> Iterator[DirectSite]:
    bucket = weed.url(weed.common, "direct")
    with DirectSite(tmp_path_factory.mktemp("direct") / "site", how="presigned", bucket=bucket) as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("source"), SIZES)


@pytest.fixture(scope="module")
def sealed(site: DirectSite, source: Path) -> Sealed:
    version = site.seal(source)
    site.register(version)
    return version


@pytest.fixture
def lease(site: DirectSite, sealed: Sealed) -> str:
    return site.granted_direct(sealed, sessions=U64(3), bytes=U64(3 * SIZE))[1]


def test_a_job_without_credentials_reads_the_bucket(
    site: DirectSite, lease: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    weights = (source / "weights.bin").read_bytes()
    with site.job() as custody, custody.lease(lease).open() as session:
        assert session.read("weights.bin", 70_000, 10) == weights[70_000:70_010]
        session.download(tmp_path / "out")
        for name in SIZES:
            assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
