import ssl
from pathlib import Path

import pytest

from custody.app.ca import create_authority
from tests.doubles.deployment import now

__all__ = ["tls", "tls_context"]


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's certificate for localhost, its key, and the CA."""
    folder = tmp_path_factory.mktemp("ca")
    authority = create_authority(folder / "ca", "example.org", now())
    authority.issue("spiffe://example.org/store", folder / "tls", hours=1, dns=("localhost",), now=now())
    return folder / "tls"


@pytest.fixture
def tls_context(tls: Path) -> ssl.SSLContext:
    """What a server of that store needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
    return context
