"""The ledger as a page shows it: what the filters ask for, deciding numbers, counts by verdict."""

import re

import pytest
from sizewise import claims, page


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
    shown = page.ledger(ledger.values()).html
    row = re.search(r'<tr id="ledger-1".*?</tr>', shown, re.DOTALL)[0]
    assert "<code>ratio</code> = 1.235. Decided in" in row
    assert row.count('href="first.html#claim-1"') == 2  # the mark, and the words
    assert "aside" not in row
    assert "Decided in" not in re.search(r'<tr id="ledger-3".*?</tr>', shown, re.DOTALL)[0]


def test_a_row_says_what_the_filters_ask_for(ledger):
    shown = page.ledger(ledger.values()).html
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
    assert ">first</a>" in page.ledger(claims.table()).html  # it has none
    words = file.read_text().replace(
        '"cells": [',
        '"cells": [{"cell_type": "markdown", "metadata": {}, "source": "A word\\n# How <big>?"}, ',
        1,
    )
    file.write_text(words)
    assert ">How &lt;big&gt;?</a>" in page.ledger(claims.table()).html


def test_verdicts_are_counted_in_one_order_and_lead_to_their_claims(ledger):
    marks = page.verdict_marks(ledger.values())
    assert marks.text == "1 supported, 1 partly, 1 undecidable, 1 open"
    assert 'href="../chapters/ledger.html?verdict=open"' in marks.html
    own = page.verdict_marks([ledger[1]], chapter="first")
    assert own.text == "1 supported"
    assert 'href="../chapters/ledger.html?chapter=first&amp;verdict=supported"' in own.html
    assert page.verdict_marks([]).html == ""
