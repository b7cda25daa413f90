"""Choosing a size: counts by hand, p-values by enumeration, crossings of made curves."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import plots, records
from sizewise.evals import labelled, paired, sizing
from sizewise.figures import sizing as figures

NAMES = {"ab": "a b", "abc": "a b c"}
LARGE = 5_000


def row(what, model, answers, labels, name="ab", **more):
    """A row as it is recorded, of answers and labels that are words of digits."""
    said, real = labelled.digits(answers), labelled.digits(labels)
    return {
        "what": what, "model": model, "set": name, "labels_used": 8, "seed": 0,
        "answers": answers, "labels": labels, "label_names": NAMES[name],
        "accuracy": float((said == real).mean()), "macro_f1": labelled.macro_f1(real, said),
        "parameters": 1_000, "cpu_seconds_per_1000": 2.0, "calibration": None, **more,
    }  # fmt: skip


def word(values):
    return "".join(str(int(one)) for one in values)


def made(items=120, seed=0, steps=(8, 32, 128), draws=3):
    """One learner that gets better with labels, and two language models, on two sets."""
    rng, rows = np.random.default_rng(seed), []
    for name, kinds in (("ab", 2), ("abc", 3)):
        truth = rng.integers(0, kinds, items)

        def said(accuracy, truth=truth, kinds=kinds):
            wrong = (truth + 1 + rng.integers(0, kinds - 1, items)) % kinds
            return word(np.where(rng.random(items) < accuracy, truth, wrong))

        for k, step in enumerate(steps):
            rows += [row("probe", "p", said(0.55 + 0.15 * k), word(truth), name, labels_used=step,
                         seed=draw) for draw in range(draws)]  # fmt: skip
        for model, accuracy in (("small-lm", 0.5), ("large-lm", 0.7)):
            most = items * 2 // 3
            answers, real = said(accuracy)[:most], word(truth)[:most]
            more = {"labels_used": 0, "parameters": LARGE, "cpu_seconds_per_1000": 40.0}
            rows.append(row("prompted", model, answers, real, name, **more))
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ measures


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_measures_are_those_of_the_definitions(pairs):
    said, real = np.array(pairs).T
    found = sizing.measures(sizing.counts(said, real, 3, np.ones((1, len(pairs)))))
    assert found["accuracy"][0] == pytest.approx((said == real).mean())
    assert found["macro_f1"][0] == pytest.approx(labelled.macro_f1(real, said))
    recalls = [(said[real == one] == one).mean() for one in np.unique(real)]
    assert found["macro_recall"][0] == pytest.approx(np.mean(recalls))


def test_a_weight_counts_an_item_as_often():
    said, real = np.array([0, 1, 1]), np.array([0, 0, 1])
    weighed = sizing.counts(said, real, 2, np.array([[2.0, 0.0, 3.0]]))
    repeated = sizing.counts(said[[0, 0, 2, 2, 2]], real[[0, 0, 2, 2, 2]], 2, np.ones((1, 5)))
    assert weighed.tolist() == repeated.tolist()


def test_always_the_same_answer_has_the_mean_recall_of_guessing():
    real = np.repeat([0, 1, 2], [70, 20, 10])
    found = sizing.measures(sizing.counts(np.zeros(100, int), real, 3, np.ones((1, 100))))
    assert found["macro_recall"][0] == pytest.approx(1 / 3)
    assert found["accuracy"][0] == 0.7


# ------------------------------------------------------------------ rivals and scores


def test_the_rival_is_the_best_way_of_asking_and_the_smaller_of_equals():
    table = pd.DataFrame([
        row("prompted", "big", "0101", "0101", parameters=9), row("probe", "p", "0101", "0101"),
        row("prompted", "little", "0001", "0101", parameters=3),
        row("prompted", "little", "0101", "0101", parameters=3, calibration="contextual"),
    ])  # fmt: skip
    found = sizing.rivals(table)["ab"]
    assert (found["model"], found["calibration"]) == ("little", "contextual")
    assert sizing.rivals(table, "big")["ab"]["model"] == "big"
    with pytest.raises(ValueError, match="unknown language model 'litle'; did you mean 'little'"):
        sizing.rivals(table, "litle")


def test_a_learner_is_taken_at_the_most_labels_that_are_allowed():
    found = sizing.at(made(), 100)
    assert set(found["labels_used"]) == {32}
    assert len(found) == 6
    assert len(sizing.at(made(), 4)) == 0


def test_scores_are_means_over_draws_and_intervals_hold_them():
    table = made()
    found = sizing.scores(table, 32, samples=300).set_index(["set", "model"])
    some = table[(table["what"] == "probe") & (table["labels_used"] == 32)]
    for name, part in some.groupby("set"):
        one = found.loc[(name, "p")]
        assert one["accuracy"] == pytest.approx(part["accuracy"].mean())
        assert one["macro_f1"] == pytest.approx(part["macro_f1"].mean())
        assert one["draws"] == 3
    for measure in sizing.MEASURES:
        assert (found[f"{measure}_low"] < found[measure]).all()
        assert (found[measure] < found[f"{measure}_high"]).all()
    assert found.loc[("ab", "large-lm"), "items"] == 80


def test_the_interval_of_one_draw_is_that_of_a_share():
    truth = word(np.arange(400) % 2)
    table = pd.DataFrame([row("prompted", "m", "0" * 400, truth)])
    one = sizing.scores(table, 8).iloc[0]
    half = 1.96 * (0.5 * 0.5 / 400) ** 0.5
    assert one["accuracy_high"] - 0.5 == pytest.approx(half, rel=0.1)
    assert 0.5 - one["accuracy_low"] == pytest.approx(half, rel=0.1)


# ------------------------------------------------------------------ crossings


@pytest.mark.parametrize(("gap", "expected"), [
    ([0.1, 0.2, 0.3, 0.4], 8),  # never below
    ([-0.4, -0.3, -0.2, -0.1], np.inf),
    ([-0.1, 0.1, 0.2, 0.3], 16 / 2**0.5),  # half way between 8 and 16, over logarithms
    ([0.1, -0.1, 0.3, 0.3], 16 * 2**0.25),  # the last time counts
    ([-0.1, 0.0, 0.1, 0.1], 16),
    ([0.0, -1e-17, 0.0, 0.1], 8),  # a sum of shares
])  # fmt: skip
def test_crossings_by_hand(gap, expected):
    assert sizing.crossing([8, 16, 32, 64], gap) == pytest.approx(expected)


def test_a_learner_that_meets_its_rival_does_so_between_the_right_numbers_of_labels():
    table = made(items=3000)
    found = sizing.crossings(table, sizing.rivals(table), samples=200)
    # right 0.55, 0.7, 0.85 at 8, 32, 128 labels; the rival 0.7
    for one in found.itertuples():
        assert 20 < one.labels < 50
        assert one.low <= one.labels <= one.high
        assert one.items == 2000
        assert (one.large, one.times) == ("large-lm", LARGE / 1000)
        assert one.small_right == pytest.approx(0.85, abs=0.03)
        assert one.large_right == pytest.approx(0.7, abs=0.03)


def test_a_learner_that_never_meets_its_rival_has_no_number():
    table = pd.DataFrame([
        *(row("probe", "p", "01" * 20, "0" * 40, labels_used=n) for n in (8, 16)),
        row("prompted", "m", "0" * 40, "0" * 40),
    ])  # fmt: skip
    one = sizing.crossings(table, sizing.rivals(table), samples=100).iloc[0]
    assert (one["labels"], one["low"], one["high"]) == (np.inf, np.inf, np.inf)
    assert sizing.told(one["labels"], one["first"], one["last"]) == "over 16"


def test_answers_to_different_items_are_not_compared():
    table = pd.DataFrame([row("probe", "p", "0011", "0101"), row("prompted", "m", "001", "011")])
    with pytest.raises(ValueError, match="p and m answered different items"):
        sizing.crossings(table, sizing.rivals(table))


def test_a_crossing_is_told_by_what_was_tried():
    assert sizing.told(np.inf, 8, 1024) == "over 1,024"
    assert sizing.told(8, 8, 1024) == "8 or fewer"
    assert sizing.told(99.7, 8, 1024) == "100"


# ------------------------------------------------------------------ small less large


@pytest.mark.parametrize("measure", sizing.MEASURES[1:])
def test_the_p_value_is_that_of_all_exchanges(measure):
    truth = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    small = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    large = np.array([0, 1, 1, 1, 0, 1, 1, 0, 0])

    def apart(a, b):
        once = np.ones((1, len(truth)))
        first, second = (sizing.measures(sizing.counts(x, truth, 2, once))[measure][0]
                         for x in (a, b))  # fmt: skip
        return first - second

    whole = [apart(np.where(flip, large, small), np.where(flip, small, large))
             for flip in product((False, True), repeat=len(truth))]  # fmt: skip
    exact = np.mean(np.abs(whole) >= abs(apart(small, large)) - 1e-12)
    found = sizing._duel(small[None], large, truth, 2, measure, samples=20_000, seed=0)
    assert found["difference"] == pytest.approx(apart(small, large))
    assert found["p"] == pytest.approx(exact, abs=0.012)


def test_duels_find_a_real_difference_and_none_where_there_is_none():
    rng, items = np.random.default_rng(0), 300
    truth = rng.integers(0, 2, items)

    def said(accuracy):
        return word(np.where(rng.random(items) < accuracy, truth, 1 - truth))

    for small, large, expected in ((0.9, 0.6, "small"), (0.6, 0.9, "large"), (0.7, 0.7, "no")):
        table = pd.DataFrame([*(row("probe", "p", said(small), word(truth), seed=k)
                                for k in range(2)),
                              row("prompted", "m", said(large), word(truth))])  # fmt: skip
        found = sizing.duels(table, sizing.rivals(table), "probe", "p", 8, samples=500)
        assert found["measure"].tolist() == ["macro_f1", "macro_recall"]
        assert set(found["found"]) == {expected}
        assert (found["low"] <= found["difference"]).all()
        assert (found["difference"] <= found["high"]).all()


def test_p_values_are_corrected_over_sets_and_measures_together():
    table = made()
    found = sizing.duels(table, sizing.rivals(table), "probe", "p", 32, samples=200)
    assert len(found) == 4
    assert found["p_holm"].tolist() == paired.corrected(found["p"]).tolist()
    assert (found["p"] >= 1 / 201).all()


def test_recall_and_precision_of_each_label_by_hand():
    table = pd.DataFrame([
        row("probe", "p", "0001", "0011"), row("probe", "p", "0011", "0011", seed=1),
        row("prompted", "m", "111", "001"),
    ])  # fmt: skip
    found = sizing.by_label(table, sizing.rivals(table), "probe", "p", 8).set_index("label")
    # the first three items: the draws answer 000 and 001
    assert found["items"].to_dict() == {"a": 2, "b": 1}
    assert found["small_recall"].to_dict() == {"a": 1.0, "b": 0.5}
    assert found["small_precision"].to_dict() == {"a": pytest.approx(4 / 5), "b": 1.0}
    assert found["large_recall"].to_dict() == {"a": 0.0, "b": 1.0}
    assert np.isnan(found.loc["a", "large_precision"])
    assert found.loc["b", "large_precision"] == pytest.approx(1 / 3)


# ------------------------------------------------------------------ costs


def test_costs_are_ratios_of_the_rival_over_the_learner():
    table = made()
    table.loc[len(table)] = row("bag", "tfidf", "01", "01", cpu_seconds_per_1000=None)
    found = sizing.costs(table, sizing.rivals(table), 8).set_index(["set", "model"])
    assert found.loc[("ab", "p"), "times_parameters"] == 5
    assert found.loc[("ab", "p"), "times_seconds"] == 20
    assert np.isnan(found.loc[("ab", "tfidf"), "times_seconds"])


def test_labels_break_even_by_hand():
    assert sizing.break_even(100, 0.2, 0.003, 0.001) == pytest.approx(10_000)
    assert sizing.break_even(0, 0.2, 0.003) == 0
    assert sizing.break_even(100, 0.2, 0.001, 0.001) == np.inf
    with pytest.raises(ValueError, match="the price of a request must be 0 or more, got -1"):
        sizing.break_even(100, 0.2, -1)


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(1e-5, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_at_break_even_both_ways_cost_the_same(labels, price, dear, part):
    cheap = dear * part * 0.99
    requests = sizing.break_even(labels, price, dear, cheap)
    assert labels * price + requests * cheap == pytest.approx(requests * dear)


# ------------------------------------------------------------------ nothing recorded, drawing


def test_without_rows_every_table_is_empty_and_has_its_columns(tmp_path):
    table = sizing.rows(tmp_path / "none.jsonl")
    assert sizing.rivals(table) == {}
    for found, column in (
        (sizing.scores(table, 8), "accuracy_low"), (sizing.curves(table), "labels_used"),
        (sizing.crossings(table, {}), "labels"), (sizing.costs(table, {}, 8), "times_seconds"),
        (sizing.duels(table, {}, "probe", "p", 8), "found"),
        (sizing.by_label(table, {}, "probe", "p", 8), "small_recall"),
    ):  # fmt: skip
        assert len(found) == 0
        assert column in found
    assert {len(part) for part in sizing.kinds(tmp_path / "none.jsonl").values()} == {0}


def test_every_set_and_classifier_is_drawn():
    table = made()
    against = sizing.rivals(table)
    told = {"alt": "what it shows", "caption": "what to see"}
    scored = plots.show(figures.scores, sizing.scores(table, 32, samples=50), **told)
    grown = plots.show(figures.curves, sizing.curves(table, samples=50), against, **told)
    for drawn in (scored.svg, grown.svg):
        assert ">ab<" in drawn
        assert ">abc<" in drawn
        assert ">probe: p<" in drawn
    assert ">prompted: large-lm<" in scored.svg
    assert ">best prompted language model<" in grown.svg
    duels = sizing.duels(table, against, "probe", "p", 32, samples=50)
    assert ">mean recall<" in plots.show(figures.duels, duels, **told).svg


def test_the_cascade_and_its_bounds_are_drawn():
    one = {"small": "s", "large": "l", "small_cost_ratio": 0.1, "small_right": 0.5,
           "large_right": 0.6, "shares": [0, 1], "cost_at": [0.1, 1.1], "right_at": [0.5, 0.6],
           "random_at": [0.5, 0.6], "oracle_at": [0.5, 0.6]}  # fmt: skip
    drawn = plots.show(figures.cascade, one, alt="a", caption="c").svg
    assert all(f">{name}<" in drawn for name in ("s", "l", "oracle", "at random"))
    bins = {"model": "s", "confidence_at": [0.4, 0.9], "right_in_bin": [0.5, 0.6],
            "confidence_at_fitted": [0.5, 0.6], "right_in_bin_fitted": [0.5, 0.6]}  # fmt: skip
    drawn = plots.show(figures.reliability, pd.DataFrame([bins]), alt="a", caption="c").svg
    assert ">s, fitted<" in drawn


# ------------------------------------------------------------------ the published study


def test_the_study_is_carried_as_its_abstract_has_it():
    study = next(one for one in records.facts("sizing") if one["name"] == "requirements-by-size")
    known = {name: one.get("value") for name, one in study["figures"].items()}
    assert known["recall_ahead"] < known["data_sets"]
    # the summary's means agree with the abstract's rounded difference
    assert int(100 * (known["f1_large"] - known["f1_small"])) == known["f1_lead"]
    for name in ("f1_lead", "recall_ahead", "times_smaller"):
        assert study["figures"][name]["checked"] == "read"
