"""Memory stays flat whatever the model's size: RssAnon of a process that seals, and of one that recovers.

0.5 GiB against 2 GiB here; ``CUSTODY_BIG=20`` compares with 20 GiB (and needs twice that on the disk).
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
