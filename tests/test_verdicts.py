"""Rules over evidence: what they mean, where they flip, which verdicts they can reach."""

import json
import math
import random
from itertools import product

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.chapters import claims, verdicts
from sizewise.chapters.verdicts import Evidence

FINDING = "Counted."
SAMPLES = 20_000  # points of the sweep; enough for each verdict of a rule over six inputs


def reachable(rules, otherwise, numbers, evidence) -> set[str]:
    """The verdicts that occur when the evidence takes its plausible values, the rest fixed."""
    names = list(evidence)
    points = [verdicts.points(rules, numbers, evidence[name]) for name in names]
    if math.prod(map(len, points)) <= SAMPLES:
        choices = product(*points)
    else:
        draw = random.Random(0)  # noqa: S311 - no secret; the same points on every machine
        choices = (tuple(map(draw.choice, points)) for _ in range(SAMPLES))
    return {
        verdicts.outcome(rules, otherwise, {**numbers, **dict(zip(names, values, strict=True))})
        for values in choices
    }


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
            verdict = decide(rules={"supported": rule}, a=a, b=b, c=c).verdict
            assert (verdict == "supported") == bool(meant), rule

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
            "ratio / 0 > 1",
            "",
        ],
    )
    def test_a_rule_that_cannot_be_applied_is_named(self, rule):
        with pytest.raises(ValueError, match="cannot be applied: ") as caught:
            decide(rules={"supported": rule}, ratio=1.5)
        assert repr(rule) in str(caught.value)


class TestNumbers:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf, np.float32("nan")])
    def test_a_number_that_is_not_finite_decides_nothing(self, value):
        with pytest.raises(ValueError, match=r"^claim 2: ratio is .*, not a finite number$"):
            decide(rules={"supported": "ratio > 1"}, ratio=value)

    @pytest.mark.parametrize("value", ["1.5", None])
    def test_what_is_no_number_decides_nothing(self, value):
        with pytest.raises(ValueError, match=r"^claim 2: ratio is .*, not a finite number$"):
            decide(rules={"supported": "ratio > 1"}, ratio=value)

    def test_an_unknown_verdict_comes_with_the_nearest_name(self):
        sentence = r"^unknown verdict 'suported'; did you mean 'supported'\?$"
        with pytest.raises(ValueError, match=sentence):
            decide(rules={"suported": "x > 1"}, x=2)
        with pytest.raises(ValueError, match=sentence):
            decide(otherwise="suported", x=2)

    def test_an_unknown_claim_is_named(self):
        with pytest.raises(ValueError, match=r"^no claim 999 in data/claims.yml$"):
            decide(number=999)

    @pytest.mark.parametrize("value", [-0.1, 1.1])
    def test_evidence_outside_its_own_range_is_refused(self, value):
        with pytest.raises(ValueError, match=r"^claim 2: share is .*, outside 0 to 1$"):
            decide(share=Evidence(value, "a share", 0.0, 1))

    def test_a_range_of_whole_numbers_holds_no_other_value(self):
        with pytest.raises(ValueError, match=r"^claim 2: share is 0.5, not a whole number$"):
            decide(share=Evidence(0.5, "a share", 0, 1))

    def test_numbers_of_any_library_are_stored_as_plain_numbers(self):
        verdict = decide(
            whole=np.int64(8_030_261_248),
            part=np.float32(0.5),
            flag=np.bool_(True),
            cell=pandas.Series([2.5]).max(),
            third=Evidence(1 / 3, "a third", 0.0, 1),
        )
        assert json.loads(json.dumps(verdict.numbers)) == {
            "whole": 8_030_261_248,
            "part": 0.5,
            "flag": 1,
            "cell": 2.5,
            "third": 0.333333333333,
        }


RULES = [("supported", "0.8 <= share"), ("partly", "0.5 <= share and count > 3")]


def weigh(share, count):
    return decide(
        rules=dict(RULES),
        otherwise="contradicted",
        share=Evidence(share, "share of pairs that save", 0.0, 1),
        count=Evidence(count, "number of models", 0, 10, "models"),
    )


class TestFlips:
    def test_a_flip_is_the_nearest_value_that_turns_the_verdict(self):
        flips = weigh(0.7, 5).flips
        assert [flip["name"] for flip in flips] == ["share", "count"]
        assert flips[0]["verdict"] == "supported"
        assert flips[0]["at"] == pytest.approx(0.8, abs=1e-9)
        assert flips[1] == {"name": "count", "at": 3, "side": "below", "verdict": "contradicted"}

    def test_a_measure_that_is_whole_by_chance_turns_between_whole_numbers(self):
        rules, about = [("supported", "x * 2 >= 3")], {"x": {"low": 0.0, "high": 4}}
        (flip,) = verdicts.flips(rules, "partly", {"x": 2}, about)
        assert flip == {"name": "x", "at": 1.5, "side": "below", "verdict": "partly"}

    def test_evidence_that_turns_nothing_alone_has_no_flip(self):
        assert [flip["name"] for flip in weigh(0.9, 2).flips] == ["share"]

    @pytest.mark.parametrize(
        ("rule", "value", "side", "verdict"),
        [
            ("x > 0", -0.02, "above", "supported"),
            ("x <= 0", -0.02, "above", "contradicted"),
            ("x >= 0", 0.02, "below", "contradicted"),
            ("x < 0", 0.02, "below", "supported"),
        ],
    )
    def test_at_nought_the_verdict_is_that_of_the_other_side(self, rule, value, side, verdict):
        about = {"x": {"low": -0.2, "high": 0.2}}
        (flip,) = verdicts.flips([("supported", rule)], "contradicted", {"x": value}, about)
        assert flip == {"name": "x", "at": 0, "side": side, "verdict": verdict}

    @settings(max_examples=60, deadline=None)
    @given(st.floats(0, 1), st.integers(0, 10))
    def test_beyond_every_flip_the_verdict_is_the_one_it_names(self, share, count):
        verdict = weigh(share, count)
        for flip in verdict.flips:
            name, at = flip["name"], flip["at"]
            if isinstance(at, float):  # printed as the limit itself: go a hair beyond it
                at += 1e-9 if flip["side"] == "above" else -1e-9
            moved = verdict.numbers | {name: at}
            assert verdicts.outcome(RULES, "contradicted", moved) == flip["verdict"]

    def test_a_rule_that_cannot_come_out_otherwise_is_found_out(self):
        # As a chapter had it: the smallest ratio of the catalogue is 3.7, the rule asks for 2.
        rules, about = [("supported", "ratio <= 2")], {"low": 3.7, "high": 60.0}
        assert reachable(rules, "partly", {"ratio": 18.0}, {"ratio": about}) == {"partly"}

    def test_reachable_verdicts_are_those_of_the_whole_box(self):
        about = {"share": {"low": 0, "high": 1.0}, "count": {"low": 0, "high": 3}}
        numbers = {"share": 0.1, "count": 1}
        assert reachable(RULES, "contradicted", numbers, about) == {
            "supported",
            "contradicted",
        }
        about["count"]["high"] = 4
        assert "partly" in reachable(RULES, "contradicted", numbers, about)


class TestInWords:
    @pytest.mark.parametrize(
        ("rule", "sentence"),
        [
            ("share >= 0.8", "the share is at least 0.8"),
            ("0.8 <= share / stated <= 1.25", "the share ÷ 5 lies between 0.8 and 1.25"),
            ("2 > share > 1", "the share lies between 1 and 2"),
            ("share > 1 and count == 3", "the share is above 1 and the count is 3 models"),
            (
                "share < 1 or not count > 2",
                "the share is below 1, or not (the count is above 2 models)",
            ),
            ("cost > 1000000", "the cost is above $1M"),
            ("size > 2000000000000", "the size is above 2T"),
            ("share > max(1, count)", "the share is above max of (1, the count)"),
            ("seen == 1 and share > 1", "the seen and the share is above 1"),
            ("seen == 0", "it is not so that the seen"),
            ("True", "always"),
        ],
    )
    def test_a_rule_is_read_as_a_sentence(self, rule, sentence):
        units = {"count": "models", "cost": "$", "size": "params", "seen": "yes/no", "share": ""}
        evidence = {name: {"label": f"the {name}", "unit": unit} for name, unit in units.items()}
        assert verdicts.in_words(rule, {"stated": 5}, evidence) == sentence

    def test_the_card_shows_evidence_rule_and_flip(self):
        verdict = claims.decide(
            2,
            finding="A <finding> & more.",
            rules={"supported": "0.9 <= ratio / stated <= 1.1", "partly": "ratio < 2 * stated"},
            otherwise="contradicted",
            ratio=Evidence(1.2345678, "ratio of the <sizes>", 0.1, 10),
            stated=1,
        )
        bundle = verdict._repr_mimebundle_()
        card = bundle["text/html"]
        assert "Evidence: ratio of the &lt;sizes&gt;: <strong>1.23</strong>." in card
        assert "<em>supported</em> if ratio of the &lt;sizes&gt; ÷ 1 lies between 0.9" in card
        assert "otherwise <em>contradicted</em>" in card
        assert "It would be supported if ratio of the &lt;sizes&gt; went below 1.1." in card
        assert "A &lt;finding&gt; &amp; more." in card
        assert 'id="claim-2"' in card
        assert 'class="sw-verdict sw-verdict--partly"' in card
        assert bundle["text/plain"] == "claim 2: partly. A <finding> & more."
        content = json.loads(json.dumps(bundle[verdicts.MIME], allow_nan=False))
        assert content["rules"] == [list(rule) for rule in verdict.rules]  # order counts
        assert content["numbers"] == {"ratio": 1.2345678, "stated": 1}
        assert content["otherwise"] == "contradicted"
        assert math.isclose(content["flips"][0]["at"], 1.1)


def test_a_limit_at_the_end_of_its_range_is_a_value_and_not_a_side_of_it():
    about = {"label": "share of pairs", "unit": "", "low": 0.0, "high": 1.0}
    flips = [{"name": "share", "at": at, "side": "below", "verdict": "partly"} for at in (0.0, 0.5)]
    assert verdicts.flips_in_words(flips, {"share": about}) == [
        "partly if share of pairs were 0",
        "partly if share of pairs went below 0.5",
    ]
