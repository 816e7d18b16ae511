"""What the attacks share: a running deployment, and for each file of tests one sealed version in it.

A file of tests that would hurt others defines a ``site`` of its own. One whose attacks are on a store's bytes, or on
what is done with them, takes its ``site`` from ``sites``: it runs over a directory and over S3.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from custody.app.sealing import Sealed
from tests.doubles.direct import DirectSite
from tests.doubles.s3 import credentials, weed_server
from tests.doubles.site import Site, impatient, write_model

__all__ = [
    "STORES",
    "direct_site",
    "draft",
    "fresh",
    "over_both_stores",
    "s3_site",
    "sealed",
    "site",
    "sites",
    "source",
]

STORES = ("directory", "s3")

over_both_stores = pytest.mark.parametrize("site", STORES, indirect=True, scope="module")
"""For a test whose ``site`` is chosen by ``sites``, and otherwise on a directory."""

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
def s3_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectSite]:
    """The same with its store on a real S3 server; jobs in direct mode get presigned URLs."""
    folder = tmp_path_factory.mktemp("s3")
    with pytest.MonkeyPatch.context() as patch, weed_server(folder) as server:
        credentials(patch)
        bucket = server.url(server.common)
        with DirectSite(folder / "site", change_config=impatient, how="presigned", bucket=bucket) as running:
            yield running


@pytest.fixture(scope="session")
def sites(request: pytest.FixtureRequest) -> Callable[[str], DirectSite]:
    """A deployment that permits both modes, by the kind of its store; made when it is first asked for."""
    names = dict(zip(STORES, ("direct_site", "s3_site"), strict=True))
    return lambda store: request.getfixturevalue(names[store])


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
