import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from custody.errors import ConfigError, CustodyError
from custody.tlog.note import COSIGNATURE, VKey
from custody.witness.serve import WitnessConfig, _bind, generate_key, load_key, serve
from tests.doubles.tlog import TIME, log_signer


def _key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "witness.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_generated_key_is_loaded_again(tmp_path: Path, rng: Callable[[int], bytes]) -> None:
    secret, public = generate_key("w.example", rng)
    signer = load_key(_key_file(tmp_path, secret))
    assert signer.vkey.encode() + "\n" == public
    assert VKey.parse(public[:-1]).type == COSIGNATURE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, rng: Callable[[int], bytes], mode: int) -> None:
    with pytest.raises(ConfigError, match="others may use it"):
        load_key(_key_file(tmp_path, generate_key("w.example", rng)[0], mode))


def test_other_files_are_refused_without_quoting_them(tmp_path: Path, rng: Callable[[int], bytes]) -> None:
    secret, public = generate_key("w.example", rng)
    material = secret.split("+", 4)[-1].strip()
    for text in ("", public, secret * 2, secret[:-5], secret.strip() + " \n", log_signer().encode_secret()):
        with pytest.raises(ConfigError) as caught:
            load_key(_key_file(tmp_path, text))
        assert material not in str(caught.value)
        assert caught.value.__context__ is None
    with pytest.raises(ConfigError, match="not a file with one line"):
        load_key(_key_file(tmp_path, "x" * 5000))
    with pytest.raises(ConfigError, match="not a file"):
        load_key(tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        load_key(tmp_path / "missing")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("listen", "127.0.0.1"),
        ("listen", "127.0.0.1:99999"),
        ("listen", "http://127.0.0.1:0"),
        ("listen", "192.0.2.1:0"),
        ("prefix", "witness"),
        ("prefix", "/a b"),
        ("prefix", "/{x}"),
        ("logs", ()),
        ("logs", ("garbage",)),
    ],
)
def test_a_wrong_configuration_is_refused(
    tmp_path: Path, rng: Callable[[int], bytes], field: str, value: str | tuple[str, ...]
) -> None:
    key_file = _key_file(tmp_path, generate_key("w.example", rng)[0])
    settings = {"listen": "127.0.0.1:0", "prefix": "", "logs": (log_signer().vkey.encode(),), field: value}
    config = WitnessConfig(directory=tmp_path, key_file=key_file, **settings)  # type: ignore[arg-type]
    with pytest.raises(CustodyError):
        serve(config, lambda: TIME, lambda: 0.0)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
def test_no_answer_waits_until_its_headers_are_acknowledged(listen: str) -> None:
    with _bind(listen) as listener, socket.create_connection(listener.getsockname()[:2], 30):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
