"""Tables and figures: aligned, escaped, the same bytes every time, at home on any page."""

import html
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from sizewise.chapters.figures import style
from sizewise.chapters.tables import display
from sizewise.data import catalog, records

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
CHAPTERS = sorted((STATIC.parent.parent / "chapters").glob("*.ipynb"))
SOURCE = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "time": "2026-01-02T03:04:05+00:00",
    "command": "python scripts/some.py",
    "seed": 0,
    "machine": {"cpu": "A <processor>", "cores": 2, "gpu": None},
    "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"},
}


class Elements(HTMLParser):
    """Every element with its attributes, and the texts; fails on tags that do not match."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def attributes(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]


class TestTables:
    FRAME = pd.DataFrame(
        {
            "model": ["<a> & b", "c"],
            "parameters": [8_030_261_248, 7],
            "share": [0.123456, 1.0],
            "known": [True, False],
        }
    )

    def test_numbers_stand_to_the_right_and_words_to_the_left(self):
        elements = Elements(display.table(self.FRAME).html)
        sides = [attrs.get("class") for attrs in elements.attributes("th")]
        assert sides == [None, "sw-number", "sw-number", None]
        assert [attrs.get("class") for attrs in elements.attributes("td")] == sides * 2
        assert all(attrs["scope"] == "col" for attrs in elements.attributes("th"))

    def test_a_formatted_column_stands_to_the_right(self):
        table = display.table(self.FRAME, {"model": lambda name: name.upper(), "share": ".1%"})
        elements = Elements(table.html)
        assert elements.attributes("th")[0]["class"] == "sw-number"
        assert elements.texts[4:] == [
            "<A> & B",
            "8,030,261,248",
            "12.3%",
            "True",
            "C",
            "7",
            "100.0%",
            "False",
        ]

    def test_words_are_escaped(self):
        table = display.table(
            self.FRAME.rename(columns={"model": "<i>"}), caption="<script> & more"
        )
        assert "&lt;a&gt; &amp; b" in table.html
        assert '<th scope="col">&lt;i&gt;</th>' in table.html
        assert "<caption>&lt;script&gt; &amp; more</caption>" in table.html
        assert "<script>" not in table.html

    def test_numbers_have_separators_and_four_digits_by_default(self):
        frame = pd.DataFrame({"x": [1234567.0, 0.5, 1234.5678, 32145.6, -3.0, float("inf"), 1e-9]})
        assert Elements(display.table(frame).html).texts[1:] == [
            "1,234,567",
            "0.5",
            "1,235",
            "32,146",
            "-3",
            "inf",
            "1×10⁻⁹",
        ]

    def test_ends_of_intervals_go_beside_their_middle(self):
        frame = pd.DataFrame(
            {"a_low": [1, 2.5], "a": [2, 3], "a_high": [3, 4], "b": [0.5, 1]}
            | {"low": [0.1, None], "high": [0.9, None], "c_low": [1, 2]}
        )
        joined = display.with_intervals(frame)
        assert list(joined) == ["a", "b", "c_low"]  # no end without a middle
        assert list(joined["a"]) == ["2 (1 to 3)", "3 (2.5 to 4)"]
        assert list(joined["b"]) == ["0.5 (0.1 to 0.9)", "1"]
        assert display.table(joined).html.count('class="sw-number') == 9  # all to the right

    def test_texts_of_numbers_stand_to_the_right_like_numbers(self):
        frame = pd.DataFrame({"a": ["+1.5%", "-$3.2", "72 MB"], "b": ["1.5%", "x", ""]})
        elements = Elements(display.table(frame).html)
        sides = [attrs.get("class") for attrs in elements.attributes("td")]
        assert sides == ["sw-number", None] * 3

    @pytest.mark.parametrize(
        "column",
        [
            [1.5, None],
            [1.5, float("nan")],
            ["x", None],
            [1, pd.NA],
            pd.array([1, None], dtype="Int64"),
            pd.to_datetime(["2026-01-01", None]),
        ],
    )
    def test_what_is_missing_is_left_empty(self, column):
        table = display.table(pd.DataFrame({"a": [1, 2], "b": column}))
        assert re.search(r"<td( class=\"sw-number\")?></td></tr>\n</tbody>", table.html)
        assert "nan" not in table.text.lower()
        missing = display.table(pd.DataFrame({"b": column}), {"b": lambda value: f"{value}!"})
        assert "></td></tr>\n</tbody>" in missing.html  # no format is applied to a missing value

    def test_a_table_is_as_good_as_empty(self):
        elements = Elements(display.table(self.FRAME.head(0)).html)
        assert len(elements.attributes("th")) == 4
        assert elements.attributes("td") == []

    def test_a_page_and_a_terminal_show_the_same_texts(self):
        table = display.table(self.FRAME, {"share": ".2%"})
        bundle = table._repr_mimebundle_()
        assert set(bundle) == {"text/html", "text/plain"}
        assert bundle["text/plain"].split("\n")[1].split() == [
            "<a>",
            "&",
            "b",
            "8,030,261,248",
            "12.35%",
            "True",
        ]

    def test_names_in_heads_and_cells_are_those_that_people_write(self):
        frame = pd.DataFrame(
            {
                "model": ["llama-3.1-8b", "RTX-4090", "mine-8b"],
                "small_right": ["adam-mixed", "", ""],
            }
        )
        table = display.table(frame.assign(**{"smollm2-135m": 1}))
        assert Elements(table.html).texts == [
            *("model", "small right", "SmolLM2 135M"),
            *("Llama 3.1 8B", "Adam, mixed precision", "1"),
            *("RTX 4090", "1", "mine-8b", "1"),
        ]
        assert "Llama 3.1 8B" in table.text
        assert "llama-3.1-8b" not in table.text

    def test_an_interval_is_marked_so_that_it_stays_on_one_line(self):
        cells = ["0.983 (0.954 to 1.012)", "-0.002 (-0.006 to +0.000)", "+4.89% (+4.04 to +5.69)"]
        elements = Elements(display.table(pd.DataFrame({"loss": cells})).html)
        assert [attrs["class"] for attrs in elements.attributes("td")] == [
            "sw-number sw-interval"
        ] * 3
        assert elements.attributes("span") == [{"class": "sw-range"}] * 3
        assert elements.texts[1:] == [part for c in cells for part in re.split(r" (?=\()", c)]
        other = ["8 to 1,024", "from (a to b)", "it is 5 (of 7 to be seen)", "5 (<b>7</b> to 8)"]
        table = display.table(pd.DataFrame({"loss": other})).html
        assert "sw-range" not in table.replace(' <span class="sw-range">(&lt;b', "")
        assert "<b>" not in table

    def test_cells_do_not_run_together_where_only_the_text_is_read(self):
        table = display.table(self.FRAME).html
        text = re.sub(r"<[^>]*>", "", table)
        assert (
            text.split()
            == " ".join(Elements(table).texts)
            .replace("<A>", "<a>")
            .replace("<a>", "&lt;a&gt;")
            .replace(" & ", " &amp; ")
            .split()
        )

    def test_only_texts_are_glued(self):
        with pytest.raises(ValueError, match=r"^ratio: format the number first, 1.5 is no text$"):
            display.say(words="fine", ratio=1.5)


class TestProvenance:
    def origins(self, *sources) -> display.Table:
        for number, source in enumerate(sources):
            records.append(records.path("some"), {"n": number}, {"x": 1.5}, SOURCE | source)
        return display.provenance("some")

    def test_rows_stand_under_their_machine_and_commit_each_named_once(self, book):
        later = {"commit": "fedcba9876543210", "time": "2026-01-03T00:00:00+00:00"}
        table = self.origins({}, {}, {"seed": 1}, {"seed": None, "command": "python b.py"}, later)
        elements = Elements(table.html)
        assert [len(elements.attributes(tag)) for tag in ("dt", "dd", "li")] == [1, 2, 3]
        assert elements.texts == [
            "A <processor>, 2 cores, no GPU; python 3.11.7, torch 2.13.0",
            "commit 0123456789, 2026-01-02",
            "3 rows, seeds 0, 1:",
            "python scripts/some.py",
            "1 row:",
            "python b.py",
            "commit fedcba9876, 2026-01-03",
            "1 row, seed 0:",
            "python scripts/some.py",
        ]
        assert "    3 rows, seeds 0, 1: python scripts/some.py" in table.text.splitlines()

    def test_other_machines_and_versions_are_named(self, book):
        card = {"machine": SOURCE["machine"] | {"gpu": "A card"}}
        newer = {"versions": SOURCE["versions"] | {"torch": "2.14.0"}}
        machines = [
            line
            for line in self.origins({}, card, newer).text.splitlines()
            if not line.startswith(" ")
        ]
        assert machines == [
            "A <processor>, 2 cores, no GPU; python 3.11.7, torch 2.13.0",
            "A <processor>, 2 cores, A card; python 3.11.7, torch 2.13.0",
            "A <processor>, 2 cores, no GPU; python 3.11.7, torch 2.14.0",
        ]

    def test_many_seeds_in_a_row_are_named_by_their_ends(self, book):
        seeds = [{"seed": seed} for seed in range(12)]
        assert "12 rows, seeds 0 to 11: python" in self.origins(*seeds).text

    def test_without_rows_nothing_is_measured(self, book):
        assert display.provenance("some").text == "not measured"


def draw(axes, table, colour=None):
    """Everything a figure of this book may hold."""
    axes.plot(table["x"], table["y"], "o-", label="a line & <words>", color=colour)
    axes.scatter(table["x"], table["y"] * 2, label="points")
    axes.bar(table["x"], table["y"] / 2)
    axes.fill_between(table["x"], table["y"], alpha=0.2)
    axes.axvline(2, color=style.INK)
    axes.annotate("here", (1, 1))
    axes.set_title("A title")
    axes.set_xlabel("parameters")
    axes.figure.legend(loc="outside upper center")


def style_draws(axes, table):
    axes.plot(table["x"], table["y"])


style_draws.__module__ = "sizewise.chapters.figures.style"  # as if defined in that module

TABLE = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [2.0, 3.0, 5.0]})


@pytest.fixture(scope="module")
def figure():
    return style.show(draw, TABLE, alt='A "line" & <points>', caption="It grows & <grows>.")


class TestFigures:
    @pytest.mark.parametrize(("alt", "caption"), [("", "x"), ("  ", "x"), ("x", ""), ("x", "\n")])
    def test_a_figure_needs_an_alternative_text_and_a_caption(self, alt, caption):
        with pytest.raises(ValueError, match=r"^a figure needs an alternative text and a caption$"):
            style.show(draw, TABLE, alt=alt, caption=caption)

    def test_the_alternative_text_is_on_the_picture(self, figure):
        shown = figure._repr_mimebundle_()
        assert set(shown) == {"text/html", "text/plain"}
        (picture,) = Elements(shown["text/html"]).attributes("svg")
        assert picture["role"] == "img"
        assert picture["aria-label"] == 'A "line" & <points>'
        assert "<figcaption>It grows &amp; &lt;grows&gt;.</figcaption>" in shown["text/html"]
        assert shown["text/plain"] == 'Figure: A "line" & <points>'

    def test_the_same_table_gives_the_same_bytes(self, figure):
        again = style.show(draw, TABLE, alt='A "line" & <points>', caption="It grows & <grows>.")
        assert again.svg == figure.svg
        assert style.show(draw, TABLE * 2, alt="x", caption="x").svg != figure.svg

    def test_text_and_lines_take_the_colour_of_the_page(self, figure):
        texts = re.findall(r"<text[^>]*>", figure.svg)
        assert len(texts) > 10
        assert all("fill: currentColor" in text for text in texts)
        palette = {colour.lower() for colour in style.COLOURS}
        fixed = set(re.findall(r"#[0-9a-fA-F]{3,6}\b(?=[;\"])", figure.svg))
        assert {colour for colour in fixed if colour.lower() not in palette} == set()
        assert style.INK not in figure.svg
        assert style.FAINT not in figure.svg
        assert "stroke-opacity: 0.15" in figure.svg  # the grid

    def test_nothing_is_white_or_black(self, figure):
        painted = re.findall(r"(?:fill|stroke): *([^;\"]+)", figure.svg)
        allowed = {"none", "currentColor", *style.COLOURS}
        assert {paint.strip() for paint in painted} <= allowed

    def test_text_stays_text_and_takes_the_fonts_of_the_page(self, figure):
        assert ">parameters<" in figure.svg
        assert "a line &amp; &lt;words&gt;" in figure.svg
        assert "<style" not in figure.svg  # it would hold for the whole page

    def test_a_figure_has_no_date_and_no_name_of_its_program(self, figure):
        assert "<metadata" not in figure.svg
        assert "matplotlib" not in figure.svg.lower()
        assert not re.search(r"20\d\d-\d\d", figure.svg)

    def test_the_size_follows_the_page(self, figure):
        assert re.match(r"<svg [^>]*viewBox=\"0 0 [\d.]+ [\d.]+\"", figure.svg)
        assert not re.match(r"<svg [^>]*\bwidth=", figure.svg)

    def test_no_letter_is_small_on_a_phone(self):
        def small(axes):
            axes.loglog([1e3, 1e12], [1, 1e-4], label="words")
            axes.legend(fontsize=5)
            axes.set_xlabel("tokens", fontsize=6)

        drawn = style.show(small, alt="x", caption="x").svg
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", drawn)]
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawn)[1])
        assert len(sizes) > 8
        assert min(sizes) * 326 / width > 8.9  # what a phone of 360 px leaves to a figure
        assert "tspan" not in drawn  # nothing is raised

    @pytest.mark.parametrize("scale", ["linear", "log"])
    def test_names_at_the_ends_of_lines_stand_apart_from_the_lowest_up(self, scale):
        def draw(axes):
            axes.set_yscale(scale)
            axes.set_ylim(1, 100)
            ends = [("high", 51, style.INK), ("low", 50, style.INK), ("far", 99, style.INK)]
            style.at_ends(axes, 1, [*ends, ("top", 99, style.INK)], 1.3 if scale == "log" else 10)

        drawn = style.show(draw, alt="x", caption="x").svg
        low, high, far, top = (  # the last stands above the axes
            float(re.search(rf'y="([\d.]+)"[^>]*>{name}</text>', drawn)[1])
            for name in ("low", "high", "far", "top")
        )
        assert low - high > 10  # letters are 11.5 high
        assert high - far > 10
        assert far - top > 10

    def test_a_legend_too_wide_for_its_figure_is_set_smaller_and_then_refused(self):
        def wide(axes, words, columns):
            for _ in range(columns):
                axes.plot([1, 2], label=words)
            axes.figure.legend(loc="outside upper center", ncols=columns)

        drawn = style.show(wide, "a few words", 4, alt="x", caption="x").svg
        match = re.search(r"font-size: ([\d.]+)px[^>]*>a few words<", drawn)
        assert 6 <= float(match[1]) < style.LEAST
        with pytest.raises(ValueError, match="legend is wider than its figure"):
            style.show(wide, "far too many words for this " * 3, 4, alt="x", caption="x")

    @pytest.mark.parametrize(
        ("label", "ends", "ticks"),
        [
            ("tokens", (1e3, 1e12), {"10K", "100M", "1T"}),
            ("loss", (1e-5, 10), {"10⁻⁴", "0.001", "10"}),
            ("training FLOPs", (1e10, 1e13), {"10¹⁰", "10¹³"}),
            ("bytes read", (1e6, 1e10), {"10⁶", "10¹⁰"}),
            ("bytes read (kB)", (1e2, 1e6), {"100", "10K", "1M"}),
            ("parameters", (1e14, 1e18), {"10¹⁴", "10¹⁸"}),
        ],
    )
    def test_powers_at_the_ticks_stand_on_one_line(self, label, ends, ticks):
        def draw(axes):
            axes.loglog(ends, [1, 2])
            axes.set_xlabel(label)
            axes.minorticks_off()

        drawn = style.show(draw, alt="x", caption="x").svg
        assert ticks <= set(re.findall(r">([^<>\n]+)</text>", drawn))

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (0, "0"),
            (1, "1"),
            (2500, "2500"),
            (1e4, "10K"),
            (2e9, "2B"),
            (1e15, "10¹⁵"),
            (-1e6, "-1M"),
            (1e-4, "10⁻⁴"),
            (3e-7, "3×10⁻⁷"),
            (0.02, "0.02"),
        ],
    )
    def test_a_number_at_a_tick(self, value, words):
        assert style.power(value) == words

    def test_names_inside_are_unique_on_a_page_of_several_figures(self, figure):
        others = [
            style.show(draw, TABLE * 2, alt="x", caption="x").svg,
            style.show(draw, TABLE, style.COLOURS[3], alt="x", caption="x").svg,
            style.show(draw, TABLE, alt="x", caption="x", size=(3, 3)).svg,
        ]
        names = [re.findall(r'\bid="([^"]*)"', svg) for svg in (figure.svg, *others)]
        assert all(names)
        everywhere = Counter(name for ids in names for name in ids)
        assert [name for name, times in everywhere.items() if times > 1] == []
        for svg, ids in zip((figure.svg, *others), names, strict=True):
            used = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)
            assert {url or href for url, href in used} <= set(ids)

    def test_a_point_shows_its_text_under_the_pointer(self):
        def dots(axes):
            points = axes.scatter([1, 2, 3], [1, 3, 2])
            style.hover(points, ["first & <best>", 'a "second"', "third"])
            axes.plot([1, 2], [1, 2], "o")

        drawn = style.show(dots, alt="x", caption="x").svg
        assert re.findall(r"<use [^>]*><title>([^<]*)</title></use>", drawn) == [
            "first &amp; &lt;best&gt;",
            "a &quot;second&quot;",
            "third",
        ]
        assert style.HOVER not in drawn

    def test_the_frame_that_is_drawn_is_the_csv(self):
        shown = style.show(draw, TABLE, alt="x", caption="x")
        assert shown.csv == "x,y\n1,2\n2,3\n3,5\n"
        other = style.show(draw, TABLE, alt="x", caption="x", data=TABLE / 3)
        assert other.csv.splitlines()[1] == "0.333333,0.666667"
        assert "data:text/csv" in other._repr_mimebundle_()["text/html"]

    def test_a_figure_names_its_rows_and_what_draws_it(self):
        shown = style.show(style_draws, TABLE, alt="x", caption="x", rows=("isoflop", "facts/laws"))
        assert shown.sources == (
            "data/isoflop.jsonl",
            "data/facts/laws.yml",
            "book/sizewise/chapters/figures/style.py",
        )
        with pytest.raises(ValueError, match="no recorded rows or facts named isoflops"):
            style.show(draw, TABLE, alt="x", caption="x", rows="isoflops")

    def test_the_alternative_text_may_live_in_the_function_that_draws(self):
        shown = style.show(lambda axes: "what it shows", caption="x", title="It grows")
        assert shown.alt == "what it shows"
        assert '<p class="sw-figure__title">It grows</p>' in shown._repr_mimebundle_()["text/html"]

    def test_the_numbers_below_are_folded(self):
        shown = style.show(draw, TABLE, alt="x", caption="x", numbers=TABLE)
        markup = shown._repr_mimebundle_()["text/html"]
        assert re.search(r"<details><summary>[^<]+</summary>\n<table", markup)
        Elements(markup.replace("<?xml", ""))

    def test_a_figure_that_fails_leaves_no_other_behind(self):
        import matplotlib.pyplot as plt

        def fails(axes):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            style.show(fails, alt="x", caption="x")
        assert plt.get_fignums() == []

    def test_the_look_is_kept_to_the_figures(self):
        import matplotlib

        before = dict(matplotlib.rcParams)
        style.show(draw, TABLE, alt="x", caption="x")
        after = dict(matplotlib.rcParams)
        assert {name for name in before if before[name] != after[name]} <= {"backend"}


# ---- the outputs of chapters


def outputs(chapter: Path) -> str:
    """What the cells of a chapter show or print, without tags and attributes, code and links."""
    shown = []
    for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            data = {name.split("/")[-1]: text for name, text in output.get("data", {}).items()}
            shown.append("".join(data.get("html") or data.get("plain") or output.get("text", ())))
    text = re.sub(r"<code>.*?</code>|<[^>]+>", " ", "\n".join(shown), flags=re.DOTALL)
    return html.unescape(text)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_no_output_calls_a_thing_by_its_name_in_the_rows(chapter):
    exceptions = {"gpt-oss-120b"}  # its maker's own name for it
    names = {*catalog.models(), *display.SMALL, *catalog.devices(), *display.NAMES} - exceptions
    hyphened = "|".join(re.escape(name) for name in names if "-" in name)
    assert re.findall(rf"(?<![\w/-])(?:{hyphened})(?![\w/-])", outputs(chapter)) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_captions_are_plain_text(chapter):
    source = chapter.read_text(encoding="utf-8")
    captions = re.findall(r"<(?:fig)?caption>(.*?)</(?:fig)?caption>", source)
    assert [caption for caption in captions if re.search(r"`|\*\*|\]\(", caption)] == []
