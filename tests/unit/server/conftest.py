import os

import pytest

from tests.doubles.sealed import Sealed, seal
from tests.unit.server.stage import PLAINTEXT, SEGMENT

__all__ = ["sealed"]


@pytest.fixture(scope="session")
def sealed() -> Sealed:
    return seal(PLAINTEXT, os.urandom, segment=SEGMENT)
