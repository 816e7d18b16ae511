"""What every test shares: repeatable properties and repeatable entropy."""

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

__all__ = ["repository", "rng"]

# No deadline: two shared cores make timing worthless. In CI the examples are always the same, so that a red run is
# about the change; people's runs keep exploring, and remember what failed. `long` is for a night.
settings.register_profile("people", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("people"), derandomize=True, database=None)
settings.register_profile("long", settings.get_profile("people"), max_examples=20_000)
settings.load_profile(os.environ.get("CUSTODY_HYPOTHESIS", "ci" if os.environ.get("CI") else "people"))

# A shell that starts the tests in the background has Ctrl-C ignored, and children inherit that: here it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if home := os.environ.get("CUSTODY_HYPOTHESIS_DIR"):
    set_hypothesis_home_dir(home)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have recorded as their ``summary``: what a campaign tried is worth more than a dot."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, line in report.user_properties:
                if name == "summary":
                    terminalreporter.write_line(str(line))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Callable[[int], bytes]:
    """Entropy as the code wants it, repeatable: a stream of SHAKE-256 over the test's own name."""
    name = request.node.nodeid.encode()
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(name + drawn.to_bytes(8, "big")).digest(size)

    return draw


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the tree."""
    return Path(__file__).resolve().parent.parent
