"""Choosing a size: rivals by hand, crossings of made curves, what a request costs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.chapters.figures import right_sizing as figures
from sizewise.chapters.figures import style
from sizewise.chapters.tables import right_sizing
from sizewise.data import records

NAMES = {"ab": "a b", "abc": "a b c"}
LARGE = 5_000


def row(what, model, answers, labels, name="ab", **more):
    """A row as it is recorded, of answers and labels that are words of digits."""
    predicted, real = right_sizing.digits(answers), right_sizing.digits(labels)
    return {
        "what": what,
        "model": model,
        "set": name,
        "labels_used": 8,
        "seed": 0,
        "answers": answers,
        "labels": labels,
        "label_names": NAMES[name],
        "accuracy": float((predicted == real).mean()),
        "parameters": 1_000,
        "cpu_seconds_per_1000": 2.0,
        "calibration": None,
        **more,
    }


def word(values):
    return "".join(str(int(value)) for value in values)


def synthetic(items=120, seed=0, steps=(8, 32, 128), draws=3):
    """One learner that gets better with labels, and two language models, on two sets."""
    rng, rows = np.random.default_rng(seed), []
    for name, kinds in (("ab", 2), ("abc", 3)):
        truth = rng.integers(0, kinds, items)

        def answer(accuracy, truth=truth, kinds=kinds):
            wrong = (truth + 1 + rng.integers(0, kinds - 1, items)) % kinds
            return word(np.where(rng.random(items) < accuracy, truth, wrong))

        for k, step in enumerate(steps):
            rows += [
                row(
                    "probe",
                    "p",
                    answer(0.55 + 0.15 * k),
                    word(truth),
                    name,
                    labels_used=step,
                    seed=draw,
                )
                for draw in range(draws)
            ]
        for model, accuracy in (("small-lm", 0.5), ("large-lm", 0.7)):
            most = items * 2 // 3
            answers, real = answer(accuracy)[:most], word(truth)[:most]
            more = {"labels_used": 0, "parameters": LARGE, "cpu_seconds_per_1000": 40.0}
            rows.append(row("prompted", model, answers, real, name, **more))
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ rivals and scores


def test_the_rival_is_the_best_way_of_asking_and_the_smaller_of_equals():
    table = pd.DataFrame(
        [
            row("prompted", "big", "0101", "0101", parameters=9),
            row("probe", "p", "0101", "0101"),
            row("prompted", "little", "0001", "0101", parameters=3),
            row("prompted", "little", "0101", "0101", parameters=3, calibration="contextual"),
        ]
    )
    rival = right_sizing.rivals(table)["ab"]
    assert (rival["model"], rival["calibration"]) == ("little", "contextual")
    assert right_sizing.rivals(table, "big")["ab"]["model"] == "big"
    with pytest.raises(ValueError, match="unknown language model 'litle'; did you mean 'little'"):
        right_sizing.rivals(table, "litle")


def test_who_read_more_items_is_judged_on_those_that_all_read():
    # of four items p has three right and m one; of the first two p has one and m one
    table = pd.DataFrame(
        [
            row("probe", "p", "0111", "0011"),
            row("prompted", "m", "00", "00", parameters=9),
            row("prompted", "n", "0100", "0011", parameters=3),
            row("probe", "p", "012", "012", "abc"),
        ]
    )
    common = right_sizing.common(table)
    assert common["labels"].tolist() == ["00", "00", "00", "012"]
    assert common["answers"].tolist() == ["01", "00", "01", "012"]
    assert common["accuracy"].tolist() == [0.5, 1.0, 0.5, 1.0]
    assert right_sizing.common(common).equals(common)
    assert right_sizing.curves(table, samples=10)["accuracy"].tolist() == [0.5, 1.0]


def test_the_rival_is_found_on_the_items_that_all_read():
    # m has all of its two right; n two of three, but the same as m on those two
    table = pd.DataFrame(
        [
            row("prompted", "m", "00", "00", parameters=9),
            row("prompted", "n", "001", "000", parameters=3),
        ]
    )
    assert table["accuracy"].tolist() == [1.0, pytest.approx(2 / 3)]
    rival = right_sizing.rivals(table)["ab"]
    assert (rival["model"], rival["accuracy"], rival["answers"]) == ("n", 1.0, "00")


def test_a_curve_is_of_means_over_draws_and_its_intervals_hold_them():
    table = synthetic()
    curves = right_sizing.curves(table, samples=300).set_index(["set", "labels_used"])
    learned = right_sizing.learned(right_sizing.common(table))
    means = learned.groupby(["set", "labels_used"])["accuracy"].mean()
    assert curves["accuracy"].to_dict() == pytest.approx(means.to_dict())
    assert set(curves["draws"]) == {3}
    assert (curves["accuracy_low"] < curves["accuracy"]).all()
    assert (curves["accuracy"] < curves["accuracy_high"]).all()


def test_the_interval_of_one_draw_is_that_of_a_share():
    table = pd.DataFrame([row("probe", "p", "0" * 400, word(np.arange(400) % 2))])
    point = right_sizing.curves(table, samples=2000).iloc[0]
    half = 1.96 * (0.5 * 0.5 / 400) ** 0.5
    assert point["accuracy_high"] - 0.5 == pytest.approx(half, rel=0.1)
    assert 0.5 - point["accuracy_low"] == pytest.approx(half, rel=0.1)


# ------------------------------------------------------------------ crossings


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], 8),  # never below
        ([-0.4, -0.3, -0.2, -0.1], np.inf),
        ([-0.1, 0.1, 0.2, 0.3], 16 / 2**0.5),  # half way between 8 and 16, over logarithms
        ([0.1, -0.1, 0.3, 0.3], 16 * 2**0.25),  # the last time counts
        ([-0.1, 0.0, 0.1, 0.1], 16),
        ([0.0, -1e-17, 0.0, 0.1], 8),  # a sum of shares
    ],
)
def test_crossings_by_hand(gap, expected):
    assert right_sizing.crossing([8, 16, 32, 64], gap) == pytest.approx(expected)


def test_a_learner_that_meets_its_rival_does_so_between_the_right_numbers_of_labels():
    table = synthetic(items=3000)
    crossings = right_sizing.crossings(table, right_sizing.rivals(table), samples=200)
    # right 0.55, 0.7, 0.85 at 8, 32, 128 labels; the rival 0.7
    for crossing in crossings.itertuples():
        assert 20 < crossing.labels < 50
        assert crossing.low <= crossing.labels <= crossing.high
        assert crossing.times == LARGE / 1000
        assert crossing.large_right == pytest.approx(0.7, abs=0.03)


def test_a_learner_that_never_meets_its_rival_has_no_number():
    table = pd.DataFrame(
        [
            *(row("probe", "p", "01" * 20, "0" * 40, labels_used=n) for n in (8, 16)),
            row("prompted", "m", "0" * 40, "0" * 40),
        ]
    )
    result = right_sizing.crossings(table, right_sizing.rivals(table), samples=100).iloc[0]
    assert (result["labels"], result["low"], result["high"]) == (np.inf, np.inf, np.inf)
    assert right_sizing.in_text(result["labels"], result["first"], result["last"]) == "over 16"


def test_answers_to_different_items_are_not_compared():
    table = pd.DataFrame([row("probe", "p", "0011", "0101"), row("prompted", "m", "001", "011")])
    with pytest.raises(ValueError, match="classifiers of ab answered different items"):
        right_sizing.rivals(table)
    with pytest.raises(ValueError, match="classifiers of ab answered different items"):
        right_sizing.crossings(table, {"ab": table.iloc[1]})


def test_a_crossing_is_met_only_where_its_whole_interval_is():
    truth = "0" * 400
    wrong = {n: word(np.arange(400) % 100 >= 100 - n) for n in (30, 50, 70)}  # so many in 100

    def crossing(*shares):
        rows = [
            row("probe", "p", wrong[100 - share], truth, labels_used=8 * 2**k)
            for k, share in enumerate(shares)
        ]
        table = pd.DataFrame([*rows, row("prompted", "m", wrong[50], truth)])
        return right_sizing.crossings(table, right_sizing.rivals(table), samples=200).iloc[0]

    assert crossing(30, 70)["outcome"] == "met"
    assert crossing(30, 30)["outcome"] == "not met"
    opposite = word(1 - right_sizing.digits(wrong[50]))  # as often right, on the other items
    spread = pd.DataFrame(
        [
            row("probe", "p", wrong[50], truth),
            row("probe", "p", opposite, truth, labels_used=16),
            row("prompted", "m", wrong[50], truth),
        ]
    )
    result = right_sizing.crossings(spread, right_sizing.rivals(spread), samples=200).iloc[0]
    assert (result["outcome"], result["low"], result["high"]) == ("open", 8.0, np.inf)


def test_a_crossing_is_written_within_the_numbers_tried():
    assert right_sizing.in_text(np.inf, 8, 1024) == "over 1,024"
    assert right_sizing.in_text(8, 8, 1024) == "8 or fewer"
    assert right_sizing.in_text(99.7, 8, 1024) == "100"


def test_a_rival_is_held_against_the_commonest_label():
    # 60 of 100 have label 0: always answering it is right 60 times
    truth = "0" * 60 + "1" * 40
    good = "0" * 55 + "1" * 45  # 95 right
    table = pd.DataFrame(
        [row("prompted", "m", good, truth), row("prompted", "n", "0" * 60 + "0" * 40, truth, "abc")]
    )
    over = right_sizing.over_commonest(right_sizing.rivals(table))
    assert over["ab"].value == pytest.approx(0.35)
    assert 0.2 < over["ab"].low < 0.35 < over["ab"].high < 0.5
    assert (over["abc"].value, over["abc"].low, over["abc"].high) == (0, 0, 0)


# ------------------------------------------------------------------ costs


def test_a_language_model_is_compared_with_a_constant_answer():
    rows = records.table("classifiers")
    over = right_sizing.over_commonest(right_sizing.rivals(rows))
    assert over["sarcasm"].low < 0 < over["sarcasm"].value
    assert min(over[name].low for name in ("spam", "bbc", "rotten-tomatoes")) > 0
    # The smaller ones, on spam: 61.5 % right at best, and 68 % of the messages are none.
    small = rows[rows["model"] != "qwen2.5-coder-1.5b"]
    over = right_sizing.over_commonest(right_sizing.rivals(small))
    assert over["spam"].value == pytest.approx(0.615 - 0.68)


def test_times_are_those_of_the_rival_over_the_learner_at_the_most_labels_allowed():
    table = synthetic()
    table.loc[table["labels_used"] > 32, "cpu_seconds_per_1000"] = 99.0
    times = right_sizing.seconds(table, right_sizing.rivals(table), "p", 100)
    assert times["seconds"].to_dict() == {"ab": 2.0, "abc": 2.0}
    assert times["times"].to_dict() == {"ab": 20.0, "abc": 20.0}


def test_labels_break_even_by_hand():
    assert right_sizing.break_even(100, 0.2, 0.003, 0.001) == pytest.approx(10_000)
    assert right_sizing.break_even(0, 0.2, 0.003) == 0
    assert right_sizing.break_even(100, 0.2, 0.001, 0.001) == np.inf


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(1e-5, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_at_break_even_both_ways_cost_the_same(labels, price, dear, part):
    cheap = dear * part * 0.99
    requests = right_sizing.break_even(labels, price, dear, cheap)
    assert labels * price + requests * cheap == pytest.approx(requests * dear)


# ------------------------------------------------------------------ nothing recorded, drawing


def test_every_set_and_classifier_is_drawn():
    table = synthetic()
    against = right_sizing.rivals(table)
    curves = right_sizing.curves(table, samples=50)
    grown = style.show(figures.curves, curves, against, "p", caption="what to see")
    assert all(f">{name}<" in grown.svg for name in ("ab", "abc", "best prompted model"))


def test_the_cascade_and_its_bounds_are_drawn():
    cascade = {
        "small": "s",
        "large": "l",
        "small_cost_ratio": 0.1,
        "small_right": 0.5,
        "large_right": 0.6,
        "shares": [0, 0.2, 0.4, 0.6, 0.8, 1],
        "cost_at": [0.1, 0.3, 0.5, 0.7, 0.9, 1.1],
        "right_at": [0.5] * 5 + [0.6],
        "random_at": [0.5] * 5 + [0.6],
        "oracle_at": [0.5] * 5 + [0.6],
    }
    drawn = style.show(figures.cascade, cascade, alt="a", caption="c").svg
    assert all(f">{name}<" in drawn for name in ("s alone", "l alone", "oracle", "at random"))


# ------------------------------------------------------------------ the published study


def test_the_study_is_carried_as_its_abstract_has_it():
    study = next(fact for fact in records.facts("sizing") if fact["name"] == "requirements-by-size")
    values = {name: figure.get("value") for name, figure in study["figures"].items()}
    assert values["recall_ahead"] < values["data_sets"]
    # the summary's means agree with the abstract's rounded difference
    assert int(100 * (values["f1_large"] - values["f1_small"])) == values["f1_lead"]
    for name in ("f1_lead", "recall_ahead", "times_smaller"):
        assert study["figures"][name]["checked"] == "read"


def test_the_spread_of_wordings_is_that_of_plain_questions():
    rows = [
        row("prompted", "m", "0101", "0101", calibration="none", labels_used=0),
        row("prompted", "m", "0000", "0101", calibration="none", labels_used=0, wording=1),
        row("prompted", "m", "1010", "0101", calibration="none", labels_used=4),
        row("prompted", "m", "1010", "0101", calibration="contextual", labels_used=0, wording=1),
        row("prompted", "n", "0101", "0101", calibration="none", labels_used=0),
    ]
    spread = right_sizing.wording_spread(pd.DataFrame(rows))
    assert spread.to_dict() == {("m", "ab"): 50}
