"""Whoever opens the tree sees the architecture: an exact top level, small files, settings that explain themselves."""

import tomllib

import pytest

import custody
from tests.unit.house.tree import ROOT, files, texts

TOP = {
    ".ci",
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    "LICENSE",
    "README.md",
    "custody",
    "keys",
    "ops",
    "proto",
    "pyproject.toml",
    "tests",
}
ROOMS = [
    *["cli", "app", "server", "client", "custodian", "witness", "audit", "adapters", "wire", "broker", "publishing"],
    *["rules", "segments", "documents", "entries", "tlog", "crypto"],
]
MODULES = {"__init__.py", "errors.py", "ports.py", "py.typed", "values.py"}
MOST_LINES = 400


def test_the_top_level_holds_exactly_what_the_readme_names() -> None:
    assert {path.parts[0] for path in files()} == TOP


def test_the_package_holds_exactly_its_rooms() -> None:
    assert {path.parts[1] for path in files() if path.parts[0] == "custody"} <= {*ROOMS, *MODULES}


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_for(room: str) -> None:
    assert (ROOT / "custody" / room / "__init__.py").read_text().startswith('"""')


def test_no_file_of_code_is_longer_than_four_hundred_lines() -> None:
    code = {".py", ".sh", ".proto", ".html", ".css", ".mjs", ".cedar", ""}
    long = [
        f"{path}: {text.count(chr(10))}"
        for path, text in texts()
        if path.suffix in code
        and path.name != "LICENSE"
        and not path.stem.endswith(("_pb2", "_pb2_grpc"))
        and "vectors" not in path.parts
        and text.count("\n") > MOST_LINES
    ]
    assert long == []


def test_every_ignored_rule_carries_its_reason() -> None:
    lint = (ROOT / "pyproject.toml").read_text().partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.pydoc")[0]
    ignores = [line.strip() for line in lint.splitlines() if line.strip().startswith('"') and "= [" not in line]
    assert len(ignores) > 20
    assert [line for line in ignores if "# " not in line] == []


def test_every_dependency_carries_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    named = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    for requirement in named:
        lines = [line for line in text.splitlines() if line.strip().startswith(f'"{requirement}"')]
        assert requirement.startswith("custody[") or all("# " in line for line in lines), requirement


def test_the_version_is_written_once() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]
    assert custody.__version__.count(".") == 2
