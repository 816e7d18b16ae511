"""The demo on S3: the whole story, told over a real server, and its deployment started once more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*command: str, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_is_told_on_s3_and_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(os.urandom(9 << 20))  # more than one part of an upload
    custody = (sys.executable, "-m", "custody.cli")
    said = run(*custody, "demo", "--store", "s3", "--model", str(model), "--dir", str(tmp_path / "demo"), cwd=tmp_path)
    assert "Done in" in said
    assert "authentication failed" in said  # the flipped bit
    assert not list((tmp_path / "demo").rglob("*.floe"))
    assert "store" not in (tmp_path / "demo/homes/dave/custody.toml").read_text()
    secret = (tmp_path / "demo/s3/credentials").read_text().rsplit(" ", 1)[1].strip()
    for path in (tmp_path / "demo").rglob("*.err"):
        assert secret not in path.read_text()
        assert "X-Amz-Signature" not in path.read_text()
    run(str(tmp_path / "demo/up"), cwd=tmp_path)
    try:
        assert "demo/minilm@1" in run(*custody, "--home", str(tmp_path / "demo/homes/dave"), "versions", cwd=tmp_path)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "demo/s3/credentials"))
        (tmp_path / "copy").mkdir()
        alice = ("--home", str(tmp_path / "demo/homes/alice"))
        copied = run(*custody, *alice, "store", "copy", "--to", f"file:{tmp_path}/copy", cwd=tmp_path)
        assert copied.startswith("demo/minilm@1  9.0 MiB")
    finally:
        run(str(tmp_path / "demo/down"), cwd=tmp_path)
