"""Chapters that run in the reader's browser: without a server, and with the numbers of the page."""

from __future__ import annotations

import json
import re

import pytest
from site_pages import (  # noqa: F401 - fixtures
    BUILD,
    ROOT,
    in_a_browser,
    the_browser,
    the_origin,
    the_site,
    the_tab,
)

LIVE = BUILD / "html" / "live" / "files.json"
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.slow,
    pytest.mark.skipif(not LIVE.is_file(), reason="make live, then make site"),
]
CHAPTERS = json.loads(LIVE.read_text(encoding="utf-8"))["chapters"] if LIVE.is_file() else []
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
# The text of each output but figures, whose letters another matplotlib places otherwise, and but
# what the page adds to an output: a rule that is folded has a heading in place of "Rule:", a long
# table a field by which it is filtered.
TEXTS = """() => [...document.querySelectorAll(".bd-article div.cell[class*=cell-]")].map(cell => {
  const copy = cell.querySelector(".cell_output")?.cloneNode(true);
  copy?.querySelectorAll("svg, .sw-figure__data, figure > p, summary, .copybtn, label")
    .forEach(part => part.remove());
  return (copy?.textContent || "").replaceAll("Rule: ", "").replace(/\\s+/g, " ")
    .replace(/\\u2212/g, "-").trim();
})"""


@in_a_browser
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_run_here_gives_the_numbers_of_the_page(tab, chapter):
    opened, troubles = tab(f"chapters/{chapter}.html")
    before = opened.evaluate(TEXTS)
    opened.locator("[data-do=open]").click()
    opened.locator("[data-do=run]").click()
    status = opened.locator(".sw-live__status")
    opened.wait_for_function(
        """() => /^(Done|It failed)/.test(
            document.querySelector(".sw-live__status").textContent)""",
        timeout=540_000,
    )
    assert status.inner_text().startswith("Done")
    after = opened.evaluate(TEXTS)
    assert opened.locator('[data-live="yes"]').count() >= 5
    ran, cells = map(int, re.search(r"(\d+) of (\d+) cells", status.inner_text()).groups())
    assert ran / cells >= 0.7
    for old, new in zip(before, after, strict=True):
        assert NUMBER.sub("#", new) == NUMBER.sub("#", old)
        numbers = [[float(part) for part in NUMBER.findall(text)] for text in (new, old)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-9, abs=1e-9)
    assert troubles == []


def test_nothing_is_loaded_before_the_click(site):
    for chapter in CHAPTERS:
        page = (site / "chapters" / f"{chapter}.html").read_text(encoding="utf-8")
        assert "live.js" in page
        assert page.count('<section class="sw-live"') == 1
        assert "pyodide" not in page
    assert (ROOT / "book" / "_static" / "live.js").read_text(encoding="utf-8").count("\n") < 200
