"""The part of the report page that verifies, run without the page: in Node, or in Chromium."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custody.audit.page.build import MODULES, program
from tests.doubles.browser import CHROMIUM, Browser
from tests.unit.house.tree import ROOT

__all__ = ["ENGINES", "NO_ENGINE", "Verify", "engine"]

_ABLE = "globalThis.crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])"


def _node() -> str | None:
    """Find a Node that can verify what the page verifies: version 20 or later."""
    path = shutil.which("node")
    if path is None:
        return None
    done = subprocess.run([path, "--no-warnings", "--eval", _ABLE], capture_output=True, check=False)
    return None if done.returncode else path


NODE = _node()
ENGINES = [name for name, path in (("node", NODE), ("chromium", CHROMIUM)) if path]
NO_ENGINE = "neither node nor chromium is installed: apt-get install chromium"

Verify = Callable[[dict[str, Any]], dict[str, Any]]
"""From a page's data to ``{"able", "checkpoint": [check], "roots": [check], "cosigners", "entries"}``."""

_REDUCE = """
const reduced = (page) => ({
  able: page.able, checkpoint: page.checkpoint.checks, roots: page.roots.checks,
  cosigners: page.checkpoint.cosigners.map(({ name, state, time }) => ({ name, state, time })),
  entries: page.entries.map(({ index, state, inLog, checks }) => ({ index, state, inLog, checks })),
});
"""
_HERE = "globalThis.verify = async (data) => reduced(await verifyPage(data));"
_NODE = """
import { verifyPage } from "./verify.mjs";
import { readFileSync } from "node:fs";
console.log(JSON.stringify(reduced(await verifyPage(JSON.parse(readFileSync(0, "utf-8"))))));
"""


@contextmanager
def engine(name: str, folder: Path) -> Iterator[Verify]:
    """Start an engine."""
    if name == "node":
        yield _in_node
        return
    harness = folder / "harness.html"
    modules = program(MODULES[: MODULES.index("verify") + 1])
    inside = modules.rstrip().removesuffix("}") + _REDUCE + _HERE
    harness.write_text(f"<!doctype html><html data-state='ready'><meta charset='utf-8'><script>{inside}}}</script>")
    with Browser() as browser:
        browser.open(harness)

        def in_chromium(data: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = browser.run(f"verify({json.dumps(data)})")
            return found

        yield in_chromium


def _in_node(data: dict[str, Any]) -> dict[str, Any]:
    assert NODE is not None
    done = subprocess.run(
        [NODE, "--no-warnings", "--input-type=module", "--eval", _REDUCE + _NODE],
        cwd=ROOT / "custody/audit/page",
        input=json.dumps(data),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
