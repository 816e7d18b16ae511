"""Memory stays flat whatever the model's size: RssAnon of a process that seals, recovers, or loads as a job.

0.5 GiB against 2 GiB here; ``CUSTODY_BIG=20`` compares with 20 GiB (and needs twice that on the disk). A job loads 64
and 512 MiB from a broker; ``ops/bench/run --large`` does it with 16 GiB.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.bench import memory
from ops.bench.deployment import deployed
from ops.bench.model import Model

MIB = 1 << 20
LIMIT = 300 * MIB
BIG = int(os.environ.get("CUSTODY_BIG", "2"))

PROGRAM = """
import sys
from pathlib import Path
from tests.doubles.seal_site import SealSite

folder = Path(sys.argv[1])
site = SealSite(folder)
site.seal(segment=1 << 20)
site.recover("alice", "bob")
"""


def peak_of(folder: Path, size: int) -> int:
    """Seal and recover a file of ``size`` bytes in a process of its own; return its highest RssAnon, in bytes."""
    (folder / "store").mkdir(parents=True)
    (folder / "model").mkdir()
    with (folder / "model/weights.bin").open("wb") as file:
        file.truncate(size)  # zeros cost no disk, and reading them is real reading
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=Path(__file__).parents[2])
    highest = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                highest = max(highest, int(line.split()[1]) * 1024)
        time.sleep(0.02)
    assert process.wait() == 0
    recovered = folder / "out/weights.bin"
    assert recovered.stat().st_size == size
    for path in (recovered, *(folder / "store").rglob("*.floe")):
        path.unlink()
    return highest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sealing_and_recovering_take_no_more_memory_for_a_larger_model(tmp_path: Path) -> None:
    small = peak_of(tmp_path / "small", 512 * MIB)
    large = peak_of(tmp_path / "large", BIG << 30)
    assert 0 < small < LIMIT
    assert large < LIMIT
    assert large < small + 32 * MIB


def beyond_the_buffer(folder: Path, size: int) -> dict[str, float]:
    """Load a model of ``size`` bytes in both modes, each in a process of its own; return by mode how many MiB of memory
    it took at most beyond the buffer that is filled.
    """
    folder.mkdir()
    model = Model.write(folder / "model.safetensors", size)
    with deployed(folder / "deployment") as deployment:
        deployment.seal(model.path, "demo/flat@1")
        rows = memory.rows(deployment, model, folder, large=False)
    return {row.name.split(",")[1].strip(): row.median for row in rows if row.values}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_loading_takes_no_more_memory_for_a_larger_model(tmp_path: Path) -> None:
    small, large = beyond_the_buffer(tmp_path / "small", 64 * MIB), beyond_the_buffer(tmp_path / "large", 512 * MIB)
    assert set(small) == set(large) == {"direct", "streamed"}
    assert all(0 < most < LIMIT // MIB for most in (*small.values(), *large.values()))
    assert all(large[mode] < small[mode] + 64 for mode in small), (small, large)
