"""A plain install has no extras: what a job, a custodian and an auditor import must not need them."""

import subprocess
import sys

import pytest

from tests.unit.house.tree import ROOT, modules

PLAIN = ("client", "custodian", "audit", "wire", "segments", "documents", "entries", "tlog", "crypto")
EXTRAS = (
    "sqlalchemy",
    "alembic",
    "cedarpy",
    "grpc_health",
    "numpy",
    "prometheus_client",
    "psycopg",
    "starlette",
    "torch",
)

# None in sys.modules makes an import fail as if the package were not there.
PROGRAM = """
import importlib, sys
extras, names = sys.argv[1].split(","), sys.argv[2].split(",")
sys.modules.update(dict.fromkeys(extras))
for name in names:
    importlib.import_module(name)
"""


def _modules_of(room: str) -> list[str]:
    paths = [path for path in modules() if path.parts[1] == room and path.name != "__main__.py"]
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("room", PLAIN)
def test_a_room_of_the_plain_install_imports_without_the_extras(room: str) -> None:
    _import(_modules_of(room))


def test_the_command_line_starts_without_the_extras() -> None:
    _import(["custody.cli"])


def _import(names: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, ",".join(EXTRAS), ",".join(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
