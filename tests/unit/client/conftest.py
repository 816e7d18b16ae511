from pathlib import Path

import pytest

from tests.unit.client.broker import Broker

__all__ = ["broker"]


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path / "tls")
