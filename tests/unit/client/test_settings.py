"""What a program must be told before it talks to a broker."""

from pathlib import Path

import pytest

from custody.adapters.home import Home
from custody.client import Custody, Settings
from custody.errors import ConfigError, CustodyError

LINES = {
    "deployment": 'deployment = "custody.example.org/test"',
    "genesis": f'genesis = "{"ab" * 32}"',
    "broker": '[broker]\naddress = "broker.example.org:8443"',
    "tls": '[tls]\ncertificate = "tls/tls.crt"\nkey = "/abs/tls.key"\nca = "ca.pem"',
}


def _home(path: Path, *without: str, **instead: str) -> Home:
    lines = [text for name, text in (LINES | instead).items() if name not in without]
    (path / "custody.toml").write_text("\n".join(lines) + "\n")
    return Home(path)


def test_a_home_says_it_all_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    settings = Settings.of_home(_home(tmp_path))
    assert (settings.address, settings.server_name) == ("broker.example.org:8443", "broker.example.org")
    assert settings.tls.certificate == tmp_path / "tls/tls.crt"
    assert settings.tls.key == Path("/abs/tls.key")


def test_the_name_in_the_certificate_may_differ_from_the_host(tmp_path: Path) -> None:
    broker = '[broker]\naddress = "[::1]:8443"\nserver_name = "broker-1.custody"'
    assert Settings.of_home(_home(tmp_path, broker=broker)).server_name == "broker-1.custody"
    plain = '[broker]\naddress = "[::1]:8443"'
    assert Settings.of_home(_home(tmp_path, broker=plain)).server_name == "::1"


@pytest.mark.parametrize(
    ("missing", "match"), [("genesis", "no genesis"), ("broker", r"no \[broker\]"), ("tls", r"no \[tls\]")]
)
def test_what_is_missing_is_named_with_its_file(tmp_path: Path, missing: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        Custody.connect(_home(tmp_path, missing).path)
    assert "custody.toml" in caught.value.message


def test_an_address_without_a_port_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not host:port"):
        Settings.of_home(_home(tmp_path, broker='[broker]\naddress = "broker"'))


def test_connecting_sends_nothing(tmp_path: Path) -> None:
    home = _home(tmp_path).path
    with Custody.connect(home) as custody, Custody.connect(str(home)) as again:
        assert again.settings == custody.settings
        assert custody.settings.deployment == "custody.example.org/test"
        with pytest.raises(CustodyError):
            custody.version("demo/tiny@1")
