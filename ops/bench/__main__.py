"""``python -m ops.bench``: the table. ``... log`` and ``... log audit`` hand over to the log's own."""

import argparse
import json
import os
import platform
import runpy
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ops.bench.local import measure_local
from ops.bench.rows import chart, table


def _machine() -> dict[str, object]:
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "page size": os.sysconf("SC_PAGE_SIZE"),
        "huge pages": pages.read_text().strip() if pages.exists() else "none",
        "load average": [round(load, 1) for load in os.getloadavg()],
    }


def _measure(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="ops/bench/run", description="Measures how fast this machine seals and opens."
    )
    parser.add_argument("--size", type=int, default=1024, help="MiB of weights (default 1024)")
    parser.add_argument("--segment", type=int, default=1024, help="KiB of a segment (default 1024)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to open from (default: the system's)")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="a folder in memory to seal to")  # noqa: S108 - its place
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    asked = parser.parse_args(words)
    machine = _machine()
    with tempfile.TemporaryDirectory(dir=asked.dir) as work, tempfile.TemporaryDirectory(dir=asked.tmpfs) as memory:
        rows = measure_local(Path(work), Path(memory), asked.size << 20, asked.segment << 10, asked.runs)
    print("; ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{asked.size} MiB in segments of {asked.segment} KiB, GB/s, {asked.runs} runs in turn\n")
    print(f"{table(rows)}\n\n{chart(rows)}")
    if asked.json:
        figures = [asdict(row) | {"median": row.median} for row in rows]
        asked.json.write_text(
            json.dumps({"machine": machine, "size": asked.size << 20, "rows": figures}, indent=2) + "\n"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["log"]:
        audit = sys.argv[2:3] == ["audit"]
        words = sys.argv[3:] if audit else sys.argv[2:]
        sys.argv = ["ops/bench/run log audit" if audit else "ops/bench/run log", *words]
        runpy.run_module("ops.bench.log_audit" if audit else "ops.bench.log", run_name="__main__")
    else:
        _measure(sys.argv[1:])
