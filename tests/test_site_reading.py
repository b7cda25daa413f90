"""What helps to read the pages: filters, sorting, files of figures, explained terms, paper."""

from __future__ import annotations

import csv
import json
import re
import sys
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import yaml
from site_pages import (  # noqa: F401 - fixtures
    AUDIT,
    BUILD,
    CONFIG,
    CONTENTS,
    GRAVE,
    ROOT,
    in_a_browser,
    the_browser,
    the_origin,
    the_site,
    the_tab,
)

sys.path.insert(0, str(ROOT / "book" / "_ext"))
LEDGER = "chapters/ledger.html"
pytestmark = pytest.mark.timeout(300)


def text_of(site, name: str) -> str:
    return (site / name).read_text(encoding="utf-8")


# ---- the ledger ------------------------------------------------------------------------------


def claims_on_the_page(site) -> dict[int, dict[str, str]]:
    """The attributes of each claim's row, by number."""
    rows = re.findall(r'<tr id="ledger-(\d+)"([^>]*)>', text_of(site, LEDGER))
    return {int(n): dict(re.findall(r'data-(\w+)="([^"]*)"', more)) for n, more in rows}


def test_every_claim_is_on_the_page_without_a_script(site):
    wanted = yaml.safe_load((ROOT / "data" / "claims.yml").read_text(encoding="utf-8"))["claims"]
    shown = claims_on_the_page(site)
    assert shown.keys() == {claim["id"] for claim in wanted}
    for claim in wanted:
        assert shown[claim["id"]]["articles"].split() == claim["articles"]
        assert shown[claim["id"]]["chapter"] == claim.get("chapter", "")
    assert "hidden" not in re.search(r"<tr id=.ledger-1.[^>]*>", text_of(site, LEDGER))[0]


def test_a_decided_claim_has_its_numbers_and_leads_to_its_cell(site):
    rows = re.findall(r'<tr id="ledger-(\d+)"(.*?)</tr>', text_of(site, LEDGER), re.DOTALL)
    decided = [(number, row) for number, row in rows if "Decided in" in row]
    assert len(decided) > 40
    for number, row in decided:
        target, place = re.search(r'Decided in <a href="([^"#]*)#(claim-\d+)"', row).groups()
        assert place == f"claim-{number}"
        card = re.search(
            rf'<div [^>]*id="{place}">.*?</div>', text_of(site, f"chapters/{target}"), re.S
        )
        numbers = re.findall(r"<code>(\w+)</code> = (.+?)(?=, <code>|\. Decided)", row)
        assert numbers, f"claim {number} has no number"
        for name, value in numbers:
            assert f"<code>{name}</code> = {value}" in card[0]


def shown_claims(opened) -> list[int]:
    rows = opened.locator("table.sw-ledger tbody tr:not([hidden])")
    return sorted(
        int(one.removeprefix("ledger-")) for one in rows.evaluate_all("all => all.map(r => r.id)")
    )


@in_a_browser
def test_the_ledger_filters_and_keeps_the_choice_in_the_address(site, tab):
    claims = claims_on_the_page(site)
    opened, troubles = tab(LEDGER)
    status = opened.locator(".sw-filter output")
    assert status.text_content() == f"{len(claims)} of {len(claims)} claims shown"

    opened.locator("select[name=article]").select_option("S3")
    opened.locator("select[name=verdict]").select_option("contradicted")
    wanted = [
        n for n, row in claims.items()
        if "S3" in row["articles"].split() and row["verdict"] == "contradicted"
    ]  # fmt: skip
    assert 0 < len(wanted) < len(claims)
    assert shown_claims(opened) == wanted
    assert status.text_content() == f"{len(wanted)} of {len(claims)} claims shown"
    assert opened.url.endswith("?article=S3&verdict=contradicted")

    opened.reload()  # as one to whom the address was sent
    assert shown_claims(opened) == wanted
    opened.locator(".sw-filter button").click()
    opened.wait_for_function("!location.search")
    assert len(shown_claims(opened)) == len(claims)
    assert troubles == []


@in_a_browser
def test_the_ledger_filters_by_words_with_the_keyboard_alone(site, tab):
    opened, troubles = tab(LEDGER)
    opened.locator("select[name=chapter]").focus()
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.name") == "words"
    opened.keyboard.type("Llama memory")
    found = shown_claims(opened)
    assert 0 < len(found) < 30
    for number in found:
        said = opened.locator(f"#ledger-{number}").text_content().lower()
        assert "llama" in said
        assert "memory" in said
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")  # the button that shows all
    opened.wait_for_function("!location.search")
    assert len(shown_claims(opened)) == len(claims_on_the_page(site))
    assert troubles == []


@in_a_browser
def test_a_link_to_a_claim_shows_it_even_where_the_filters_would_not(site, tab):
    claims = claims_on_the_page(site)
    number = next(n for n, row in claims.items() if row["verdict"] == "supported")
    opened, _ = tab(f"{LEDGER}?verdict=contradicted#ledger-{number}")
    assert number in shown_claims(opened)
    opened, _ = tab(f"{LEDGER}?verdict=nonsense")
    assert len(shown_claims(opened)) == len(claims)


@in_a_browser
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
def test_the_narrowed_ledger_is_accessible(tab, theme, width):
    opened, troubles = tab(f"{LEDGER}?verdict=misleading", theme, width)
    opened.evaluate((BUILD / "vendor" / "axe.min.js").read_text(encoding="utf-8"))
    assert [found for found in opened.evaluate(AUDIT) if found["impact"] in GRAVE] == []
    assert opened.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert troubles == []


@in_a_browser
@pytest.mark.parametrize("asked", ["Llama 3.1 8B", "claim 57"])
def test_search_finds_a_model_and_a_claim_by_its_number(tab, asked):
    opened, troubles = tab(f"search.html?q={quote(asked)}")
    opened.wait_for_selector(f'#search-results a[href*="{LEDGER}"]', timeout=20_000)
    assert troubles == []


@in_a_browser
def test_a_number_that_is_nowhere_is_not_found(tab):
    opened, _ = tab("search.html?q=918273645")
    opened.get_by_text("did not match any documents").wait_for(timeout=10_000)


# ---- tables that sort ------------------------------------------------------------------------

CELLS = """<h1>x</h1><div class="bd-article"><table class="sw-table"><thead><tr>
<th scope="col">name</th><th scope="col">bytes</th></tr></thead><tbody>%s</tbody></table></div>"""


@pytest.fixture
def presses(browser):
    """The cells of a column as tables.js orders them after one, two and three presses."""

    def orders(cells: list[str]) -> list[list[str]]:
        page = browser.new_page()
        rows = (f"<tr><td>{place}</td><td>{cell}</td></tr>" for place, cell in enumerate(cells))
        page.set_content(CELLS % "".join(rows))
        page.add_script_tag(path=ROOT / "book" / "_static" / "tables.js")
        found = []
        for _ in range(3):
            page.locator("th button").nth(1).click()
            found.append(page.locator("tbody td:nth-child(2)").all_text_contents())
        page.close()
        return found

    return orders


@in_a_browser
@pytest.mark.parametrize(
    "upwards",
    [
        ["-3", "0", "7", "1,200", "10,000", "not measured"],
        ["800 kB", "5 MB", "80 GB", "1.2 TB", ""],
        ["9.18K", "1.93M", "8.03B", "405B", "1.8T"],
        ["5 B", "12 B", "1 kB"],  # bytes, not billions
        ["3 ms", "0.5 s", "2 min", "1 h", "3 days"],
        ["1e-09", "0.5", "3e+03", "2.5 × 10²⁵", "1.1 × 10²⁶"],
        ["−4.0% (−6 to −2)", "-1.5%", "+0.5%", "12%"],
        ["$3.8M to $244M", "$14.6B to $49.1B", "none"],
        ["2024-12-31", "2025-02-01", "2026-01-15"],
        ["layer 2", "layer 10", "Llama 8B", "llama 70B"],
    ],
)
def test_a_column_is_sorted_by_what_its_cells_mean(presses, upwards):
    mixed = upwards[::2] + upwards[1::2]
    missing = [cell for cell in upwards if cell in ("", "none", "not measured")]
    there = [cell for cell in upwards if cell not in missing]
    assert presses(mixed) == [upwards, there[::-1] + missing, mixed]  # missing is last both ways


@in_a_browser
def test_a_head_sorts_with_the_keyboard_and_says_so(site, tab):
    opened, troubles = tab(LEDGER)
    table = opened.locator("table.sw-ledger")
    head = table.locator("th").first
    head.locator("button").focus()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [int(n) for n in table.locator("tbody td:first-child").all_text_contents()]
    assert numbers == sorted(numbers, reverse=True)
    table.locator("th button").nth(3).click()
    assert head.get_attribute("aria-sort") is None  # one column at a time
    assert table.locator("th[aria-sort]").count() == 1
    assert troubles == []


def test_tables_have_no_buttons_without_a_script(site):
    assert "sw-sort" not in text_of(site, LEDGER)
    assert re.search(r'<script defer="defer" src="[^"]*tables.js', text_of(site, LEDGER))
    assert "ledger.js" not in text_of(site, "book/glossary.html")


# ---- figures ---------------------------------------------------------------------------------


def test_the_files_below_a_figure_are_what_they_are_called(site):
    found = 0
    for page in CONTENTS:
        for line in re.findall(
            r'<p class="sw-figure__data">.*?</p>', text_of(site, f"{page}.html")
        ):
            for address in re.findall(r'href="\.\./([^"]*)" download', line):
                found += 1
                if address.startswith("figures/"):
                    with (site / address).open(newline="", encoding="utf-8") as file:
                        head, *rows = csv.reader(file)
                    assert head[:5] == ["panel", "series", "mark", "x_axis", "x"]
                    assert rows
                    assert {len(row) for row in rows} == {len(head)}
                else:
                    assert (site / address).read_bytes() == (ROOT / address).read_bytes()
            if "data/isoflop.jsonl" in line:
                assert "scripts/isoflop.py" in line
    assert found > 20
    assert "data:text/csv" not in text_of(site, "chapters/isoflop.html")


def test_the_rows_behind_a_figure_are_read_from_the_code():
    from sizewise_figures import sources

    figure = [{"data": {"text/html": '<figure class="sw-figure"></figure>'}}]
    cells = [
        ("from sizewise import plots, records", []),
        ("a = records.table('isoflop')\nb = records.facts('models')", []),
        ("c = a[a > 0]\nc['x'] = 1\nd = [b for b in c]", []),
        ("plots.show(draw, d)", figure),
        ("d = b\nplots.show(draw, d)", figure),
        ("from sizewise.quant import report\nplots.show(report.kinds()['x'])", figure),
        ("plots.show(1)", figure),
    ]
    notebook = {
        "cells": [{"cell_type": "code", "source": code, "outputs": out} for code, out in cells]
    }
    assert sources(json.loads(json.dumps(notebook)), ROOT) == [
        ["data/isoflop.jsonl", "scripts/isoflop.py"],
        ["data/facts/models.yml"],
        ["data/weight_quality.jsonl", "scripts/weight_quality.py"],
        [],
    ]


@in_a_browser
def test_a_figure_has_no_bright_ground_in_the_dark(tab):
    opened, _ = tab("chapters/parameters.html", "dark")
    grounds = opened.locator(".sw-figure").evaluate_all("""figures => figures.flatMap(figure => {
        const all = [figure, figure.querySelector("svg"), ...figure.querySelectorAll("svg rect")];
        for (let box = figure.parentElement; box; box = box.parentElement) all.push(box);
        return all.map(box => getComputedStyle(box).backgroundColor);
    })""")
    assert grounds
    channels = [[float(c) for c in re.findall(r"[\d.]+", ground)] for ground in set(grounds)]
    assert all(one[3:] == [0.0] or max(one[:3]) < 80 for one in channels), channels
    ink = opened.locator(".sw-figure svg text").first.evaluate("e => getComputedStyle(e).fill")
    assert min(float(c) for c in re.findall(r"[\d.]+", ink)) > 150


# ---- the front page --------------------------------------------------------------------------


def test_the_front_page_counts_the_verdicts_and_leads_to_them(site):
    page = text_of(site, "book/index.html")
    verdicts = [row["verdict"] for row in claims_on_the_page(site).values()]
    totals = re.findall(r'ledger\.html\?verdict=(\w+)"><span[^>]*>(\d+) \1<', page)
    assert {v: int(n) for v, n in totals} == {v: verdicts.count(v) for v in set(verdicts)}
    for chapter in re.findall(r"\?chapter=([\w-]+)&amp;", page):
        own = re.findall(rf'\?chapter={chapter}&amp;verdict=(\w+)"><span[^>]*>(\d+) ', page)
        wanted = [
            c["verdict"] for c in claims_on_the_page(site).values() if c["chapter"] == chapter
        ]
        assert {v: int(n) for v, n in own} == {v: wanted.count(v) for v in set(wanted)}


def test_a_chapter_can_be_opened_elsewhere_or_taken_as_a_notebook(site):
    page = text_of(site, "chapters/parameters.html")
    path = "chapters/parameters.ipynb"
    assert re.search(rf'href="https://mybinder.org/v2/gh/[^"]*{path}"', page)
    assert re.search(rf'href="https://colab.research.google.com/github/[^"]*{path}"', page)
    assert f'href="../_sources/{path}"' in page
    assert json.loads(text_of(site, f"_sources/{path}"))["cells"]


# ---- terms -----------------------------------------------------------------------------------


def test_the_first_of_each_term_is_explained_and_only_marked_ones():
    from sizewise_terms import explain

    link = (
        '<a class="reference internal" href="g.html#term-KV-cache">'
        '<span class="xref std std-term">KV cache</span></a>'
    )
    page = explain(f"<p>{link} KV cache {link}</p>", {"term-KV-cache": "Keys & values."})
    assert page.count('role="tooltip"') == 1
    assert page.count("Keys &amp; values.") == 1
    assert page.index('role="tooltip"') < page.index("</span></span> KV cache")
    assert explain(link, {}) == link


@in_a_browser
@pytest.mark.parametrize("width", [1280, 360])
def test_a_term_is_explained_on_focus_and_on_hover_and_leaves_on_escape(tab, width):
    opened, troubles = tab("book/index.html", width=width)
    term = opened.locator(".sw-term").last
    link, tip = term.locator("a"), term.locator(".sw-tip")
    assert tip.get_attribute("id") == link.get_attribute("aria-describedby")
    assert not tip.is_visible()
    link.focus()
    assert tip.is_visible()
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert opened.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    opened.keyboard.press("Escape")
    assert not tip.is_visible()
    link.evaluate("link => link.blur()")
    link.hover()
    assert tip.is_visible()
    tip.hover()  # the pointer may go on to the words
    assert tip.is_visible()
    assert troubles == []


# ---- files beside the pages, paper -----------------------------------------------------------


def test_the_sitemap_names_every_page_and_robots_the_sitemap(site):
    base = CONFIG["html"]["baseurl"]
    spaces = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9"}
    found = ElementTree.parse(site / "sitemap.xml").findall("s:url/s:loc", spaces)  # noqa: S314
    assert [one.text for one in found] == [f"{base}{page}.html" for page in CONTENTS]
    assert f"Sitemap: {base}sitemap.xml" in text_of(site, "robots.txt")


@in_a_browser
@pytest.mark.parametrize("old", CONFIG["sphinx"]["config"]["sizewise_redirects"])
def test_an_old_address_leads_to_the_new_page_and_keeps_its_place(tab, old):
    new = CONFIG["sphinx"]["config"]["sizewise_redirects"][old]
    opened, troubles = tab(f"{old}.html?verdict=partly#x")
    opened.wait_for_url(f"**/{new}.html?verdict=partly#x")
    # The old page may be left before it is read to its end, which a browser calls a failure.
    assert [one for one in troubles if f"/{old}.html" not in one] == []


@in_a_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_lost_reader_finds_the_contents_and_the_search(tab, theme):
    opened, troubles = tab("404.html", theme, 360)
    opened.evaluate((BUILD / "vendor" / "axe.min.js").read_text(encoding="utf-8"))
    assert [found for found in opened.evaluate(AUDIT) if found["impact"] in GRAVE] == []
    assert opened.locator("li a").count() == len(CONTENTS)
    opened.locator("input").fill("cache")
    opened.keyboard.press("Enter")
    opened.wait_for_url("**/search.html?q=cache")
    assert troubles == []


@in_a_browser
def test_paper_is_light_and_holds_no_controls(tab):
    opened, _ = tab(LEDGER, "dark")
    opened.emulate_media(media="print")
    for gone in (".sw-filter", ".bd-sidebar-primary", ".bd-header-article", ".headerlink"):
        assert opened.locator(gone).first.is_visible() is False, gone
    ground, ink = opened.evaluate("""[getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector(".bd-article p")).color]""")
    assert min(int(c) for c in re.findall(r"\d+", ground)[:3]) > 240
    assert max(int(c) for c in re.findall(r"\d+", ink)[:3]) < 90
