"""Messages are made in memory that was used before: counted in page faults, in processes that do nothing else."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from custody.wire.memory import keep_memory

if {keep}:
    keep_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def messages():
    return [b"x" * (1 << 20) for _ in range(8)]

messages()
before = faults()
for _ in range(8):
    messages()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is large to it is glibc's own")
def test_no_message_needs_pages_of_its_own() -> None:
    def faults(*, keep: bool) -> int:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(keep=keep)], check=True, capture_output=True, text=True
        )
        return int(ran.stdout)

    pages = 8 * 8 * (1 << 20) // 4096
    assert faults(keep=False) > pages // 2  # else there would be nothing to do
    assert faults(keep=True) < pages // 20
