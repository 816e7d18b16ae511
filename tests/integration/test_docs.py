"""Every command in the README and the runbooks is run, in order, as written, on a deployment that ops/demo left."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.app.demo.ports import PORTS

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[str]:
    lines = [line for block in BLOCK.findall(path.read_text()) for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), path
    return [line[2:] for line in lines]


def bash(script: list[str], cwd: Path, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=cwd,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What ops/demo leaves; its servers are stopped in the end."""
    folder = tmp_path_factory.mktemp("docs")
    directory = folder / "demo"
    venv = os.environ.get("CUSTODY_DEMO_VENV", str(folder / "venv"))
    compiled = str(folder / "compiled")  # with the rest of it, not where ops/check keeps its own
    places = {"CUSTODY_VENV": venv, "HOME": str(folder), "PYTHONPYCACHEPREFIX": compiled}
    said = bash([f"{ROOT}/ops/demo --dir {directory}"], ROOT, **places)
    assert "Done in" in said
    assert re.search(r"^ +fetched +87\.4 MiB \(91618861 bytes\) in (\d+\.\d seconds|\d+ minute)", said, re.MULTILINE)
    yield directory
    bash([f"{directory}/down"], directory)


@pytest.mark.timeout(400)
def test_the_demo_shows_what_it_promises(demo: Path) -> None:
    assert (demo / "log/checkpoint").exists()
    assert (demo / "keys/log.vkey").exists()
    addresses = re.findall(r"127\.0\.0\.1:(\d+)", (demo / "broker/broker.toml").read_text())
    assert len(addresses) == 2  # the broker's and the witness's, which must be free when they start again
    assert all(int(port) in PORTS for port in addresses)
    fetched = demo / "fetched/model.safetensors"
    assert fetched.stat().st_size == 90868376
    assert not (demo / "fetched-again").exists() or not any((demo / "fetched-again").rglob("model.safetensors"))


@pytest.mark.timeout(300)
def test_every_command_of_the_readme(demo: Path, tmp_path: Path) -> None:
    first, *tour = commands(ROOT / "README.md")
    assert [first, tour.pop(0)] == ["ops/demo", "ops/check"]  # the fixture ran the one; the other is running this
    assert "ops/check" in (ROOT / ".ci/run").read_text()
    script = [
        line.replace("$PWD/var/demo", str(demo))
        .replace("$PWD/.venv-demo/bin:", "")
        .replace("/tmp/custody-", f"{tmp_path}/custody-")
        for line in tour
    ]
    bash(script, tmp_path)
    assert (tmp_path / "custody-tour/model.safetensors").read_bytes() == (
        tmp_path / "custody-recovered/model.safetensors"
    ).read_bytes()


@pytest.mark.timeout(300)
def test_every_command_of_the_runbooks(demo: Path) -> None:
    def ask(who: str, words: str) -> dict[str, object]:
        answer = bash([f"custody --home {demo}/homes/{who} --output json {words}"], demo)
        found: dict[str, object] = json.loads(answer)
        return found

    books = {path.stem: path for path in (ROOT / "ops/runbooks").glob("*.md") if path.stem != "README"}
    linked = set(re.findall(r"\]\(([a-z-]+)\.md\)", (ROOT / "ops/runbooks/README.md").read_text()))
    assert linked == set(books)
    variables = {"D": str(demo)}
    bash([f"{demo}/up"], demo)
    secret = "--passphrase-fd 3 3<$D/homes/{}/passphrase"
    words = "request demo/minilm@1 --for spiffe://custody.example.org/job/serving --purpose serving --reason drill"
    bash([f"custody --home $D/homes/dave {words} {secret.format('dave')}"], demo, **variables)
    pending = ask("alice", "pending")["requests"]
    assert isinstance(pending, list)
    variables["R"] = str(pending[0]["request"])
    for who in ("alice", "bob"):
        bash([f"custody --home $D/homes/{who} approve $R --yes {secret.format(who)}"], demo, **variables)
    os.kill(int((demo / "broker.pid").read_text()), signal.SIGKILL)
    bash([f"{demo}/down; {demo}/up"], demo)
    bash(commands(books.pop("broker-restarted")), demo, **variables)
    leases = ask("alice", "lease list")["leases"]
    assert isinstance(leases, list)
    variables["L"] = str(leases[0]["lease"])
    bash(commands(books.pop("log-blocked")), demo, **variables)
    bash(commands(books.pop("alerts")), demo, **variables)
    os.kill(int((demo / "broker.pid").read_text()), signal.SIGKILL)
    bash(commands(books.pop("ledger-lost")), demo, **variables)
    bash([f"{demo}/down; {demo}/up"], demo)
    for name in ("revoke", "break-glass", "certificates"):  # the lease is still there to be revoked
        bash(commands(books.pop(name)), demo, **variables)
    for name in ("disk-grows", "log-successor"):  # what they say is done by test_pruned.py and test_succession.py
        assert not commands(books.pop(name))
    assert not books
