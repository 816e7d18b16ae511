"""Anonymous memory stays flat whatever the size of a file. Measured from outside any cache, in a process of its own."""

import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
ALLOWED = 32 * MIB

PROGRAM = """
import os, sys
from pathlib import Path
from custody.adapters.store_local import LocalStore
from custody.crypto.secret import SecretBytes
from custody.segments.layout import FilePlan
from custody.segments.open import OpenFile
from custody.segments.seal import seal_file

root, size = Path(sys.argv[1]), int(sys.argv[2])
peak = 0

def look(_done):
    global peak
    status = Path("/proc/self/status").read_text()
    peak = max(peak, int(status.partition("RssAnon:")[2].split()[0]) * 1024)

source = root / "source"
source.touch()
os.truncate(source, size)
(root / "store").mkdir()
store = LocalStore(root / "store")
plan = FilePlan(bytes(32), 0, size, 1 << 20, "x")
keys = [SecretBytes.take(bytearray(32)), SecretBytes.take(bytearray(32))]
with (
    source.open("rb", buffering=0) as plain,
    store.writer(plan.ciphertext_key) as ciphertext,
    store.writer(plan.digests_key) as digests,
):
    sealed = seal_file(plain, plan, file_key=keys[0], digest_key=keys[1], ciphertext=ciphertext, digests=digests,
                       rng=os.urandom, progress=look)
with (
    OpenFile.open(plan, expected=sealed.digests, file_key=keys[0], digest_key=keys[1],
                  ciphertext=store.open(plan.ciphertext_key), digests=store.open(plan.digests_key)) as file,
    open(os.devnull, "wb", buffering=0) as sink,
):
    file.copy_to(sink, progress=look)
print(peak)
"""


def _peak(root: Path, size: int) -> int:
    root.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(root), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    return int(done.stdout)


def test_four_times_the_file_takes_no_more_memory(tmp_path: Path) -> None:
    small = _peak(tmp_path / "small", 64 * MIB)
    large = _peak(tmp_path / "large", 256 * MIB)
    assert small > MIB, "something was measured"
    assert large - small < ALLOWED
    assert large < 192 * MIB, "not a file's worth of memory in either"
