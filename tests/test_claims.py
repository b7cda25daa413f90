"""The ledger: consistent, and its verdicts follow from numbers by rules a reader can see."""

import json
from collections import Counter

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizewise import paths
from sizewise.chapters import claims
from sizewise.chapters.tables import display

FINDING = "Counted."


def decide(number=2, rules=None, otherwise="misleading", **numbers):
    return claims.decide(number, finding=FINDING, rules=rules or {}, otherwise=otherwise, **numbers)


class TestRules:
    @pytest.mark.parametrize(
        ("ratio", "verdict"),
        [
            (1.0, "supported"),
            (1.1, "supported"),
            (1.2, "partly"),
            (2.0, "partly"),
            (2.1, "misleading"),
        ],
    )
    def test_the_first_rule_that_holds_names_the_verdict(self, ratio, verdict):
        rules = {"supported": "0.9 <= ratio <= 1.1", "partly": "ratio <= 2"}
        assert decide(rules=rules, ratio=ratio).verdict == verdict

    def test_the_order_of_the_rules_is_the_order_of_trying(self):
        both = {"contradicted": "x > 1", "supported": "x > 0"}
        assert decide(rules=both, x=2).verdict == "contradicted"
        assert decide(rules=dict(reversed(both.items())), x=2).verdict == "supported"

    def test_without_rules_the_verdict_is_the_last_resort(self):
        assert decide(otherwise="undecidable").verdict == "undecidable"

    @given(st.integers(-5, 5), st.integers(-5, 5), st.booleans())
    def test_rules_mean_what_python_means(self, a, b, c):
        for rule, meant in {
            "not (a > b)": not (a > b),
            "not c": not c,
            "a and b > 1": a and b > 1,
            "a > 0 and b > 0 or c": (a > 0 and b > 0) or c,
            "a < b < 3": a < b < 3,
            "a != b": a != b,
            "abs(a - b) <= max(a, b)": abs(a - b) <= max(a, b),
            "-a ** 2 + b * 2 >= b / 2": -(a**2) + b * 2 >= b / 2,
            "True": True,
        }.items():
            won = decide(rules={"supported": rule}, a=a, b=b, c=c).verdict
            assert (won == "supported") == bool(meant), rule

    def test_numbers_beyond_sixty_four_bits_are_compared_exactly(self):
        rules = {"supported": "x == 10000000000000000000001"}
        assert decide(rules=rules, x=10**22 + 1).verdict == "supported"
        assert decide(rules=rules, x=10**22).verdict == "misleading"

    @pytest.mark.parametrize(
        "rule",
        [
            "ratio > nothing",
            "ratio >",
            "ratio > 1; ratio",
            "ratio = 1",
            "__import__('os').system('true')",
            "open('x')",
            "ratio.real > 1",
            "[ratio][0] > 1",
            "(lambda: 1)()",
            "[1 for _ in (1,)]",
            "1 if ratio else 0",
            "ratio / 0 > 1",
            "",
        ],
    )
    def test_a_rule_that_cannot_be_applied_is_named(self, rule):
        with pytest.raises(ValueError, match="cannot be applied: ") as caught:
            decide(rules={"supported": rule}, ratio=1.5)
        assert repr(rule) in str(caught.value)


class TestDeciding:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf, np.float32("nan")])
    def test_a_number_that_is_not_finite_decides_nothing(self, value):
        with pytest.raises(ValueError, match=r"^claim 2: ratio is .*, not a finite number$"):
            decide(rules={"supported": "ratio > 1"}, ratio=value)

    @pytest.mark.parametrize("value", ["1.5", None])
    def test_what_is_no_number_decides_nothing(self, value):
        with pytest.raises(ValueError, match=r"^claim 2: ratio is .*, not a finite number$"):
            decide(rules={"supported": "ratio > 1"}, ratio=value)

    def test_an_unknown_verdict_comes_with_the_nearest_one(self):
        words = r"^unknown verdict 'suported'; did you mean 'supported'\?$"
        with pytest.raises(ValueError, match=words):
            decide(rules={"suported": "x > 1"}, x=2)
        with pytest.raises(ValueError, match=words):
            decide(otherwise="suported", x=2)

    def test_an_unknown_claim_is_named(self):
        with pytest.raises(ValueError, match=r"^no claim 999 in data/claims.yml$"):
            decide(number=999)

    def test_the_page_shows_numbers_rules_and_thresholds(self):
        rules = {"supported": "0.9 <= ratio <= 1.1", "partly": "ratio < 2 and count > 3"}
        one = claims.decide(
            2,
            finding="A <finding> & more.",
            rules=rules,
            otherwise="contradicted",
            ratio=1.2345678,
            count=12_345_678,
        )
        shown = one._repr_mimebundle_()
        card = shown["text/html"]
        assert "supported if <code>0.9 &lt;= ratio &lt;= 1.1</code>" in card
        assert (
            "partly if <code>ratio &lt; 2 and count &gt; 3</code>; otherwise contradicted" in card
        )
        assert "<code>ratio</code> = 1.235" in card
        assert "<code>count</code> = 12,345,678" in card
        assert "A &lt;finding&gt; &amp; more." in card
        assert 'id="claim-2"' in card
        assert 'class="sw-verdict sw-verdict--partly"' in card
        assert shown["text/plain"] == "claim 2: partly. A <finding> & more."
        stored = json.loads(json.dumps(shown[claims.MIME], allow_nan=False))
        assert stored["rules"] == [list(rule) for rule in rules.items()]  # their order counts
        assert stored["numbers"] == {"ratio": 1.2345678, "count": 12_345_678}
        assert stored["otherwise"] == "contradicted"

    def test_numbers_of_any_library_are_stored_as_plain_ones(self):
        one = decide(
            whole=np.int64(8_030_261_248),
            part=np.float32(0.5),
            flag=np.bool_(True),
            cell=pandas.Series([2.5]).max(),
            third=1 / 3,
        )
        assert json.loads(json.dumps(one.numbers)) == {
            "whole": 8_030_261_248,
            "part": 0.5,
            "flag": 1,
            "cell": 2.5,
            "third": 0.333333333333,
        }
        assert "<code>whole</code> = 8,030,261,248" in one._repr_mimebundle_()["text/html"]


def stored(number, verdict="supported", finding=FINDING):
    """The output of a cell that decided claim ``number``."""
    content = {"id": number, "verdict": verdict, "finding": finding, "numbers": {}}
    return [{"output_type": "display_data", "metadata": {}, "data": {claims.MIME: content}}]


class TestCollecting:
    def test_verdicts_come_from_the_outputs_of_the_chapters(self, book):
        book.chapter("first", ("decide", stored(1)), "1 + 1", ("decide", stored(2, "partly")))
        book.chapter("second", "nothing()")
        found = claims.verdicts()
        assert {n: one["verdict"] for n, one in found.items()} == {1: "supported", 2: "partly"}
        assert found[2]["chapter"] == "first"
        assert claims.verdicts("second") == {}

    def test_the_table_has_a_verdict_or_a_reason_for_every_claim(self, book):
        book.chapter("first", ("decide", stored(1)))
        book.chapter("second", "nothing()")
        rows = {row["id"]: row for row in claims.table()}
        assert list(rows) == [1, 2, 3, 4]
        assert (rows[1]["verdict"], rows[1]["reason"]) == ("supported", None)
        assert rows[2]["verdict"] is None
        assert rows[2]["reason"] == "open: the chapter first has not decided it yet"
        assert rows[2]["article"] == "S0, S1"
        assert (rows[3]["verdict"], rows[3]["reason"]) == ("undecidable", "A matter of taste.")

    def test_a_chapter_whose_file_is_not_there_has_decided_nothing(self, book):
        book.chapter("first", ("decide", stored(1))).unlink()
        assert claims.verdicts() == {}

    def test_a_chapter_decides_only_what_it_owns(self, book):
        book.chapter("second", ("decide", stored(1)))
        with pytest.raises(ValueError, match=r"^second decides claim 1, which first owns$"):
            claims.verdicts()

    def test_a_claim_with_a_reason_is_owned_by_nobody(self, book):
        book.chapter("second", ("decide", stored(3)))
        with pytest.raises(ValueError, match=r"^second decides claim 3, which None owns$"):
            claims.verdicts()

    def test_a_claim_is_decided_once(self, book):
        book.chapter("first", ("decide", stored(1)), ("decide again", stored(1, "partly")))
        with pytest.raises(ValueError, match=r"^claim 1 is decided twice in first$"):
            claims.verdicts()

    def test_a_claim_that_is_no_longer_there_is_named(self, book):
        book.chapter("first", ("decide", stored(99)))
        with pytest.raises(ValueError, match=r"^first decides claim 99, not in data/claims.yml$"):
            claims.verdicts()

    def test_the_ledger_page_escapes_and_links(self, book):
        book.chapter("first", ("decide", stored(2, finding="One < two.")))
        shown = display.ledger(claims.table())
        assert "Two is &lt;b&gt;one&lt;/b&gt;." in shown.html
        assert "One &lt; two." in shown.html
        assert 'href="first.html#claim-2"' in shown.html
        assert shown.html.count("<tr") == 1 + 4
        assert "A matter of taste." in shown.text


class TestTheLedger:
    def test_claims_are_numbered_from_one_without_a_gap(self):
        assert list(claims.ledger()) == list(range(1, 116))

    @pytest.mark.parametrize("claim", claims.ledger().values(), ids=lambda claim: claim.id)
    def test_a_claim_is_complete(self, claim):
        assert (claim.chapter is None) != (claim.reason is None)
        assert claim.articles
        assert set(claim.articles) <= claims.articles().keys()
        assert len(set(claim.articles)) == len(claim.articles)
        assert claim.kind in ("arithmetic", "published", "measurement", "rumour", "opinion")
        assert claim.claim[0].isupper()
        assert claim.claim.endswith(".")
        assert claim.reason is None or len(claim.reason.split()) >= 8

    def test_no_claim_stands_there_twice_and_every_article_makes_some(self):
        said = Counter(claim.claim for claim in claims.ledger().values())
        assert [words for words, times in said.items() if times > 1] == []
        made = Counter(article for claim in claims.ledger().values() for article in claim.articles)
        assert made.keys() == claims.articles().keys()

    def test_reasons_are_about_their_own_claim(self):
        reasons = Counter(c.reason for c in claims.ledger().values() if c.reason)
        assert [words for words, times in reasons.items() if times > 1] == []

    def test_the_table_covers_all_claims(self):
        rows = claims.table()
        assert [row["id"] for row in rows] == list(range(1, 116))
        assert all(row["verdict"] in claims.VERDICTS or row["reason"] for row in rows)

    @pytest.mark.parametrize("name", [n for n, file in paths.chapters().items() if file.exists()])
    def test_a_chapter_has_decided_every_claim_that_it_owns(self, name):
        owned = {claim.id for claim in claims.ledger().values() if claim.chapter == name}
        assert claims.verdicts(name).keys() == owned

    @pytest.mark.parametrize("name", [n for n, file in paths.chapters().items() if file.exists()])
    def test_stored_verdicts_follow_from_the_numbers_stored_with_them(self, name):
        for number, one in claims.verdicts(name).items():
            again = claims.decide(
                number,
                finding=one["finding"],
                rules=dict(one["rules"]),
                otherwise=one["otherwise"],
                **one["numbers"],
            )
            assert again.verdict == one["verdict"], number
            assert one["rules"], f"claim {number}: a verdict without a rule is a typed word"
            assert one["numbers"], f"claim {number}: a verdict without a number"
