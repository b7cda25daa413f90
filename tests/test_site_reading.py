"""What helps to read the pages: filters, sorting, files of figures, explained terms, paper."""

from __future__ import annotations

import csv
import html
import json
import re
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import yaml
from site_pages import (  # noqa: F401 - fixtures
    AUDIT,
    BOOK_PAGES,
    BUILD,
    CONFIG,
    CONTENTS,
    GRAVE,
    REDIRECTS,
    ROOT,
    in_a_browser,
    the_browser,
    the_origin,
    the_site,
    the_tab,
)

LEDGER = "chapters/ledger.html"
pytestmark = pytest.mark.timeout(300)


def source(site, name: str) -> str:
    return (site / name).read_text(encoding="utf-8")


# ---- the ledger ------------------------------------------------------------------------------


def claims_on_the_page(site) -> dict[int, dict[str, str]]:
    """The attributes of each claim's row, by number."""
    rows = re.findall(r'<tr id="ledger-(\d+)"([^>]*)>', source(site, LEDGER))
    return {int(n): dict(re.findall(r'data-(\w+)="([^"]*)"', more)) for n, more in rows}


def test_every_claim_is_on_the_page_without_a_script(site):
    claims = yaml.safe_load((ROOT / "data" / "claims.yml").read_text(encoding="utf-8"))["claims"]
    rows = claims_on_the_page(site)
    assert rows.keys() == {claim["id"] for claim in claims}
    for claim in claims:
        assert rows[claim["id"]]["articles"].split() == claim["articles"]
        assert rows[claim["id"]]["chapter"] == claim.get("chapter", "")
    assert "hidden" not in re.search(r"<tr id=.ledger-1.[^>]*>", source(site, LEDGER))[0]


def test_a_decided_claim_has_its_numbers_and_leads_to_its_cell(site):
    rows = re.findall(r'<tr id="ledger-(\d+)"(.*?)</tr>', source(site, LEDGER), re.DOTALL)
    decided = [(number, row) for number, row in rows if "Decided in" in row]
    assert len(decided) > 40
    for number, row in decided:
        target, anchor = re.search(r'Decided in <a href="([^"#]*)#(claim-\d+)"', row).groups()
        assert anchor == f"claim-{number}"
        card = re.search(
            rf'<div [^>]*id="{anchor}">.*?</div>', source(site, f"chapters/{target}"), re.S
        )
        weighed = re.search(r"Weighed: (.*?)\.</span>", row)
        assert weighed, f"claim {number} has no evidence"
        evidence = re.search(r"Evidence: (.*?)\.</p>", card[0])[1]
        evidence = re.sub(r"</?strong>", "", evidence)
        assert weighed[1] == evidence, f"claim {number}"  # one form, here and there


def shown_claims(opened) -> list[int]:
    rows = opened.locator("table.sw-ledger tbody tr:not([hidden])")
    return sorted(
        int(row.removeprefix("ledger-")) for row in rows.evaluate_all("all => all.map(r => r.id)")
    )


@in_a_browser
def test_the_ledger_filters_and_keeps_the_choice_in_the_address(site, tab):
    claims = claims_on_the_page(site)
    opened, troubles = tab(LEDGER)
    status = opened.locator(".sw-filter output")
    assert status.text_content() == f"{len(claims)} of {len(claims)} claims shown"

    opened.locator("select[name=article]").select_option("S3")
    opened.locator("select[name=verdict]").select_option("contradicted")
    matches = [
        n
        for n, row in claims.items()
        if "S3" in row["articles"].split() and row["verdict"] == "contradicted"
    ]
    assert 0 < len(matches) < len(claims)
    assert shown_claims(opened) == matches
    assert status.text_content() == f"{len(matches)} of {len(claims)} claims shown"
    assert opened.url.endswith("?verdict=contradicted&article=S3")

    opened.reload()  # as for a reader who got the address
    assert shown_claims(opened) == matches
    opened.locator(".sw-filter button").click()
    opened.wait_for_function("() => !location.search")
    assert len(shown_claims(opened)) == len(claims)
    assert troubles == []


@in_a_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_an_address_with_a_query_scrolls_to_the_claims(tab, width):
    opened, _ = tab(f"{LEDGER}?verdict=contradicted", width=width)
    opened.wait_for_load_state("networkidle")
    box = opened.locator(".sw-filter").bounding_box()
    assert 0 <= box["y"] < 300
    assert opened.locator("table.sw-ledger tbody tr:not([hidden])").first.is_visible()
    opened, _ = tab(LEDGER, width=width)
    assert opened.evaluate("scrollY") == 0  # without a query the page begins at the top


@in_a_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_claim_and_its_reason_have_the_whole_width(tab, width):
    opened, _ = tab(LEDGER, width=width)
    table = opened.locator("table.sw-ledger")
    whole = table.bounding_box()["width"]
    for cell in (3, 5):
        place = table.locator(f"tbody td:nth-child({cell})").first.bounding_box()
        assert place["width"] > 0.95 * whole


@in_a_browser
def test_the_filters_show_titles_and_not_names_of_files(tab):
    about = yaml.safe_load((ROOT / "data" / "claims.yml").read_text(encoding="utf-8"))["articles"]
    opened, _ = tab(LEDGER)
    options = {
        name: opened.locator(f".sw-filter [name={name}] option").all_text_contents()[1:]
        for name in ("article", "chapter")
    }
    assert len(options["article"]) == len(about)
    for option, (key, article) in zip(options["article"], sorted(about.items()), strict=True):
        assert re.fullmatch(rf"{key}: {re.escape(article['title'].strip('()'))} \(\d+\)", option)
    links = opened.locator(".bd-sidebar-primary a").all_inner_texts()
    titles = {re.sub(r"^\d+\. ", "", title.strip()) for title in links}
    assert {re.sub(r" \(\d+\)$", "", option) for option in options["chapter"]} <= titles
    labels = opened.locator(".sw-filter label").evaluate_all(
        "all => all.map(l => l.firstChild.data)"
    )
    assert labels == ["Words or number", "Verdict", "Topic", "Article", "Chapter"]


@in_a_browser
def test_a_name_is_found_however_it_is_cut_and_a_number_is_a_claims_own(site, tab):
    opened, _ = tab(LEDGER)
    words = opened.locator(".sw-filter [name=words]")
    words.fill("llama-3.1-70b")
    named = shown_claims(opened)
    assert named
    for number in named:
        assert "llama 3.1 70b" in opened.locator(f"#ledger-{number}").text_content().lower()
    words.fill("Llama 3.1 70B")
    assert set(named) <= set(shown_claims(opened))
    words.fill("57")
    assert shown_claims(opened) == [57]
    words.fill("no such words")
    assert shown_claims(opened) == []


@in_a_browser
def test_the_ledger_filters_by_words_with_the_keyboard_alone(site, tab):
    opened, troubles = tab(LEDGER)
    opened.locator("select[name=verdict]").focus()
    opened.keyboard.press("Shift+Tab")
    assert opened.evaluate("document.activeElement.name") == "words"
    opened.keyboard.type("Llama memory")
    matches = shown_claims(opened)
    assert 0 < len(matches) < 30
    for number in matches:
        text = opened.locator(f"#ledger-{number}").text_content().lower()
        assert "llama" in text
        assert "memory" in text
    for _ in ("verdict", "topic", "article", "chapter", "the button that shows all"):
        opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    opened.wait_for_function("() => !location.search")
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
    assert [finding for finding in opened.evaluate(AUDIT) if finding["impact"] in GRAVE] == []
    assert opened.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert troubles == []


# ---- search ----------------------------------------------------------------------------------


@pytest.fixture
def search(tab):
    """The pages that the search finds, best first, each with its excerpt."""

    def find(query: str) -> dict[str, str]:
        opened, troubles = tab(f"search.html?q={quote(query)}")
        done = """() => /found|did not/.test(
            document.querySelector(".search-summary")?.textContent)"""
        opened.wait_for_function(done, timeout=20_000)
        opened.wait_for_load_state("networkidle")
        results = opened.locator("#search-results li").evaluate_all("""all => all.map(item => [
            item.querySelector("a").getAttribute("href").split("#")[0],
            item.querySelector("p")?.textContent || ""])""")
        assert troubles == []
        return dict(results)

    return find


def visible(site, page: str) -> str:
    """The text of a page, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", source(site, page))).split())


@in_a_browser
@pytest.mark.parametrize("query", ["Llama 3.1 8B", "claim 57"])
def test_search_finds_a_model_and_a_claim_by_its_number(search, query):
    excerpt = search(query)[LEDGER]
    assert re.search(rf"\b{query.split()[-1]}\b", excerpt, re.IGNORECASE)


@in_a_browser
def test_a_number_of_the_ledger_leads_to_the_ledger_and_to_no_page_without_it(site, search):
    rows = " ".join(re.findall(r"<td>(.*?)</td>", source(site, LEDGER), re.DOTALL))
    whole = r"(?<![\w.,−-])(%s)(?![\w.,]*\w)"
    decimals = sorted(set(re.findall(whole % r"\d+\.\d\d+", rows)))
    thousands = sorted(set(re.findall(whole % r"\d{1,3}(?:,\d{3})+", rows)))
    assert len(decimals) > 50
    for number in (decimals[0], decimals[-1], thousands[0]):
        pages = search(number)
        assert next(iter(pages)) == LEDGER, number
        for page in pages:
            assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])", visible(site, page))


@in_a_browser
def test_a_number_with_its_unit_is_found_where_it_stands(site, search):
    page = "chapters/memory-wall.html"
    number = re.search(r'pasted-text">(\d+\.\d+ (?:ms|[GT]B))<', source(site, page))[1]
    pages = search(number)
    assert number in " ".join(pages[page].split())  # the excerpt shows the query
    for page in pages:
        assert number.split()[0] in visible(site, page)


@in_a_browser
def test_a_models_name_is_found_with_hyphens_and_with_spaces(site, search):
    pages = search("llama-3.1-70b")
    assert [*pages] == [*search("Llama 3.1 70B")]
    written = [f"{p}.html" for p in CONTENTS if "llama-3.1-70b" in visible(site, f"{p}.html")]
    assert written
    assert set([*pages][:3]) <= set(written)
    for page in pages:
        assert {"llama", "3.1", "70b"} <= set(re.findall(r"[\w.]+\w", visible(site, page).lower()))


@in_a_browser
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("VRAM", {"calculators", "memory-wall"}),
        ("how much vram for 70b", {"calculators"}),
        ("is bigger better", {"small-versus-large", "right-sizing", "diminishing-returns"}),
        ("small vs large", {"small-versus-large", "right-sizing"}),
        ("hallucination", {"glossary"}),
        ("cost of training", {"cost-and-energy"}),
    ],
)
def test_what_people_type_leads_to_a_page_that_answers(search, query, expected):
    first = [page.rpartition("/")[2].removesuffix(".html") for page in search(query)][:3]
    assert expected & set(first), first


@in_a_browser
def test_a_number_that_is_nowhere_is_not_found(search):
    assert search("918273645") == {}


@in_a_browser
def test_words_are_cut_and_stemmed_alike_in_python_and_in_the_browser(site, browser):
    import sizewise_search

    text = (
        "Llama-3.1-70B needs 4.8 ms, 1,429 times (0.5–2.5) e.g. qwen2.5-coder-0.5b: x1.5, 10¹² µs. "
        "Its caches' costs, gas and bytes; 3.35 TB/s, 1,000,000. --live weight_only Größe 2,3 1.x"
    )
    language = sizewise_search.SearchNumbers({})
    page = browser.new_page()
    page.set_content("<p>x")
    page.add_script_tag(content=language.js_stemmer_code + language.js_splitter_code)
    cut = page.evaluate("text => splitQuery(text)", text)
    assert {"3.1", "70B", "4.8", "ms", "1,429", "qwen2.5", "0.5b", "1,000,000"} <= set(cut)
    indexed = language.split(text)
    assert set(cut) <= set(indexed)
    assert set(indexed) - set(cut) == {"Llama-3.1-70B", "qwen2.5-coder-0.5b", "1429", "1000000"}
    stems = page.evaluate("all => all.map(w => new Stemmer().stemWord(w.toLowerCase()))", cut)
    assert stems == [language.stem(word) for word in cut]
    assert language.stem("ms") == "ms"
    assert language.stem("caches") == language.stem("cache")
    page.close()


def test_a_search_that_reads_otherwise_is_reported(tmp_path, monkeypatch):
    import sizewise_search

    warnings = []
    monkeypatch.setattr(sizewise_search.logger, "warning", lambda *words: warnings.append(words))
    script = tmp_path / "searchtools.js"
    script.write_text("highlightTerms.add(queryTermLower);")
    sizewise_search.patch(script)
    assert len(warnings) == len(sizewise_search.PATCHES) - 1
    assert "length > 2" in script.read_text()


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
        columns = []
        for _ in range(3):
            page.locator("th button").nth(1).click()
            columns.append(page.locator("tbody td:nth-child(2)").all_text_contents())
        page.close()
        return columns

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
    more = [""] * (7 - len(upwards))  # a smaller table has nothing to press
    mixed, upwards = upwards[::2] + upwards[1::2] + more, upwards + more
    missing = [cell for cell in upwards if cell in ("", "none", "not measured")]
    present = [cell for cell in upwards if cell not in missing]
    assert presses(mixed) == [upwards, present[::-1] + missing, mixed]  # missing is last both ways


@in_a_browser
def test_a_head_sorts_with_the_keyboard_and_shows_its_order(site, tab):
    opened, troubles = tab("chapters/catalogue.html")
    table = opened.locator("table.sw-table").first
    head = table.locator("th").first
    head.locator("button").focus()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    names = table.locator("tbody td:first-child").all_text_contents()
    assert names[0].lower() > names[-1].lower()
    table.locator("th button").nth(3).click()
    assert head.get_attribute("aria-sort") is None  # one column at a time
    assert table.locator("th[aria-sort]").count() == 1
    assert troubles == []


def test_tables_have_no_buttons_without_a_script(site):
    assert "sw-sort" not in source(site, LEDGER)
    assert re.search(r'<script defer="defer" src="[^"]*tables.js', source(site, LEDGER))
    assert "ledger.js" not in source(site, "book/glossary.html")


# ---- figures ---------------------------------------------------------------------------------


def test_the_files_below_a_figure_are_what_they_are_called(site):
    count = 0
    for page in CONTENTS:
        for line in re.findall(
            r'<div class="sw-figure__data">.*?</div>', source(site, f"{page}.html")
        ):
            for address in re.findall(r'href="\.\./([^"]*)"(?: title="[^"]*")? download', line):
                count += 1
                if address.startswith("figures/"):
                    with (site / address).open(newline="", encoding="utf-8") as file:
                        head, *rows = csv.reader(file)
                    assert rows
                    assert {len(row) for row in rows} == {len(head)}
                else:
                    assert (site / address).read_bytes() == (ROOT / address).read_bytes()
    assert count > 20
    assert "data:text/csv" not in source(site, "chapters/isoflop.html")


def numbered(site, page: str) -> list[tuple[str, str, str]]:
    """The figures of a page: id, number and address to cite."""
    figures = re.findall(
        r'<figure class="sw-figure" id="([^"]*)">.*?class="sw-figure__number" href="#([^"]*)">'
        r'Figure ([\d.]*)</a>.*?class="sw-figure__address">([^<]*)<',
        source(site, f"{page}.html"),
        re.DOTALL,
    )
    assert all(name == anchor for name, anchor, _, _ in figures)
    return [(name, number, address) for name, _, number, address in figures]


def test_figures_are_numbered_by_chapter_and_can_be_cited(site):
    everywhere = {page: numbered(site, page) for page in CONTENTS}
    chapters = [
        page
        for page in CONTENTS
        if re.search(r"<h1><span class=.section-number", source(site, f"{page}.html"))
    ]
    assert len(chapters) == 16
    for place, page in enumerate(chapters, 1):
        figures = everywhere[page]
        assert figures, page
        assert [number for _, number, _ in figures] == [
            f"{place}.{n + 1}" for n in range(len(figures))
        ]
    for page, figures in everywhere.items():
        base = CONFIG["html"]["baseurl"]
        assert [a for _, _, a in figures] == [f"{base}{page}.html#{name}" for name, _, _ in figures]


def test_a_figure_stands_before_the_code_that_makes_it(site):
    for page in CONTENTS:
        for cell in source(site, f"{page}.html").split('<div class="cell tag_hide-input')[1:]:
            if "cell_output" in cell.partition('<div class="cell ')[0]:
                assert cell.index("cell_output") < cell.index("cell_input"), page
        article = source(site, f"{page}.html").partition("<article")[2]
        answer = re.search(r'admonition-title">(?:Short a|A)nswer</p>', article)
        if answer and page != "book/answers":
            after = article[answer.start() :]
            assert 0 < after.find("<svg") < after.find("cell_input"), page


@in_a_browser
@pytest.mark.parametrize("page", ["ledger", "memory-wall", "parameters"])
def test_code_that_shows_nothing_is_one_fold_a_section_and_a_folded_result_has_a_name(tab, page):
    opened, _ = tab(f"chapters/{page}.html")
    loose, beside, names = opened.evaluate("""() => {
        const all = selector => [...document.querySelectorAll(`.bd-article ${selector}`)];
        return [
            all(".tag_hide-input[class*=cell-]").filter(
                cell => !cell.closest("details.hide") && !cell.querySelector(".cell_output")),
            all("section > .cell:not([class*=cell-]) + .cell:not([class*=cell-])"),
            all(".tag_hide-cell > details > summary .collapsed").map(name => name.textContent),
        ].map((list, at) => at < 2 ? list.length : list);
    }""")
    assert (loose, beside) == (0, 0)
    assert "Code" not in names
    if page == "memory-wall":
        assert "Devices that hold the weights of ten trillion parameters" in names


@in_a_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_figure_can_be_taken_as_a_picture_in_the_colours_of_the_page(tab, tmp_path, theme):
    image = pytest.importorskip("PIL.Image")
    opened, troubles = tab("chapters/five-findings.html", theme)
    with opened.expect_download() as download:
        opened.locator(".sw-figure__data button").first.click()
    assert download.value.suggested_filename == "five-findings-1.png"
    download.value.save_as(tmp_path / "figure.png")
    picture = image.open(tmp_path / "figure.png").convert("L")
    assert picture.width > 1200
    assert (picture.getpixel((2, 2)) > 200) == (theme == "light")
    ink = picture.crop((0, 150, picture.width, picture.height - 60)).histogram()
    assert sum(ink[64:192]) > 1000  # lines and letters, not the ground alone
    assert troubles == []


@in_a_browser
def test_a_counted_model_is_named_where_the_pointer_is(tab):
    opened, _ = tab("chapters/catalogue.html")
    texts = opened.locator(".sw-figure svg use title").all_text_contents()
    assert len(texts) > 84
    assert all(
        re.fullmatch(r".+: [\d.]+[MBT] parameters, [\d,]+ kB a token", text) for text in texts
    )


# ---- short answers ---------------------------------------------------------------------------

NUMBER = re.compile(r"(?<![\w.-])[-+−]?[$€]?\d[\d,.]*(?:\s?%)?(?![\w-])")
BOX = re.compile(r'<p class="admonition-title">(?:Short a|A)nswer</p>\s*<p>(.*?)</p>', re.DOTALL)


def in_words(markup: str) -> str:
    """What is read of a piece of a page: explained terms without their explanations."""
    without = re.sub(r'<span class="sw-tip".*?</span>', "", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", without)).split())


def test_short_answers_have_forty_words_and_three_numbers(site):
    counted = 0
    for page in CONTENTS:
        for markup in BOX.findall(source(site, f"{page}.html")):
            counted += 1
            answer = in_words(markup)
            assert len(answer.split()) <= 40, f"{page}: {answer}"
            numbers = re.findall(r'class="pasted-text[^"]*">([^<]*\d[^<]*)<', markup)
            assert len(numbers) <= 3, f"{page}: {numbers}"
    assert counted >= 18
    for line in re.findall(
        r"<strong><a .*?(?=<strong><a |</div>)", source(site, "book/answers.html"), re.DOTALL
    ):
        answer = in_words(line.partition("<br />")[2])
        assert len(answer.split()) <= 40, answer
        assert len(re.findall(r'class="pasted-text[^"]*">[^<]*\d', line)) <= 3, answer


@in_a_browser
def test_the_front_page_is_short_above_how_it_is_made(tab):
    opened, _ = tab("index.html", width=390)
    picture = opened.locator(".bd-article svg").first.bounding_box()
    assert picture["y"] + picture["height"] < 900  # in the first screen
    text = opened.evaluate("""() => {
        document.querySelectorAll("select, svg, .headerlink").forEach(part => part.remove());
        return document.querySelector(".bd-article").innerText;
    }""")
    above, heading, _ = text.partition("How it is made")
    assert heading
    assert 100 < len(above.split()) <= 350
    numbers = re.findall(r"(?<![\w.-])\d[\d.,]*", above)
    assert 5 < len(numbers) <= 12, numbers


# What of a figure shines: boxes by their background, and shapes of more than a fiftieth of the
# drawing by their fill, as it looks on the page's ground; [what, luminance from 0 to 1].
SHINE = """figures => {
  const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const luminance = colour => colour.map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = channels(getComputedStyle(document.body).backgroundColor);
  const over = ([r, g, b, a = 1], opacity) =>
    [r, g, b].map((c, i) => c * a * opacity + ground[i] * (1 - a * opacity));
  const marks = [];
  for (const figure of figures) {
    const svg = figure.querySelector("svg"), whole = svg.getBoundingClientRect();
    const boxes = [figure, svg];
    for (let box = figure.parentElement; box; box = box.parentElement) boxes.push(box);
    for (const box of boxes)
      marks.push([box.className?.baseVal ?? box.tagName,
                  luminance(over(channels(getComputedStyle(box).backgroundColor), 1))]);
    for (const mark of svg.querySelectorAll("path, rect, polygon, circle, ellipse")) {
      const size = mark.getBoundingClientRect(), style = getComputedStyle(mark);
      if (!style.fill.startsWith("rgb")) continue;
      if (size.width * size.height < 0.02 * whole.width * whole.height) continue;
      marks.push([mark.outerHTML.slice(0, 80),
                  luminance(over(channels(style.fill), style.fillOpacity * style.opacity))]);
    }
  }
  return marks;
}"""


@in_a_browser
@pytest.mark.parametrize("page", [p for p in CONTENTS if p.startswith("chapters/")])
def test_a_figure_has_no_bright_ground_in_the_dark(tab, page):
    opened, _ = tab(f"{page}.html", "dark")
    figures = opened.locator(".sw-figure")
    if not figures.count():
        pytest.skip("this page has no figure")
    assert [mark for mark in figures.evaluate_all(SHINE) if mark[1] > 0.3] == []
    text = figures.locator("svg text").first
    ink = text.evaluate("e => getComputedStyle(e).fill")
    assert min(float(c) for c in re.findall(r"[\d.]+", ink)) > 150


@in_a_browser
def test_a_bright_box_in_a_figure_would_be_seen(tab):
    opened, _ = tab("chapters/parameters.html", "dark")
    figure = opened.locator(".sw-figure").first
    figure.evaluate("""figure => figure.querySelector("svg").insertAdjacentHTML(
        "afterbegin", '<path d="M0 0H400V300H0z" style="fill: #ffffff"/>')""")
    assert any(light > 0.3 for _, light in opened.locator(".sw-figure").evaluate_all(SHINE))


# ---- bold words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "bold"),
    [
        ("12.5 GB", True),
        ("8 billion tokens", True),
        ("unknown", True),
        ("nothing else", False),
        ("at 4 bits it loses 2.5 points of 60", False),
    ],
)
def test_a_glued_number_is_bold_and_glued_words_are_not(words, bold):
    from sizewise_site import mend

    assert ("sw-words" not in mend(f'<span class="pasted-text">{words}</span> 1')) == bold


# ---- the front page --------------------------------------------------------------------------


def test_the_page_of_answers_counts_the_verdicts_and_leads_to_them(site):
    page = source(site, "book/answers.html")
    verdicts = [row["verdict"] for row in claims_on_the_page(site).values()]
    totals = re.findall(r'ledger\.html\?verdict=([\w+]+)"><span[^>]*>(\d+) ([\w ]+)<', page)
    assert all(query.replace("+", " ") == verdict for query, _, verdict in totals)
    assert {v: int(n) for _, n, v in totals} == {v: verdicts.count(v) for v in set(verdicts)}
    for chapter in re.findall(r"\?chapter=([\w-]+)&amp;", page):
        counts = re.findall(
            rf'\?chapter={chapter}&amp;verdict=[\w+]+"><span[^>]*>(\d+) ([\w ]+)<', page
        )
        expected = [
            c["verdict"] for c in claims_on_the_page(site).values() if c["chapter"] == chapter
        ]
        assert {v: int(n) for n, v in counts} == {v: expected.count(v) for v in set(expected)}


def test_a_chapter_can_be_opened_elsewhere_or_taken_as_a_notebook(site):
    page = source(site, "chapters/parameters.html")
    path = "chapters/parameters.ipynb"
    assert re.search(rf'href="https://mybinder.org/v2/gh/[^"]*{path}"', page)
    assert re.search(rf'href="https://colab.research.google.com/github/[^"]*{path}"', page)
    assert f'href="../_sources/{path}"' in page
    assert json.loads(source(site, f"_sources/{path}"))["cells"]


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
    opened, troubles = tab("index.html", width=width)
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
    urls = ElementTree.parse(site / "sitemap.xml").findall("s:url/s:loc", spaces)  # noqa: S314
    assert {url.text for url in urls} == {f"{base}{page}.html" for page in BOOK_PAGES}
    assert f"Sitemap: {base}sitemap.xml" in source(site, "robots.txt")


@in_a_browser
@pytest.mark.parametrize("old", REDIRECTS)
def test_an_old_address_leads_to_the_new_page_and_keeps_its_place(tab, old):
    opened, troubles = tab(f"{old}.html?verdict=partly#x")
    opened.wait_for_url(f"**/{REDIRECTS[old]}.html?verdict=partly#x")
    # The old page may be left before it is read to its end, which a browser calls a failure.
    assert [trouble for trouble in troubles if f"/{old}.html" not in trouble] == []


@in_a_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_lost_reader_finds_the_front_page_and_the_search(tab, theme):
    opened, troubles = tab("404.html", theme, 360)
    opened.evaluate((BUILD / "vendor" / "axe.min.js").read_text(encoding="utf-8"))
    assert [finding for finding in opened.evaluate(AUDIT) if finding["impact"] in GRAVE] == []
    opened.locator("input").fill("cache")
    opened.keyboard.press("Enter")
    opened.wait_for_url("**/search.html?q=cache")
    assert troubles == []


@in_a_browser
@pytest.mark.parametrize(
    ("address", "root"),
    [
        ("https://sizewise.github.io/sizewise/chapters/none.html", "/sizewise/"),
        ("https://reader.github.io/my-copy/none.html", "/my-copy/"),
        ("http://localhost:8000/chapters/none.html", "/"),
    ],
)
def test_a_lost_reader_of_a_copy_stays_in_the_copy(site, browser, address, root):
    page = browser.new_page()
    page.route(
        "**/*",
        lambda route: route.fulfill(body=source(site, "404.html"), content_type="text/html"),
    )
    page.goto(address)
    assert page.locator("#home").get_attribute("href") == root
    page.close()


@in_a_browser
def test_paper_is_light_and_holds_no_controls(tab):
    opened, _ = tab(LEDGER, "dark")
    opened.emulate_media(media="print")
    for selector in (".sw-filter", ".bd-sidebar-primary", ".bd-header-article", ".headerlink"):
        assert opened.locator(selector).first.is_visible() is False, selector
    ground, ink = opened.evaluate("""[getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector(".bd-article p")).color]""")
    assert min(int(c) for c in re.findall(r"\d+", ground)[:3]) > 240
    assert max(int(c) for c in re.findall(r"\d+", ink)[:3]) < 90
