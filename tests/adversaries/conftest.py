"""What the attacks share: a running deployment, and for each file of tests one sealed version in it.

A file of tests that would hurt others defines a ``site`` of its own.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from tests.doubles.direct import DirectSite
from tests.doubles.site import Site, impatient, write_model

__all__ = ["direct_site", "draft", "fresh", "sealed", "site", "source"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment; each test files requests of its own."""
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


@pytest.fixture(scope="session")
def direct_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectSite]:
    """A deployment where direct mode is permitted, and callers wait for the log for two seconds."""
    with DirectSite(tmp_path_factory.mktemp("direct") / "site", change_config=impatient) as running:
        yield running


@pytest.fixture(scope="session")
def fresh() -> Callable[[str], str]:
    """Make a version's name that no other test has."""
    return lambda name: f"demo/{name}@{next(_numbers)}"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plaintext: file 0 has one segment, file 1 has four."""
    return write_model(tmp_path_factory.mktemp("source"), {"config.json": 300, "weights.bin": 200_000})


@pytest.fixture(scope="module")
def sealed(site: Site, source: Path, fresh: Callable[[str], str]) -> Sealed:
    """The source, sealed and in custody."""
    version = site.seal(source, fresh("model"))
    site.register(version)
    return version


@pytest.fixture
def draft(site: Site, source: Path, fresh: Callable[[str], str]) -> Sealed:
    """The source, sealed, and not in custody yet."""
    return site.seal(source, fresh("draft"))
