"""A fault at every durable operation of sequencing, publishing and witnessing, alone and in pairs.

``CUSTODY_CAMPAIGN_RUNS`` and ``CUSTODY_CAMPAIGN_SEED`` ask for more or others; so does ``python -m tests.campaign``.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaign.mutants import MUTANTS

RUNS = int(os.environ.get("CUSTODY_CAMPAIGN_RUNS", "1000"))
SEED = int(os.environ.get("CUSTODY_CAMPAIGN_SEED", "0"))


def campaign(repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own: it forks, and nothing else may run in what is forked."""
    return subprocess.run(
        [sys.executable, "-m", "tests.campaign", "--seed", str(SEED), *options],
        cwd=repository,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # a child that lives 50 ms needs no arena for each thread
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(60 + RUNS)
def test_nothing_acknowledged_is_lost_nothing_forks_and_nothing_is_released_unpublished(
    repository: Path, record_property: Callable[[str, object], None]
) -> None:
    done = campaign(repository, "--runs", str(RUNS))
    for line in done.stdout.splitlines():
        record_property("summary", line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{RUNS} runs" in done.stdout


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_program_is_noticed(repository: Path, mutant: str) -> None:
    done = campaign(repository, "--runs", "400", "--stop", "--mutant", mutant)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"fault campaign, seed {SEED}" in done.stdout
