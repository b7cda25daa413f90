"""The ledger: complete, consistent, and every stored verdict follows from a rule that can fail."""

import ast
import json
from collections import Counter
from datetime import date

import pytest
from sizewise import paths
from sizewise.chapters import claims, notebook, verdicts
from test_verdicts import reachable

FINDING = "Counted."
CHAPTERS = [name for name, file in paths.chapters().items() if file.exists()]


def output(number, verdict="supported", finding=FINDING):
    """The output of a cell that decided claim ``number``."""
    content = {"id": number, "verdict": verdict, "finding": finding, "numbers": {}, "rules": []}
    return [{"output_type": "display_data", "metadata": {}, "data": {verdicts.MIME: content}}]


class TestCollecting:
    def test_verdicts_come_from_the_outputs_of_the_chapters(self, book):
        book.chapter("first", ("decide", output(1)), "1 + 1", ("decide", output(2, "partly")))
        book.chapter("second", "nothing()")
        stored = claims.stored()
        assert {n: v["verdict"] for n, v in stored.items()} == {1: "supported", 2: "partly"}
        assert stored[2]["chapter"] == "first"
        assert claims.stored("second") == {}
        assert claims.verdict_of(2) == "partly"
        assert claims.verdict_of(4) is None

    def test_the_table_has_a_verdict_or_a_reason_for_every_claim(self, book):
        book.chapter("first", ("decide", output(1)))
        book.chapter("second", "nothing()")
        rows = {row["id"]: row for row in claims.table()}
        assert list(rows) == [1, 2, 3, 4]
        assert (rows[1]["verdict"], rows[1]["reason"]) == ("supported", None)
        assert rows[2]["verdict"] is None
        assert rows[2]["reason"] == "The chapter first has not decided it yet."
        assert rows[2]["article"] == "S0, S1"
        assert (rows[3]["verdict"], rows[3]["reason"]) == ("undecidable", "A matter of taste.")

    def test_a_fresh_verdict_counts_before_it_is_stored(self, book):
        book.chapter("first", ("decide", output(1, "partly")))
        fresh = claims.decide(
            1, finding=FINDING, rules={"supported": "x > 1"}, otherwise="partly", x=2
        )
        assert claims.table()[0]["verdict"] == "partly"
        assert claims.table([fresh])[0]["verdict"] == "supported"

    def test_a_chapter_whose_file_is_not_there_has_decided_nothing(self, book):
        book.chapter("first", ("decide", output(1))).unlink()
        assert claims.stored() == {}

    def test_a_chapter_decides_only_what_it_owns(self, book):
        book.chapter("second", ("decide", output(1)))
        with pytest.raises(ValueError, match=r"^second decides claim 1, which first owns$"):
            claims.stored()

    def test_a_claim_with_a_reason_has_no_chapter(self, book):
        book.chapter("second", ("decide", output(3)))
        with pytest.raises(ValueError, match=r"^second decides claim 3, which None owns$"):
            claims.stored()

    def test_a_claim_is_decided_once(self, book):
        book.chapter("first", ("decide", output(1)), ("decide again", output(1, "partly")))
        with pytest.raises(ValueError, match=r"^claim 1 is decided twice in first$"):
            claims.stored()

    def test_a_claim_that_is_no_longer_there_is_named(self, book):
        book.chapter("first", ("decide", output(99)))
        with pytest.raises(ValueError, match=r"^first decides claim 99, not in data/claims.yml$"):
            claims.stored()


class TestFacts:
    def test_a_fact_is_found_by_its_place(self):
        assert claims.fact("reports/open-lag-2025/lag") == 3
        assert claims.fact("reports/price-of-a-level/fall.low") == 9
        assert claims.fact("reports/price-of-a-level/fall.high") == 900

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("reports/mcp-download/monthly", "did you mean 'mcp-downloads'"),
            ("reports/open-lag-2025/leg", "did you mean 'lag'"),
        ],
    )
    def test_a_place_that_is_not_there_comes_with_the_nearest_name(self, place, message):
        with pytest.raises(ValueError, match=message):
            claims.fact(place)

    def test_a_claim_without_facts_cannot_be_decided_by_them(self):
        with pytest.raises(ValueError, match=r"^claim 1 names no facts to decide it by$"):
            claims.decide_by_facts(1)

    def test_a_number_that_the_entry_does_not_ask_for_is_named(self):
        with pytest.raises(ValueError, match=r"^claim 103 has no evidence named lead$"):
            claims.decide_by_facts(103, lead=1)

    @pytest.mark.parametrize(
        ("place", "first", "last"),
        [
            ("neurips-2026/days_after_article", date(2026, 4, 9), date(2026, 12, 6)),
            ("neurips-2026/days_to_deadline", date(2026, 4, 9), date(2026, 5, 4)),
            ("icml-2026/days_after_article", date(2026, 4, 9), date(2026, 7, 6)),
        ],
    )
    def test_days_between_two_dates_are_counted_right(self, place, first, last):
        assert claims.fact(f"reports/{place}") == (last - first).days

    @pytest.mark.parametrize(
        ("number", "moved", "verdict"),
        [
            (46, {"mcp-downloads": {"installations": 1, "months_before": 0}}, "supported"),
            (103, {"open-lag-2026": {"lag": 8}}, "supported"),
            (104, {"open-lag-2026": {"lag": 2}}, "contradicted"),
            (
                115,
                {"model-written-evaluations": {"worse_with_size": 0, "safer_with_size": 2}},
                "supported",
            ),
        ],
    )
    def test_other_facts_would_give_another_verdict(self, monkeypatch, number, moved, verdict):
        assert claims.decide_by_facts(number).verdict != verdict
        rows = [
            row
            | {
                "figures": {
                    n: f | {"value": moved[row["name"]].get(n, f.get("value"))}
                    for n, f in row["figures"].items()
                }
            }
            if row["name"] in moved
            else row
            for row in claims.records.facts("reports")
        ]
        monkeypatch.setattr(claims.records, "facts", lambda stem: rows)
        assert claims.decide_by_facts(number).verdict == verdict


class TestTheLedger:
    def test_claims_are_numbered_from_one_without_a_gap(self):
        assert list(claims.ledger()) == list(range(1, 127))

    @pytest.mark.parametrize("claim", claims.ledger().values(), ids=lambda claim: claim.id)
    def test_a_claim_is_complete(self, claim):
        assert (claim.chapter is None) != (claim.status is None)
        assert claim.status is None or claim.status in claims.GREYS
        assert (claim.reason is None) == (claim.status is None)
        assert (claim.needs is None) == (claim.status != "undecidable")
        assert (claim.searched is None) == (claim.status != "not checked")
        assert claim.until or claim.status != "open"
        assert claim.articles
        assert set(claim.articles) <= claims.articles().keys()
        assert len(set(claim.articles)) == len(claim.articles)
        assert claim.kind in ("arithmetic", "published", "measurement", "rumour", "opinion")
        assert claim.topic in claims.topics()
        assert claim.claim[0].isupper()
        assert claim.claim.endswith(".")
        assert claim.reason is None or len(claim.reason.split()) >= 6

    def test_no_claim_stands_there_twice_and_every_article_makes_some(self):
        texts = Counter(claim.claim for claim in claims.ledger().values())
        assert [text for text, times in texts.items() if times > 1] == []
        makers = Counter(key for claim in claims.ledger().values() for key in claim.articles)
        assert makers.keys() == claims.articles().keys()

    def test_reasons_are_about_their_own_claim(self):
        reasons = Counter(c.reason for c in claims.ledger().values() if c.reason)
        assert [text for text, times in reasons.items() if times > 1] == []

    def test_few_claims_are_left_undecided(self):
        verdict = Counter(row["verdict"] for row in claims.table())
        assert verdict["not checked"] <= 5
        assert verdict["undecidable"] <= 25

    def test_the_table_covers_all_claims(self):
        rows = claims.table()
        assert [row["id"] for row in rows] == list(claims.ledger())
        assert all(row["verdict"] in verdicts.VERDICTS or row["reason"] for row in rows)

    @pytest.mark.parametrize("name", CHAPTERS)
    def test_a_chapter_has_decided_every_claim_that_it_owns(self, name):
        owned = {claim.id for claim in claims.ledger().values() if claim.chapter == name}
        assert claims.stored(name).keys() == owned


@pytest.mark.parametrize("name", CHAPTERS)
class TestStoredVerdicts:
    def test_they_follow_from_the_numbers_stored_with_them(self, name):
        for number, verdict in claims.stored(name).items():
            outcome = verdicts.outcome(verdict["rules"], verdict["otherwise"], verdict["numbers"])
            assert outcome == verdict["verdict"], number
            assert verdict["rules"], f"claim {number}: a verdict without a rule is a typed word"
            assert verdict["numbers"], f"claim {number}: a verdict without a number"

    def test_every_verdict_that_a_rule_names_can_be_reached(self, name):
        for number, verdict in claims.stored(name).items():
            evidence = verdict["evidence"] or claim_ranges(number)
            assert evidence, f"claim {number}: no number says what it could have been"
            assert claim_ranges(number).keys() <= verdict["numbers"].keys(), f"claim {number}"
            named = {outcome for outcome, _ in verdict["rules"]} | {verdict["otherwise"]}
            reached = reachable(
                verdict["rules"], verdict["otherwise"], verdict["numbers"], evidence
            )
            assert named == reached, f"claim {number}: {named - reached}"

    def test_no_claim_fares_worse_and_then_better_as_one_number_grows(self, name):
        """A claim may hold inside a range of values; that it fails only there is a slip."""
        order = ["contradicted", "misleading", "partly", "supported"]
        for number, verdict in claims.stored(name).items():
            rules, otherwise, numbers = (verdict[key] for key in ("rules", "otherwise", "numbers"))
            for about, evidence in (verdict["evidence"] or claim_ranges(number)).items():
                outcomes = [
                    verdicts.outcome(rules, otherwise, {**numbers, about: value})
                    for value in verdicts.points(rules, numbers, evidence)
                ]
                levels = [order.index(outcome) for outcome in outcomes if outcome in order]
                best = levels.index(max(levels)) if levels else 0
                rising, falling = levels[:best], levels[best:]
                assert rising == sorted(rising), f"claim {number}: {about}"
                assert falling == sorted(falling, reverse=True), f"claim {number}: {about}"

    def test_years_and_flags_are_printed_as_such(self, name):
        for number, verdict in claims.stored(name).items():
            for about in verdict["evidence"].values():
                if about["low"] >= 1900 and about["high"] <= 2100:
                    assert about["unit"] == "year", f"claim {number}"
                assert not about["label"].startswith("whether"), f"claim {number}: no statement"

    def test_what_is_measured_may_be_any_number_of_its_range(self, name):
        for number, verdict in claims.stored(name).items():
            for about in verdict["evidence"].values():
                ends = {type(about[end]) for end in ("low", "high")}
                measured = about["unit"] in ("%", "months", "points", "times")
                assert not measured or ends != {int}, f"claim {number}: {about['label']}"

    def test_ranges_hold_the_numbers_that_were_found(self, name):
        for number, verdict in claims.stored(name).items():
            content = {key: verdict[key] for key in ("finding", "otherwise")}
            decision = claims.decide(
                number, rules=dict(verdict["rules"]), **content, **verdict["numbers"]
            )
            assert decision.verdict == verdict["verdict"]

    def test_no_evidence_is_typed_into_the_cell_that_decides(self, name):
        assert list(typed_evidence(paths.chapters()[name])) == []


def claim_ranges(number):
    """The ranges that the ledger states for numbers of a claim, by name."""
    stated = claims.ledger()[number].ranges or {}
    return {name: {"unit": ""} | dict(about) for name, about in stated.items()}


def typed_evidence(file):
    """The evidence in a notebook whose value is a literal, as it stands there."""
    for cell in notebook.read(file)["cells"]:
        if cell["cell_type"] == "code" and "(" in (code := "".join(cell["source"])):
            for call in ast.walk(ast.parse(code)):
                name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
                if name.split(".")[-1] == "Evidence" and is_number(call.args[0]):
                    yield ast.unparse(call)
                if name == "claims.decide" and is_number(call.args[0]):
                    ranged = claim_ranges(call.args[0].value)
                    for word in call.keywords:
                        if word.arg in ranged and is_number(word.value):
                            yield f"claim {call.args[0].value}: {ast.unparse(word)}"


def is_number(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float))


def test_a_literal_in_place_of_evidence_is_found(tmp_path):
    code = (
        "claims.decide(9, rules={}, x=1, y=Evidence(2, 'y', 0, 3), z=claims.Evidence(a, 'z', 0, 1))"
    )
    cells = [{"cell_type": "code", "source": code}]
    file = tmp_path / "chapter.ipynb"
    file.write_text(json.dumps({"cells": cells, "metadata": {}}))
    assert list(typed_evidence(file)) == ["Evidence(2, 'y', 0, 3)"]
