"""The numbers that a figure carries are those that it draws."""

import csv
import io
import json
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.chapters.figures import data, style


def drawn_by(draw) -> list[dict[str, str]]:
    """The rows of the CSV that a figure drawn by ``draw(axes)`` carries."""
    figure = style.show(draw, alt="x", caption="x")
    return list(csv.DictReader(io.StringIO(figure.data)))


def points(rows, *names) -> list[tuple]:
    return [tuple(row[name] for name in names or ("x", "y")) for row in rows]


def test_a_line_is_given_point_by_point_with_its_label_and_its_axes():
    def draw(axes):
        axes.loglog([1, 10], [0.5, 1234567.0], label="a, b")
        axes.set_xlabel("tokens")
        axes.set_ylabel('loss "nats"')

    first, second = drawn_by(draw)
    assert list(first) == list(data.COLUMNS)
    assert first["series"] == "a, b"
    assert (first["x_axis"], first["y_axis"]) == ("tokens", 'loss "nats"')
    assert points([first, second], "mark", "x", "y") == [
        ("line", "1", "0.5"),
        ("line", "10", "1.23457e+06"),
    ]


def test_marks_without_a_line_are_points_and_missing_values_stay_empty():
    rows = drawn_by(lambda axes: axes.plot([1, 2], [3, np.nan], "o"))
    assert points(rows, "mark", "x", "y") == [("points", "1", "3"), ("points", "2", "")]


def test_what_shares_a_colour_of_the_legend_shares_its_name_and_ink_has_none():
    def draw(axes):
        axes.plot([1, 2], [3, 4], "o", color=style.COLOURS[1], label="named")
        axes.plot([1, 1], [2.5, 3.5], color=style.COLOURS[1])
        axes.axhline(7, color=style.INK)

    rows = drawn_by(draw)
    assert points(rows, "series") == [("named",)] * 4 + [("",)]
    assert points(rows[-1:], "x", "y") == [("", "7")]  # a rule has no other coordinate


def test_bars_lie_at_their_categories_and_say_where_they_begin():
    def draw(axes):
        axes.barh(["one", "two"], [2, 3], label="below")
        axes.barh(["one", "two"], [1, 1], left=[2, 3], label="above")

    assert points(drawn_by(draw), "series", "mark", "x", "y", "value") == [
        ("below", "bar", "2", "one", ""),
        ("below", "bar", "3", "two", ""),
        ("above", "bar", "3", "one", "2"),
        ("above", "bar", "4", "two", "3"),
    ]


def test_words_at_the_ticks_name_categories_and_not_a_scale():
    def draw(words, places):
        def fill(axes):
            axes.plot([0.1, 2.2], [0, 1], "o")
            axes.set_xticks(places, words)

        return points(drawn_by(fill), "x")

    assert draw(["a", "b", "c"], [0, 1, 2]) == [("a",), ("c",)]
    assert draw(["0", "1", "2"], [0, 1, 2]) == [("0.1",), ("2.2",)]  # numbers: a scale
    assert draw(["low", "high"], [0, 2]) == [("0.1",), ("2.2",)]  # two apart: a scale


def test_intervals_areas_cells_and_texts_are_there():
    def fill(axes):
        axes.errorbar([1], [2], [0.5], fmt="o", color=style.COLOURS[0], label="measured")
        axes.fill_between([5, 6], [0, 0], [1, 2], color=style.COLOURS[1], label="band")
        axes.pcolormesh([0, 2], [0, 4], np.array([[7.5]]))
        axes.annotate("here", (3, 4))

    rows = drawn_by(fill)
    found = {mark: [r for r in rows if r["mark"] == mark] for mark in {r["mark"] for r in rows}}
    assert points(found["interval"], "series", "y") == [("measured", "1.5"), ("measured", "2.5")]
    assert {("5", "1"), ("6", "2")} <= set(points(found["area"]))
    assert points(found["area"], "series")[0] == ("band",)
    assert points(found["cell"], "x", "y", "value") == [("1", "2", "7.5")]
    assert points(found["text"], "series", "x", "y") == [("here", "3", "4")]


def test_panels_are_told_apart():
    def draw(axes):
        other = axes.figure.add_subplot(212)
        axes.plot([1], [1], "o")
        other.plot([2], [2], "o")
        other.set_title("below")

    assert points(drawn_by(draw), "panel", "x") == [("1", "1"), ("below", "2")]


def test_a_figure_of_too_many_points_or_of_none_carries_no_file():
    many = style.show(lambda axes: axes.plot(range(data.MOST_ROWS + 1)), alt="x", caption="x")
    exact = style.show(lambda axes: axes.plot(range(data.MOST_ROWS)), alt="x", caption="x")
    empty = style.show(lambda axes: None, alt="x", caption="x")
    assert many.data == empty.data == ""
    assert exact.data.count("\n") == data.MOST_ROWS + 1
    assert "download" not in many._repr_mimebundle_()["text/html"]
    assert exact._repr_mimebundle_()["text/html"].count('download="figure.csv"') == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_the_address_holds_the_text_whole_and_is_safe_in_an_attribute(words):
    address = data.as_address(words)
    head, _, body = address.partition(",")
    assert head == "data:text/csv;charset=utf-8"
    assert unquote(body) == words
    assert not set(body) & set("\"'<>& \n#")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=8))
def test_every_number_is_there_to_six_digits(values):
    rows = drawn_by(lambda axes: axes.plot(values))
    assert [float(row["y"]) for row in rows] == pytest.approx(values, rel=1e-5, abs=1e-300)


# ---- what draws a figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))


@pytest.mark.parametrize("chapter", sorted(path.stem for path in ROOT.glob("chapters/*.ipynb")))
def test_every_figure_of_a_chapter_names_the_file_that_draws_it(chapter):
    from sizewise_figures import FIGURE, scripts

    notebook = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", ())]
    shown = "".join("".join(out.get("data", {}).get("text/html", "")) for out in outputs)
    found = scripts(notebook, ROOT)
    assert len(found) == len(FIGURE.findall(shown))
    for file in found:
        assert file.startswith("book/sizewise/chapters/figures/")
        assert (ROOT / file).is_file()


def chapter_of(*statements: str) -> dict:
    """A chapter of one cell with a figure."""
    figure = {"data": {"text/html": '<figure class="sw-figure"></figure>'}}
    source = "\n".join(statements)
    return {"cells": [{"cell_type": "code", "source": source, "outputs": [figure]}]}


def test_the_drawing_file_is_read_from_the_code():
    from sizewise_figures import scripts

    start = (
        "from sizewise.chapters.figures import style",
        "from sizewise.chapters.figures import kv_cache as figures",
    )
    drawn = "style.show(figures.shrinking, rows, alt='x')"
    file = "book/sizewise/chapters/figures/kv_cache.py"
    assert scripts(chapter_of(*start, drawn), ROOT) == [file]
    assert scripts(chapter_of(*start, f"shown = {drawn}", "shown"), ROOT) == [file]
    assert scripts(chapter_of(*start, "style.show(lambda axes: None, alt='x')"), ROOT) == [None]


def test_the_drawing_file_is_linked_and_copied_beside_the_page(tmp_path):
    from sizewise_figures import _with_files

    file = "book/sizewise/chapters/figures/kv_cache.py"
    page = _with_files("<figure>x</figure>", tmp_path, ROOT, "some-1", [], file)
    assert f'Files: <a href="../{file}" download>{file}</a> (draws it)</p>' in page
    assert (tmp_path / file).read_bytes() == (ROOT / file).read_bytes()
