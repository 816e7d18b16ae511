"""Direct mode over a real deployment: the job opens the store's ciphertext itself, with the face of stream mode."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from custody.values import U64
from tests.doubles.direct import DirectSite
from tests.doubles.site import write_model

SIZES = {"config.json": 300, "empty": 0, "weights.bin": 1_000_000}
SIZE = sum(SIZES.values())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectSite]:
    with DirectSite(tmp_path_factory.mktemp("direct") / "site") as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("source"), SIZES)


@pytest.fixture(scope="module")
def sealed(site: DirectSite, source: Path) -> Sealed:
    version = site.seal(source)
    site.register(version)
    return version


def test_a_job_reads_and_downloads_as_in_stream_mode_and_whole_files_count(
    site: DirectSite, sealed: Sealed, source: Path, tmp_path: Path
) -> None:
    view, lease = site.granted_direct(sealed, sessions=U64(2), bytes=U64(2 * SIZE))
    weights = (source / "weights.bin").read_bytes()
    with site.job() as custody:
        with custody.lease(lease).open(["weights.bin"]) as session:
            assert session.read("weights.bin", 70_000, 10) == weights[70_000:70_010]
            for _ in range(3):  # what is read again does not count again: it is paid for
                buffer = bytearray(len(weights))
                session.readinto("weights.bin", buffer)
                assert buffer == weights
        assert session.receipts[0].outcome is not None
        with custody.lease(lease).open() as session:
            session.download(tmp_path / "out")
            assert session.read("empty") == b""
        for name in SIZES:
            assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    with site.calls("dave") as dave:
        after = dave.get_request(view.request)
    assert (after.bytes_spent, after.reason) == (SIZES["weights.bin"] + SIZE, "budget")
