"""The report page in a browser: what it says of itself, what it shows, and what it never does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.audit.page.build import page
from custody.audit.page.data import page_data
from tests.doubles.browser import CHROMIUM, Browser
from tests.doubles.world import World
from tests.unit.audit.busy import BATCH, busy, published
from tests.unit.audit.page.odd import odd_entries
from tests.unit.audit.published import Published, forced

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

NASTY = '"><img src=x onerror=alert(1)></script><script>alert(1)</script>${alert(1)}&lt;b&gt;'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


def data_of(log: Published) -> dict[str, Any]:
    return page_data(log.source(), log.audit(), genesis=log.world.genesis.digest, made=log.world.now)


def made(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "report.html"
    path.write_text(page(data))
    return path


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("page"), data_of(published()))


def text(browser: Browser, place: str) -> str:
    return str(browser.run(f"document.getElementById({json.dumps(place)}).innerText"))


def test_an_honest_page_says_that_it_verified_and_asks_nobody(browser: Browser, honest: Path) -> None:
    assert browser.open(honest) == "ok"
    banner = text(browser, "banner")
    assert "Verified in this browser" in banner
    assert "46 of 46 proved to be in the log" in banner
    assert "size 46, cosigned by 2 witnesses" in banner
    assert browser.requests == [honest.as_uri()]
    assert browser.console == []
    sent = browser.run("fetch('https://example.org/').then(() => 'sent', () => 'refused')")
    assert sent == "refused"


def test_what_people_look_for_is_there(browser: Browser, honest: Path) -> None:
    browser.open(honest)
    leases = text(browser, "leases")
    for shown in (BATCH, "alice, bob", "returned", "revoked", "denied", "5.6 KiB of 9.8 KiB"):
        assert shown in leases
    assert "57 %" in text(browser, "budgets")
    assert "has not cosigned w2" in text(browser, "checkpoint").replace("\n", " ")
    bars = browser.run("Array.from(document.querySelectorAll('#timeline .lease'), (bar) => bar.getAttribute('class'))")
    assert sorted(bars) == ["lease live", "lease over", "lease refused", "lease revoked", "lease waiting"]
    assert browser.run("document.querySelectorAll('#timeline rect.session').length") == 4
    assert "Nothing was found" in text(browser, "findings")


def test_a_page_with_one_flipped_byte_is_red(browser: Browser, tmp_path: Path) -> None:
    data = data_of(published())
    entry = data["entries"][13]
    data["entries"][13] = entry | {"text": entry["text"].replace('"bytes":"3000"', '"bytes":"9000"')}
    assert browser.open(made(tmp_path, data)) == "bad"
    assert "Do not trust this log" in text(browser, "banner")
    assert "45 of 46 proved to be in the log" in text(browser, "banner")
    assert "1 NOT VALID" in text(browser, "banner")
    assert "NOT AN ENTRY OF THIS LOG" in text(browser, "findings")
    assert "1 entry not valid" in text(browser, "banner")
    assert "5.9 KiB of 9.8 KiB" not in text(browser, "leases"), "a figure that is not proved is not counted"


def test_findings_of_the_audit_are_red_too(browser: Browser, tmp_path: Path) -> None:
    world = World(b"finding")
    world.seal()
    case = world.file()
    forced(world, lambda: case.log_decision(case.decision("erin"), "erin"))
    assert browser.open(made(tmp_path, data_of(Published.each(world)))) == "bad"
    assert "rule-decision" in text(browser, "findings")


def test_markup_in_any_field_stays_text(browser: Browser, tmp_path: Path) -> None:
    world = World(b"markup")
    world.seal()
    world.file(reason=NASTY, ticket=NASTY)
    data = data_of(Published.each(world))
    data["deployment"] = NASTY
    data["audit"]["remarks"] = [{"code": "x", "text": NASTY}]
    data["audit"]["findings"] = [{"code": NASTY, "entry": 1, "text": f"\u202e{NASTY}\x1b[2J"}]
    browser.open(made(tmp_path, data))
    assert text(browser, "deployment") == NASTY
    assert f"\\u{{202E}}{NASTY}\\u{{001B}}[2J" in text(browser, "findings")
    browser.run("document.querySelector('#leases .open').click()")
    assert f"evaluation: {NASTY}" in text(browser, "leases")
    browser.run("document.querySelectorAll('#entries .open').forEach((button) => button.click())")
    assert NASTY in text(browser, "entries")
    assert browser.run("document.querySelectorAll('img, iframe, object, a[href^=javascript]').length") == 0
    assert browser.run("document.scripts.length") == 2
    assert browser.console == []
    refused = browser.run("try { document.body.innerHTML = '<b>x</b>'; 'taken' } catch { 'refused' }")
    assert refused == "refused"


def test_odd_entries_are_shown_as_such_among_the_others(browser: Browser, tmp_path: Path) -> None:
    log = Published.each(busy(b"odd"))
    log.append(odd_entries())
    assert browser.open(made(tmp_path, data_of(log))) == "bad"
    browser.run("document.querySelectorAll('#entries .open').forEach((button) => button.click())")
    assert "NOT AN ENTRY" in text(browser, "entries")
    assert BATCH in text(browser, "leases")
    assert browser.console == []


def test_a_keyboard_is_enough(browser: Browser, honest: Path) -> None:
    browser.open(honest)
    browser.run("document.querySelector('#entries .open').focus()")
    browser.press("Enter", 13)
    assert browser.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert "in the log: its proof leads to the checkpoint of size 46" in text(browser, "entries")
    browser.press("Enter", 13)
    assert browser.run("document.querySelectorAll('#entries tr.details').length") == 0
    browser.run("document.querySelector('#timeline .lease').focus()")
    browser.press("Enter", 13)
    assert browser.run("document.querySelectorAll('#leases tr.details').length") == 1
    assert browser.run("document.activeElement.closest('#leases') !== null")


def test_tables_sort_and_filter(browser: Browser, honest: Path) -> None:
    browser.open(honest)
    first = "document.querySelector('#entries tbody tr td').innerText.trim()"
    assert browser.run(first) == "45"
    browser.run("document.querySelector('#entries th button').click()")
    assert browser.run(first) == "0"
    assert browser.run("document.querySelector('#entries th').getAttribute('aria-sort')") == "ascending"
    browser.run("document.querySelector('#entries input').value = 'grant alice'")
    browser.run("document.querySelector('#entries input').dispatchEvent(new Event('input'))")
    assert "2 entries of 46" in text(browser, "entries")


def test_it_fits_a_phone_and_follows_the_theme(browser: Browser, honest: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(honest, width=390)
    browser.run("document.querySelector('#entries .open').click()")
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run(
        "document.querySelector('#entries .scroll').scrollWidth <= document.querySelector('#entries').clientWidth"
    )
    light = browser.run(paper)
    browser.open(honest, width=390, dark=True)
    assert browser.run(paper) != light


def test_a_log_of_one_entry_and_an_empty_one_make_a_page(browser: Browser, tmp_path: Path) -> None:
    assert browser.open(made(tmp_path, data_of(Published.each(World(b"one"))))) == "ok"
    assert "1 of 1 proved" in text(browser, "banner")
    assert "No requests" in text(browser, "timeline")
    empty = Published(World(b"empty", genesis=False))
    empty.publish([])
    assert browser.open(made(tmp_path, data_of(empty))) == "bad"
    assert "Do not trust this log" in text(browser, "banner")
    assert browser.console == []
