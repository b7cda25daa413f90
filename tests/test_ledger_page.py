"""The ledger as a page shows it: what the filters ask for, deciding numbers, counts by verdict."""

import html
import json
import re

import pytest
from sizewise.chapters import claims
from sizewise.chapters.tables import display


def decided(number: int, **numbers: float) -> list[dict]:
    """The output of a cell that decided a claim by ``ratio`` alone."""
    one = claims.decide(
        number, finding="Counted.", rules={"supported": "ratio > 1"}, otherwise="partly", **numbers
    )
    return [{"output_type": "display_data", "metadata": {}, "data": one._repr_mimebundle_()}]


@pytest.fixture
def ledger(book):
    """The rows of a ledger in which the chapter `first` decided both of its claims."""
    outputs = [decided(1, ratio=1.23456, aside=9), decided(2, ratio=0.5)]
    book.chapter("first", *(("decide", output) for output in outputs))
    book.chapter("second", "nothing()")
    return {row["id"]: row for row in claims.table()}


def test_the_numbers_of_a_row_are_those_that_its_rule_compares(ledger):
    assert ledger[1]["numbers"] == {"ratio": 1.23456}
    assert ledger[3]["numbers"] == ledger[4]["numbers"] == {}


def test_a_row_shows_its_numbers_and_the_cell_that_decided_it(ledger):
    shown = display.ledger(ledger.values()).html
    row = re.search(r'<tr id="ledger-1".*?</tr>', shown, re.DOTALL)[0]
    assert "Compared: ratio 1.23. Decided in" in row
    assert row.count('href="first.html#claim-1"') == 2  # the mark, and the words
    assert "aside" not in row
    assert "Decided in" not in re.search(r'<tr id="ledger-3".*?</tr>', shown, re.DOTALL)[0]


def test_a_row_says_what_the_filters_ask_for(ledger):
    shown = display.ledger(ledger.values()).html
    assert (
        '<tr id="ledger-2" data-articles="S0 S1" data-chapter="first" data-verdict="partly">'
        in shown
    )
    assert (
        '<tr id="ledger-3" data-articles="S1" data-chapter="" data-verdict="undecidable">' in shown
    )
    assert (
        '<tr id="ledger-4" data-articles="S1" data-chapter="second" data-verdict="open">' in shown
    )


def test_a_chapter_is_called_by_its_first_heading(book):
    file = book.chapter("first", ("decide", decided(1, ratio=2)))
    assert ">First</a>" in display.ledger(claims.table()).html  # it has none
    words = file.read_text().replace(
        '"cells": [',
        '"cells": [{"cell_type": "markdown", "metadata": {}, "source": "A word\\n# How <big>?"}, ',
        1,
    )
    file.write_text(words)
    assert ">How &lt;big&gt;?</a>" in display.ledger(claims.table()).html


def test_verdicts_are_counted_in_one_order_and_lead_to_their_claims(ledger):
    marks = display.verdict_marks(ledger.values())
    assert marks.text == "1 supported, 1 partly, 1 undecidable, 1 open"
    assert 'href="../chapters/ledger.html?verdict=open"' in marks.html
    own = display.verdict_marks([ledger[1]], chapter="first")
    assert own.text == "1 supported"
    assert 'href="../chapters/ledger.html?chapter=first&amp;verdict=supported"' in own.html
    assert display.verdict_marks([]).html == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1_000_000_000, "1,000,000,000"),
        (3722757.49638, "3,722,757"),
        (224.7, "225"),
        (-0.00586542307291, "−0.00587"),
        (1428.57142857, "1,429"),
        (5.12, "5.12"),
        (0.0, "0"),
        (0.000012345, "1.23e−05"),
        (1.2345e16, "1.23e+16"),
    ],
)
def test_a_deciding_number_is_shown_with_three_digits(ledger, value, shown):
    row = {**ledger[1], "numbers": {"a_long_name": value}}
    assert f"Compared: a long name {shown}. Decided" in display.ledger([row]).html


def test_the_filters_can_say_titles(ledger):
    names = re.search(r'data-names="([^"]*)"', display.ledger(ledger.values()).html)[1]
    names = json.loads(html.unescape(names))
    assert names["article"] == {key: one["title"] for key, one in claims.articles().items()}
    assert names["chapter"] == {"first": "First", "second": "Second"}


def test_the_account_of_the_ledger_adds_up(ledger):
    rows = list(ledger.values())
    assert display.account(rows) == (
        "Of 4 claims, a cell decided 2; 1 are undecidable; 1 still to be decided"
    )
    shown_so = [{**rows[0], "verdict": "undecidable"}, *rows[1:3]]
    assert display.account(shown_so) == (
        "Of 3 claims, a cell decided 1; 2 are undecidable, 1 of them shown so by a cell"
    )
