"""A program starts with what it uses: what it must not have loaded by then, stage after stage of one process.

Each stage also has what the stages before it loaded, so the lightest come first.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest

from tests.unit.house.tree import ROOT

OFFLINE = ("ca", "custodian", "init", "log.group", "log.verify", "log.show", "recover", "root")
ONLINE = ("approvals", "pending", "versions")
STAGES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "an opener": (
        ("custody.broker.opener_child", "custody.broker.keeper_child", "custody.custodian.rewrap_child"),
        ("asyncio", "click", "cryptography.x509", "custody.documents", "custody.rules", "logging", "socketserver"),
    ),
    "the help": (("custody.cli",), ("custody.crypto.keys", "custody.app", "rich", "sqlalchemy", "grpc", "http.client")),
    "a command that talks to nobody": (
        tuple(f"custody.cli.{name}" for name in OFFLINE),
        (
            "asyncio",
            "custody.client.link",
            "custody.wire",
            "google",
            "grpc",
            "http.client",
            "numpy",
            "rich",
            "sqlalchemy",
        ),
    ),
    "a person's command": (
        tuple(f"custody.cli.{name}" for name in ONLINE),
        ("custody.client.session", "custody.client.tensors", "http.client", "numpy", "rich", "sqlalchemy"),
    ),
    "a broker": (
        ("custody.app.broker",),
        ("alembic", "boto3", "mako", "psycopg", "rich", "sqlalchemy.dialects.postgresql", "sqlalchemy.orm"),
    ),
}

PROGRAM = """
import importlib, json, sys
loaded = {}
for stage, names in json.loads(sys.argv[1]).items():
    for name in names:
        importlib.import_module(name)
    loaded[stage] = sorted(sys.modules)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    wanted = json.dumps({stage: names for stage, (names, _) in STAGES.items()})
    done = subprocess.run([sys.executable, "-c", PROGRAM, wanted], cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_start_loads_what_it_uses(loaded: dict[str, list[str]], stage: str) -> None:
    names, unused = STAGES[stage]
    assert set(names) <= set(loaded[stage])
    assert [name for name in unused if name in loaded[stage]] == []
