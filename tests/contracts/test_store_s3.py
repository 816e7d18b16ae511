"""S3 as a store: the contract on a fake and on a real server, and what only S3 can suffer."""

import pytest

from custody.adapters.store_s3 import S3Store
from tests.contracts.store_suite import StoreSuite
from tests.doubles.s3 import S3Server, credentials


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials(monkeypatch)


class TestMoto(StoreSuite):
    @pytest.fixture
    def store(self, moto: S3Server) -> S3Store:
        return moto.emptied()


class TestSeaweed(StoreSuite):
    @pytest.fixture
    def store(self, weed: S3Server) -> S3Store:
        return weed.emptied()
