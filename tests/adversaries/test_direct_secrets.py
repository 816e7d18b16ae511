"""Where the keys of direct mode are: in a job's memory while it has a session, and nowhere else."""

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from tests.adversaries.conftest import STORES
from tests.adversaries.test_direct import keys_of
from tests.doubles import direct_job, scanner
from tests.doubles.direct import DirectSite
from tests.doubles.s3 import SECRET
from tests.doubles.site import DEPLOYMENT
from tests.unit.house.tree import ROOT


@pytest.fixture(scope="module", params=STORES)
def site(request: pytest.FixtureRequest, sites: Callable[[str], DirectSite]) -> DirectSite:
    return sites(request.param)


@pytest.fixture(scope="module")
def lease(site: DirectSite, sealed: Sealed) -> str:
    return site.granted_direct(sealed)[1]


@pytest.fixture
def job(site: DirectSite, lease: str) -> Iterator["subprocess.Popen[str]"]:
    """A job in a process of its own, which has read a file and waits before it closes its session."""
    words = (DEPLOYMENT, site.root_envelope.digest, site.address, str(site.directory / "tls/job"), lease)
    process = subprocess.Popen(
        [sys.executable, direct_job.__file__, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def going_on(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file, but for partial tiles that have gone meanwhile."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):
            yield path, path.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory takes CAP_SYS_PTRACE")
def test_a_job_wipes_the_keys_when_it_closes_its_session(
    site: DirectSite, sealed: Sealed, job: "subprocess.Popen[str]"
) -> None:
    pairs = [keys_of(site, sealed, file) for file in (0, 1)]
    needles = [pair[place : place + 16] for pair in pairs for place in (0, 16, 32, 48)]
    assert going_on(job) == "open"
    assert {number for number, _ in scanner.find(job.pid, needles)} == set(range(8))  # the positive control
    assert job.stdin is not None
    job.stdin.write("\n")
    job.stdin.flush()
    assert going_on(job) == "closed"
    assert list(scanner.find(job.pid, needles)) == []


def test_no_key_is_on_a_disk_or_in_a_log(site: DirectSite, sealed: Sealed, job: "subprocess.Popen[str]") -> None:
    assert going_on(job) == "open"
    pairs = [keys_of(site, sealed, file) for file in (0, 1)]
    needles = [spelled for pair in pairs for key in (pair[:32], pair[32:]) for spelled in (key, key.hex().encode())]
    needles += [b64encode(b"-" * shift + pair)[4:-4] for pair in pairs for shift in range(3)]
    needles += [b"X-Amz-Signature", SECRET.encode()]  # of S3: what opens a blob, and what opens all
    found = dict(files(site.directory))
    assert site.directory / "broker.err" in found
    assert not [path for path, data in found.items() if any(needle in data for needle in needles)]
