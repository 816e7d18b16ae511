"""The demo on S3: interrupted, told again from the start over a real server, and its deployment started once more."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def run(*command: str, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout


def interrupt(*command: str, cwd: Path) -> None:
    """Press Ctrl-C when the broker has begun to listen."""
    told = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)
    assert told.stdout is not None
    for line in told.stdout:
        if "broker listening" in line:
            told.send_signal(signal.SIGINT)
            break
    output, errors = told.communicate(timeout=60)
    assert told.returncode == 130, errors
    assert "Traceback" not in output + errors


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_interrupted_demo_is_told_again_on_s3_and_starts_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(os.urandom(9 << 20))  # more than one part of an upload, and than the segment that a job keeps
    custody = (sys.executable, "-m", "custody.cli")
    demo = (*custody, "demo", "--store", "s3", "--model", str(model), "--dir", str(tmp_path / "demo"))
    interrupt(*demo, cwd=tmp_path)
    said = run(*demo, cwd=tmp_path)
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
