"""How a page is put together: nothing in its data can leave the place of data, and nothing but its program may run."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest

from custody.audit.page.build import MODULES, page, program
from tests.unit.house.tree import ROOT

FOLDER = ROOT / "custody/audit/page"
NASTY = "</script><script>alert(1)</script><!--\u2028\u2029 & {{script}}"


def data_in(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_data_cannot_end_its_element_and_comes_back_as_it_was() -> None:
    html = page({"deployment": NASTY})
    assert data_in(html) == {"deployment": NASTY}
    assert html.count("<script") == page({}).count("<script") == 2
    assert "\u2028" not in html
    assert "alert(1)</" not in html


def test_the_policy_allows_exactly_the_style_and_the_program_of_the_page() -> None:
    html = page({})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)
    assert policy
    assert style
    assert script
    digests = [base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode() for part in (script, style)]
    assert policy[1].startswith(
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; base-uri 'none'"
    )
    assert "unsafe" not in policy[1]


def test_the_page_names_nothing_outside_itself() -> None:
    html = page({}).replace("http://www.w3.org/2000/svg", "")  # the name of a vocabulary, which nobody fetches
    assert re.findall(r"https?://|\bsrc=|@import|url\(|import\(|fetch\(|XMLHttp|WebSocket|innerHTML|eval\(", html) == []
    assert not re.search(r'\son[a-z]+="|\sstyle="', html)


def test_the_modules_become_one_program_without_a_name_twice() -> None:
    names = re.findall(r"^(?:async )?(?:const|let|function) ([A-Za-z0-9_]+)", program(), re.MULTILINE)
    assert len(names) > 80
    assert sorted(names) == sorted(set(names))
    assert not re.search(r"^\s*(?:import|export)\b", program(), re.MULTILINE)
    assert "</" not in program()


def test_each_module_imports_only_from_those_before_it() -> None:
    assert {f"{name}.mjs" for name in MODULES} == {path.name for path in FOLDER.glob("*.mjs")}
    for place, name in enumerate(MODULES):
        text = (FOLDER / f"{name}.mjs").read_text()
        used = set(re.findall(r'^import [^;]* from "\./([a-z]+)\.mjs";$', text, re.MULTILINE))
        assert used <= set(MODULES[:place]), name


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir() if path.suffix in {".mjs", ".css"}))
def test_no_file_of_the_page_is_long(name: str) -> None:
    assert (FOLDER / name).read_text().count("\n") < 260
