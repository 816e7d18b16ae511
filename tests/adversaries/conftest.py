"""What the attacks share: one running deployment and one sealed version for each file of tests."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from tests.doubles.site import Site, write_model

__all__ = ["draft", "sealed", "site", "source"]

_drafts = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment that the tests of a file share; each files requests of its own."""
    with Site(tmp_path_factory.mktemp("deployment") / "site") as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plaintext: file 0 has one segment, file 1 has four."""
    return write_model(tmp_path_factory.mktemp("source"), {"config.json": 300, "weights.bin": 200_000})


@pytest.fixture(scope="module")
def sealed(site: Site, source: Path) -> Sealed:
    """The source, sealed and in custody as ``demo/model@1``."""
    version = site.seal(source)
    site.register(version)
    return version


@pytest.fixture
def draft(site: Site, source: Path) -> Sealed:
    """The source, sealed under a name of its own, and not in custody yet."""
    return site.seal(source, f"demo/draft@{next(_drafts)}")
