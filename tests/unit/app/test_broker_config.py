"""A wrong configuration says exactly what is wrong, where, and nothing is served."""

from collections.abc import Callable
from pathlib import Path

import pytest

from custody.app.broker_config import load, template
from custody.errors import ConfigError

TEXT = template(
    deployment="custody.example.org/test",
    genesis="0" * 64,
    broker="broker-1",
    address="127.0.0.1:7400",
    witnesses={"witness-1": "http://127.0.0.1:7401"},
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "broker.toml"
    path.write_text(text)
    return path


def test_what_configure_writes_is_understood(tmp_path: Path) -> None:
    config = load(written(tmp_path, TEXT))
    assert config.witnesses == {"witness-1": "http://127.0.0.1:7401"}
    assert config.listen.max_connection_age == 3600


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("receipt-timeout", "reciept-timeout"), "reciept-timeout"),
        (lambda text: text.replace("[store]\nurl", "[store]\nuri"), "uri.*store"),
        (lambda text: text.replace('genesis = "0', 'genesis = "zz'), "genesis"),
        (lambda text: text.replace("max-connection-age = 3600", "max-connection-age = 0"), "max-connection-age"),
        (lambda text: text.replace('id = "broker-1"', 'id = "Broker 1"'), "id"),
        (lambda text: text.replace("[policy]", "[polcy]"), "polcy|policy"),
        (lambda text: text + "[[[", "not TOML"),
        (lambda text: "", "deployment|missing"),
    ],
)
def test_a_typo_is_named(tmp_path: Path, change: Callable[[str], str], says: str) -> None:
    path = written(tmp_path, change(TEXT))
    with pytest.raises(ConfigError, match=says) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such"):
        load(tmp_path / "no-such.toml")
