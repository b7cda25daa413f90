"""The ledger as a page shows it: what the filters ask for, evidence in words, how claims fare."""

import html
import json
import re

import pytest
from sizewise.chapters import claims
from sizewise.chapters.tables import ledger as page
from sizewise.chapters.verdicts import Evidence


def decided(number: int, ratio: float, **fixed: float) -> list[dict]:
    """The output of a cell that decided a claim by ``ratio`` alone."""
    verdict = claims.decide(
        number,
        finding="Counted <so>.",
        rules={"supported": "ratio > 1"},
        otherwise="partly",
        ratio=Evidence(ratio, "ratio of the sizes", 0.1, 10),
        **fixed,
    )
    return [{"output_type": "display_data", "metadata": {}, "data": verdict._repr_mimebundle_()}]


@pytest.fixture
def rows(book):
    """The rows of a ledger in which the chapter `first` decided both of its claims."""
    outputs = [decided(1, 1.23456, aside=9), decided(2, 0.5)]
    book.chapter("first", *(("decide", output) for output in outputs))
    book.chapter("second", "nothing()")
    return {row["id"]: row for row in claims.table()}


def test_a_row_shows_its_evidence_in_words_and_where_it_flips(rows):
    listing = page.listing(rows.values()).html
    row = re.search(r'<tr id="ledger-1".*?</tr>', listing, re.DOTALL)[0]
    assert "Weighed: ratio of the sizes: 1.23." in row
    assert "It would be partly if ratio of the sizes went below 1." in row
    assert "Counted &lt;so&gt;." in row
    assert row.count('href="first.html#claim-1"') == 2  # the mark, and the words
    assert "aside" not in row
    assert "Decided in" not in re.search(r'<tr id="ledger-3".*?</tr>', listing, re.DOTALL)[0]


def test_a_row_has_the_attributes_of_the_filters(rows):
    listing = page.listing(rows.values()).html
    attributes = re.findall(
        r'<tr id="ledger-(.+?)" data-articles="(.+?)" data-topic="(.+?)" data-chapter="(.*?)"'
        r' data-verdict="(.+?)">',
        listing,
    )
    assert attributes == [
        ("1", "S0", "size", "first", "supported"),
        ("2", "S0 S1", "size", "first", "partly"),
        ("3", "S1", "cost", "", "undecidable"),
        ("4", "S1", "cost", "second", "waiting"),
    ]


def test_a_grey_row_names_what_would_settle_it(rows):
    listing = page.listing(rows.values()).html
    row = re.search(r'<tr id="ledger-3".*?</tr>', listing, re.DOTALL)[0]
    assert "A matter of taste." in row
    assert "What would settle it: Agreement." in row
    dated = page.listing([{**rows[3], "verdict": "open", "until": "2027-05-31"}]).html
    assert "open until 2027-05-31" in dated


def test_a_row_names_what_was_read_for_it():
    row = next(row for row in claims.table() if row["id"] == 103)
    listing = page.listing([row]).html
    assert (
        'Read: <a href="https://epoch.ai/data-insights/open-closed-eci-gap">Open models' in listing
    )


@pytest.mark.parametrize(
    "claim", [c for c in claims.ledger().values() if c.facts], ids=lambda c: c.id
)
def test_every_claim_that_facts_decide_names_a_source_of_the_bibliography(claim):
    keys = claims.sources(claim)
    assert keys or claim.id in (35, 110)  # these rest on other verdicts, and on the catalogue
    assert all(page._reference(key) for key in keys)


def test_the_page_escapes_claims(rows):
    listing = page.listing(rows.values())
    assert "Two is &lt;b&gt;one&lt;/b&gt;." in listing.html
    assert "We read: One as a number." in listing.html
    assert listing.html.count("<tr") == 1 + 4
    assert "A matter of taste." in listing.text


def test_a_chapter_is_called_by_its_first_heading(book):
    file = book.chapter("first", ("decide", decided(1, ratio=2)))
    assert ">First</a>" in page.listing(claims.table()).html  # it has none
    text = file.read_text().replace(
        '"cells": [',
        '"cells": [{"cell_type": "markdown", "metadata": {}, "source": "A word\\n# How <big>?"}, ',
        1,
    )
    file.write_text(text)
    assert ">How &lt;big&gt;?</a>" in page.listing(claims.table()).html


def test_verdicts_are_counted_in_one_order_and_lead_to_their_claims(rows):
    marks = page.marks(rows.values(), "chapters/ledger.html")
    assert marks.text == "1 supported, 1 partly, 1 undecidable, 1 waiting"
    assert 'href="chapters/ledger.html?verdict=waiting"' in marks.html
    single = page.marks([rows[1]], "chapters/ledger.html", chapter="first")
    assert single.text == "1 supported"
    assert 'href="chapters/ledger.html?chapter=first&amp;verdict=supported"' in single.html
    assert 'href="ledger.html?verdict=partly"' in page.marks(rows.values(), "ledger.html").html
    assert page.marks([], "").html == ""


def test_the_filters_can_show_titles(rows):
    names = re.search(r'data-names="([^"]*)"', page.listing(rows.values()).html)[1]
    names = json.loads(html.unescape(names))
    assert names["article"] == {key: about["title"] for key, about in claims.articles().items()}
    assert names["topic"] == {"size": "How large", "cost": "What it costs"}
    assert names["chapter"] == {"first": "First", "second": "Second"}


def test_the_account_counts_what_holds_fails_and_is_grey(rows):
    texts = page.account(rows.values())
    names = ("claims", "holds", "fails", "undecidable", "open", "not_checked")
    assert [texts[f"ledger_{name}"] for name in names] == ["4", "1", "0", "1", "0", "0"]


def test_the_worst_topic_is_that_with_the_largest_share_of_failing_claims(rows):
    failing = [{**rows[1], "topic": "cost", "verdict": "contradicted"}] * 6
    holding = [{**rows[1], "topic": "cost"}] * 4 + [{**rows[1], "topic": "size"}] * 10
    few = [{**rows[1], "topic": "size", "verdict": "contradicted", "finding": None}]
    assert page.account([*failing, *holding, *few])["ledger_worst"] == "what it costs"
    assert page.account([*failing[:2], *holding])["ledger_worst"] == "how large"
