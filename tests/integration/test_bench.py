"""The benchmark runs and says what it measured; how fast is not asked here."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_small_benchmark_prints_its_table_and_writes_its_figures(tmp_path: Path) -> None:
    command = ["-m", "ops.bench", "--size", "4", "--runs", "1", "--dir", str(tmp_path), "--tmpfs", str(tmp_path)]
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, *command, "--json", str(figures)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in ("page size 4096", "cp, to tmpfs", "copy into fresh huge pages", "ours is"):
        assert words in done.stdout
    rows = json.loads(figures.read_text())["rows"]
    assert {row["part"] for row in rows} == {"seal", "open", "1 %"}
    assert all(row["rates"] for row in rows if row["ours"])
